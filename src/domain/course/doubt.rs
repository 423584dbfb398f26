//! What may have happened, and what the answer to a question after it does.
//!
//! A transfer that may have happened, and Desk's "cannot be transferred", both put the course
//! in doubt; the session's state ends it. Where states cannot be asked, a transfer is repeated
//! and what stays unknown is said in the outcome.
//! This file never believes a "cannot be transferred" that could have been asked after.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ending::Ending;
use super::{Call, Course, Heard, Moment, Notice, Step};
use crate::domain::outcome::{ConfirmedBy, Status};
use crate::domain::verdict::{Class, Finding, SessionState, Verdict};

/// Why the course is in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Doubt {
    /// A transfer may have happened.
    Ambiguous,
    /// Desk said "cannot be transferred": perhaps a human has it.
    Occupied,
}

impl Course<'_> {
    /// "Cannot be transferred": ask why.
    pub(super) fn occupied(&mut self, verdict: &Verdict, now: Timestamp) -> Notice {
        match self.cannot_ask.clone() {
            Some(why) => self.settle_unasked(&verdict.text, &why, now),
            None => self.doubt = Some(Doubt::Occupied),
        }
        Notice::Fine
    }

    /// A question came back.
    pub(super) fn questioned(&mut self, call: &Call, moment: Moment) -> Heard {
        let finding = self.policy.verdicts.of_question(&call.reply);
        let verdict = finding.as_str();
        let notice = match finding {
            Finding::State(state, agent_id) => {
                self.note_signature(&call.reply, Class::Assigned);
                self.found(state, agent_id, moment.now);
                Notice::Fine
            }
            Finding::CannotAsk(why) => {
                self.give_up_asking(&why, moment.now);
                Notice::CannotAsk(why)
            }
            Finding::Unclear(verdict) => self.unclear(&verdict, call, moment),
        };
        Heard { verdict, notice }
    }

    fn unclear(&mut self, verdict: &Verdict, call: &Call, moment: Moment) -> Notice {
        self.note_signature(&call.reply, verdict.class);
        if let Class::Throttled | Class::Resign | Class::Misconfigured = verdict.class {
            return self.hindered(verdict, call.begun, moment);
        }
        self.tries.unclear += 1;
        let wait = self.policy.backoff.delay(self.tries.unclear, moment.jitter);
        self.pause = Some(Step::Wait(wait));
        if call.reply.answer().is_some() {
            Notice::Fine
        } else if self.is_foreign(verdict) {
            Notice::Closed(verdict.text.clone())
        } else {
            Notice::Silent(verdict.text.clone())
        }
    }

    /// Desk told the session's state: the doubt is over.
    fn found(&mut self, state: SessionState, agent_id: Option<String>, now: Timestamp) {
        let Some(doubt) = self.doubt.take() else { return };
        self.tries.unclear = 0;
        let late = now >= self.event.deadline;
        let text = self.last_text();
        let rejected = |why: String| Ending::new(Status::Rejected).because(why);
        let ending = match (state, doubt) {
            (SessionState::Agent | SessionState::WaitingForAgentAnswering, _) => {
                Ending::assigned(agent_id)
            }
            (SessionState::Queueing, _) => Ending::new(Status::Queued),
            (SessionState::Chatbot, Doubt::Occupied) => {
                rejected(format!("{text}; the bot still has the session"))
            }
            (SessionState::NotInSession, Doubt::Occupied) => {
                rejected(format!("{text}; the session has ended"))
            }
            (SessionState::NotInSession, Doubt::Ambiguous) => rejected(
                "the session ended before it could be asked; a transfer may have happened".into(),
            ),
            (SessionState::Chatbot, Doubt::Ambiguous) if late => {
                let reason = format!("its deadline passed without a transfer; last fault: {text}");
                Ending::new(Status::Expired).because(reason)
            }
            (SessionState::Chatbot, Doubt::Ambiguous) => return self.resume(now),
        };
        self.settle(ending.by(ConfirmedBy::SessionState), now);
    }

    fn give_up_asking(&mut self, why: &str, now: Timestamp) {
        self.cannot_ask = Some(why.to_owned());
        match self.doubt.take() {
            None => {}
            Some(Doubt::Occupied) => self.settle_unasked(&self.last_text(), why, now),
            Some(Doubt::Ambiguous) => {
                self.unverified = true;
                self.resume(now);
            }
        }
    }

    fn settle_unasked(&mut self, text: &str, why: &str, now: Timestamp) {
        let reason = format!("{text}; whether a human has it cannot be asked here ({why})");
        let ending = Ending::new(Status::Rejected).by(ConfirmedBy::Reply);
        self.settle(ending.because(reason), now);
    }

    fn last_text(&self) -> String {
        self.last.as_ref().map(|last| last.text.clone()).unwrap_or_default()
    }
}
