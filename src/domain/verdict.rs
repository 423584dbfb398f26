//! What a reply means: one class per reply, by the table in `codes`, which the configuration may
//! override.
//!
//! A verdict looks at one reply only. What was tried before, and what follows, is up to
//! [`Course`](super::course::Course).

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::codes::VerdictClass;
use super::codes::{CODES, CodeRow};
use super::reply::{DeskAnswer, DeskStatus, Reply};

/// What becomes of a transient fault that does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfPersistent {
    /// It is retried until the deadline.
    KeepTrying,
    /// The event fails after [`PERMANENT_AFTER_ATTEMPTS`]: an unknown code.
    Fail,
    /// The gate shuts after [`PERMANENT_AFTER_ATTEMPTS`] in a row: a wrong host, path or proxy.
    Misconfigured,
}

/// Attempts after which a fault that may be permanent is treated as permanent.
pub const PERMANENT_AFTER_ATTEMPTS: u32 = 3;

/// What one reply to a transfer means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What the caller acts on.
    pub class: VerdictClass,
    /// The transfer may have happened although this came back.
    pub in_doubt: bool,
    /// For transient faults.
    pub if_persistent: IfPersistent,
    /// The shortest wait before any further call, where Desk names one.
    pub pause: Option<Duration>,
    /// Desk's code; `None` without an answer of Desk.
    pub code: Option<i64>,
    /// One sentence for people.
    pub text: String,
}

impl Verdict {
    /// Throttled because too many signatures were bad; the next call needs a new one.
    pub fn too_many_bad_signatures(&self) -> bool {
        self.code == Some(TOO_MANY_BAD_SIGNATURES)
    }
}

const TOO_MANY_BAD_SIGNATURES: i64 = 70050;
/// Tencent asks for a minute without calls after [`TOO_MANY_BAD_SIGNATURES`].
const BAD_SIGNATURE_PAUSE: Duration = Duration::from_secs(60);

/// A session's state, as Desk names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// It has ended or never existed.
    NotInSession,
    /// The bot still has it.
    Chatbot,
    /// An agent is assigned and has not accepted yet.
    WaitingForAgentAnswering,
    /// It waits in Desk's queue.
    Queueing,
    /// An agent has it.
    Agent,
}

/// What a reply to a state query (`get_session_state`) means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateQueryResult {
    /// The session's state, and its agent if Desk named one.
    State(SessionState, Option<String>),
    /// This deployment has no `get_session_state`; the text is the cause.
    Unsupported(String),
    /// No state this time: throttled, a refused signature, misconfigured or transient.
    Inconclusive(Verdict),
}

impl StateQueryResult {
    /// The word in the metric and the log.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::State(..) => "state",
            Self::Unsupported(_) => "unsupported",
            Self::Inconclusive(verdict) => verdict.class.as_str(),
        }
    }
}

/// The table of codes with the configuration's overrides.
#[derive(Debug, Clone, Default)]
pub struct Verdicts {
    overrides: HashMap<i64, VerdictClass>,
}

impl Verdicts {
    /// The table, but with these classes for these codes.
    pub fn new(overrides: HashMap<i64, VerdictClass>) -> Self {
        Self { overrides }
    }

    /// The meaning of a reply to a transfer.
    pub fn of_transfer(&self, reply: &Reply) -> Verdict {
        match reply {
            Reply::Answer(answer) => self.of_answer(answer),
            Reply::Http { status, retry_after } => of_http(*status, *retry_after),
            Reply::NotSent(text) => verdict(VerdictClass::Transient, text),
            Reply::Lost(text) => {
                Verdict { in_doubt: true, ..verdict(VerdictClass::Transient, text) }
            }
            Reply::Unsigned(text) => verdict(VerdictClass::Misconfigured, text),
        }
    }

    /// The meaning of a reply to a state query.
    pub fn of_state_query(&self, reply: &Reply) -> StateQueryResult {
        match reply {
            Reply::Answer(answer) if answer.desk.code == 0 => match known_state(answer) {
                Some(state) => StateQueryResult::State(state, answer.agent_id.clone()),
                None => StateQueryResult::Inconclusive(verdict(
                    VerdictClass::Transient,
                    "an unknown CurrentState",
                )),
            },
            Reply::Answer(answer) => match answer.desk.code {
                // "No such session" is an error to a transfer, and an answer to a state query.
                141005 | 141006 => StateQueryResult::State(SessionState::NotInSession, None),
                // What Desk says to a path that it does not know.
                60002 | 60009 => StateQueryResult::Unsupported(self.of_answer(answer).text),
                _ => StateQueryResult::Inconclusive(self.of_answer(answer)),
            },
            Reply::Http { status: status @ (404 | 405), .. } => {
                StateQueryResult::Unsupported(format!("HTTP {status}"))
            }
            _ => StateQueryResult::Inconclusive(self.of_transfer(reply)),
        }
    }

    /// A code by which Desk says that nobody is online; `None`: the configuration has given another
    /// meaning to all of them.
    pub fn no_agent_code(&self) -> Option<i64> {
        let codes = CODES.iter().map(|row| row.code);
        let is_no_agent = |code: &i64| {
            let desk = DeskStatus { code: *code, ..DeskStatus::default() };
            let answer = DeskAnswer { desk, ..DeskAnswer::default() };
            self.of_answer(&answer).class == VerdictClass::NoAgent
        };
        codes.chain(self.overrides.keys().copied()).find(is_no_agent)
    }

    fn of_answer(&self, answer: &DeskAnswer) -> Verdict {
        let code = answer.desk.code;
        let row = CODES.binary_search_by_key(&code, |row| row.code).ok().map(|i| CODES[i]);
        let row = row.unwrap_or_else(|| unknown(code));
        let mut class = self.overrides.get(&code).copied().unwrap_or(row.class);
        if class == VerdictClass::Assigned && answer.in_queue {
            class = VerdictClass::Queued;
        }
        // An override is a decision, so its code no longer counts as unknown.
        let known_or_chosen = row.text != UNKNOWN || self.overrides.contains_key(&code);
        Verdict {
            class,
            in_doubt: row.in_doubt && class == VerdictClass::Transient,
            if_persistent: if known_or_chosen {
                IfPersistent::KeepTrying
            } else {
                IfPersistent::Fail
            },
            pause: (code == TOO_MANY_BAD_SIGNATURES).then_some(BAD_SIGNATURE_PAUSE),
            code: Some(code),
            text: sentence(&row, answer),
        }
    }
}

/// A longer `Retry-After` is capped: one call after a minute does no harm, while a pause of hours
/// would let every event expire.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

const UNKNOWN: &str = "unknown code";

/// 1410xx are refusals by Desk itself. Any other unknown code is in doubt, because nothing is known
/// about whether the transfer happened.
fn unknown(code: i64) -> CodeRow {
    let rejected = (141000..=141099).contains(&code);
    let class = if rejected { VerdictClass::Rejected } else { VerdictClass::Transient };
    CodeRow { code, class, in_doubt: !rejected, text: UNKNOWN }
}

fn sentence(row: &CodeRow, answer: &DeskAnswer) -> String {
    match answer.desk.info.as_str() {
        "" => format!("{}: {}", row.code, row.text),
        info => format!("{}: {} ({info})", row.code, row.text),
    }
}

fn of_http(status: u16, retry_after: Option<Duration>) -> Verdict {
    let plain = |class, text: &str| verdict(class, &format!("HTTP {status}: {text}"));
    match status {
        429 => Verdict {
            pause: retry_after.map(|pause| pause.min(MAX_RETRY_AFTER)),
            ..plain(VerdictClass::Throttled, "too many requests")
        },
        200..=299 | 408 | 500..=599 => {
            Verdict { in_doubt: true, ..plain(VerdictClass::Transient, "not an answer of Desk") }
        }
        _ => Verdict {
            if_persistent: IfPersistent::Misconfigured,
            ..plain(VerdictClass::Transient, "check desk.endpoint, desk.region and proxies")
        },
    }
}

fn verdict(class: VerdictClass, text: &str) -> Verdict {
    let text = text.to_owned();
    let if_persistent = IfPersistent::KeepTrying;
    Verdict { class, in_doubt: false, if_persistent, pause: None, code: None, text }
}

fn known_state(answer: &DeskAnswer) -> Option<SessionState> {
    Some(match answer.state.as_deref()? {
        "NotInSession" => SessionState::NotInSession,
        "Chatbot" => SessionState::Chatbot,
        "WaitingForAgentAnswering" => SessionState::WaitingForAgentAnswering,
        "Queueing" => SessionState::Queueing,
        "Agent" => SessionState::Agent,
        _ => return None,
    })
}
