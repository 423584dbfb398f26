//! What a reply means: one class per reply, by a table that configuration may override.
//!
//! A verdict keeps what came back verbatim and says whether the transfer may have happened
//! although it failed. This file never knows what was tried before; `course` does.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::codes::VerdictClass;
use super::codes::{CODES, Row};
use super::reply::{DeskAnswer, Reply};

/// What becomes of a transient fault that stays, after `FEW_TRIES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfPersistent {
    /// Goes on until the deadline.
    KeepTrying,
    /// Final: an unknown code.
    Fail,
    /// A wrong host, path or proxy.
    Misconfigured,
}

/// How often a fault that is probably final is tried.
pub const FEW_TRIES: u32 = 3;

/// What one reply to a transfer means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The class.
    pub class: VerdictClass,
    /// The transfer may have happened although this came back.
    pub in_doubt: bool,
    /// What becomes of it if it stays.
    pub if_persistent: IfPersistent,
    /// Wait at least so long before anything else is called.
    pub pause: Option<Duration>,
    /// The code, where Desk answered.
    pub code: Option<i64>,
    /// One sentence for people.
    pub text: String,
}

impl Verdict {
    /// "Too fast" because signatures failed too often: the next one must be a new one.
    pub fn signature_failed(&self) -> bool {
        self.code == Some(SIGNATURES_FAILED)
    }
}

/// Too many signatures failed; Tencent asks for a minute of silence.
const SIGNATURES_FAILED: i64 = 70050;

/// A session's state, as Desk names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// Ended, or never existed.
    NotInSession,
    /// The bot still has it.
    Chatbot,
    /// An agent was found and has not accepted yet.
    WaitingForAgentAnswering,
    /// Waits in the queue.
    Queueing,
    /// An agent has it.
    Agent,
}

/// What a reply to a question (`get_session_state`) means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateQueryResult {
    /// Desk told the state, and the agent where there is one.
    State(SessionState, Option<String>),
    /// The question cannot be asked here, ever.
    Unsupported(String),
    /// No state this time: throttled, to be signed again, misconfigured, or just try again.
    Inconclusive(Verdict),
}

impl StateQueryResult {
    /// The word in the metric.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::State(..) => "state",
            Self::Unsupported(_) => "cannot_ask",
            Self::Inconclusive(verdict) => verdict.class.as_str(),
        }
    }
}

/// The table, with the configuration's overrides.
#[derive(Debug, Clone, Default)]
pub struct Verdicts {
    overrides: HashMap<i64, VerdictClass>,
}

impl Verdicts {
    /// The table with these codes classified otherwise.
    pub fn new(overrides: HashMap<i64, VerdictClass>) -> Self {
        Self { overrides }
    }

    /// Judge the reply to a transfer.
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

    /// Judge the reply to a question.
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
                141005 | 141006 => StateQueryResult::State(SessionState::NotInSession, None),
                60002 | 60009 => StateQueryResult::Unsupported(self.of_answer(answer).text),
                _ => StateQueryResult::Inconclusive(self.of_answer(answer)),
            },
            Reply::Http { status: status @ (404 | 405), .. } => {
                StateQueryResult::Unsupported(format!("HTTP {status}"))
            }
            _ => StateQueryResult::Inconclusive(self.of_transfer(reply)),
        }
    }

    fn of_answer(&self, answer: &DeskAnswer) -> Verdict {
        let code = answer.desk.code;
        let row = CODES.binary_search_by_key(&code, |row| row.code).ok().map(|i| CODES[i]);
        let row = row.unwrap_or_else(|| unknown(code));
        let mut class = self.overrides.get(&code).copied().unwrap_or(row.class);
        if class == VerdictClass::Assigned && answer.in_queue {
            class = VerdictClass::Queued;
        }
        let known_or_chosen = row.text != UNKNOWN || self.overrides.contains_key(&code);
        Verdict {
            class,
            in_doubt: row.in_doubt && class == VerdictClass::Transient,
            if_persistent: if known_or_chosen {
                IfPersistent::KeepTrying
            } else {
                IfPersistent::Fail
            },
            pause: (code == SIGNATURES_FAILED).then_some(Duration::from_secs(60)),
            code: Some(code),
            text: sentence(&row, answer),
        }
    }
}

/// A longer `Retry-After` is not believed: one call more after this does no harm.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

const UNKNOWN: &str = "unknown code";

/// 1410xx are Desk's own refusals; others are tried a few times, asking in between, because
/// nobody knows whether the transfer happened.
fn unknown(code: i64) -> Row {
    let rejected = (141000..=141099).contains(&code);
    let class = if rejected { VerdictClass::Rejected } else { VerdictClass::Transient };
    Row { code, class, in_doubt: !rejected, text: UNKNOWN }
}

fn sentence(row: &Row, answer: &DeskAnswer) -> String {
    match answer.desk.info.as_str() {
        "" => format!("{}: {}", row.code, row.text),
        info => format!("{}: {} ({info})", row.code, row.text),
    }
}

fn of_http(status: u16, retry_after: Option<Duration>) -> Verdict {
    let plain = |class, text: &str| verdict(class, &format!("HTTP {status}: {text}"));
    match status {
        429 => Verdict {
            pause: retry_after.map(|pause| pause.min(LONGEST_PAUSE)),
            ..plain(VerdictClass::Throttled, "too many requests")
        },
        200..=299 | 408 | 500..=599 => Verdict {
            in_doubt: true,
            ..plain(VerdictClass::Transient, "not an answer of DeskStatus")
        },
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
