//! What may have happened, and what the answer to a question after it does.
//!
//! A transfer that may have happened, and Desk's "cannot be transferred", both put the course
//! in doubt; the session's state ends it. Where states cannot be asked, a transfer is repeated
//! and what stays unknown is said in the outcome.
//! This file never believes a "cannot be transferred" that could have been asked after.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::settlement::Settlement;
use super::{Assessment, CompletedCall, Course, Moment, Signal, Step};
use crate::domain::verdict::{SessionState, StateQueryResult, Verdict, VerdictClass};
use crate::domain::wire::outcome::{ConfirmedBy, Status};

/// Why the course is in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum InDoubt {
    /// A transfer may have happened.
    Ambiguous,
    /// Desk said "cannot be transferred": perhaps a human has it.
    Occupied,
}

impl Course<'_> {
    /// "Cannot be transferred": ask why.
    pub(super) fn occupied(&mut self, verdict: &Verdict, now: Timestamp) -> Signal {
        match self.cannot_ask.clone() {
            Some(why) => self.settle_unasked(&verdict.text, &why, now),
            None => self.doubt = Some(InDoubt::Occupied),
        }
        Signal::Success
    }

    /// A question came back.
    pub(super) fn questioned(&mut self, call: &CompletedCall, moment: Moment) -> Assessment {
        let finding = self.policy.verdicts.of_state_query(&call.reply);
        let verdict = finding.as_str();
        let signal = match finding {
            StateQueryResult::State(state, agent_id) => {
                self.note_signature(&call.reply, VerdictClass::Assigned);
                self.found(state, agent_id, moment.now);
                Signal::Success
            }
            StateQueryResult::Unsupported(why) => {
                self.give_up_asking(&why, moment.now);
                Signal::StateQueryUnsupported(why)
            }
            StateQueryResult::Inconclusive(verdict) => self.unclear(&verdict, call, moment),
        };
        Assessment { verdict, signal }
    }

    fn unclear(&mut self, verdict: &Verdict, call: &CompletedCall, moment: Moment) -> Signal {
        self.note_signature(&call.reply, verdict.class);
        if let VerdictClass::Throttled | VerdictClass::Resign | VerdictClass::Misconfigured =
            verdict.class
        {
            return self.hindered(verdict, call.begun, moment);
        }
        self.tries.unclear += 1;
        let wait = self.policy.backoff.delay(self.tries.unclear, moment.jitter);
        self.pause = Some(Step::Wait(wait));
        if call.reply.answer().is_some() {
            Signal::Success
        } else if self.is_foreign(verdict) {
            Signal::Misconfigured(verdict.text.clone())
        } else {
            Signal::NoResponse(verdict.text.clone())
        }
    }

    /// Desk told the session's state: the doubt is over.
    fn found(&mut self, state: SessionState, agent_id: Option<String>, now: Timestamp) {
        let Some(doubt) = self.doubt.take() else { return };
        self.tries.unclear = 0;
        let late = now >= self.event.deadline;
        let text = self.last_text();
        let rejected = |why: String| Settlement::new(Status::Rejected).because(why);
        let ending = match (state, doubt) {
            (SessionState::Agent | SessionState::WaitingForAgentAnswering, _) => {
                Settlement::assigned(agent_id)
            }
            (SessionState::Queueing, _) => Settlement::new(Status::Queued),
            (SessionState::Chatbot, InDoubt::Occupied) => {
                rejected(format!("{text}; the bot still has the session"))
            }
            (SessionState::NotInSession, InDoubt::Occupied) => {
                rejected(format!("{text}; the session has ended"))
            }
            (SessionState::NotInSession, InDoubt::Ambiguous) => rejected(
                "the session ended before it could be asked; a transfer may have happened".into(),
            ),
            (SessionState::Chatbot, InDoubt::Ambiguous) if late => {
                let reason = format!("its deadline passed without a transfer; last fault: {text}");
                Settlement::new(Status::Expired).because(reason)
            }
            (SessionState::Chatbot, InDoubt::Ambiguous) => return self.resume(now),
        };
        self.settle(ending.by(ConfirmedBy::SessionState), now);
    }

    fn give_up_asking(&mut self, why: &str, now: Timestamp) {
        self.cannot_ask = Some(why.to_owned());
        match self.doubt.take() {
            None => {}
            Some(InDoubt::Occupied) => self.settle_unasked(&self.last_text(), why, now),
            Some(InDoubt::Ambiguous) => {
                self.unverified = true;
                self.resume(now);
            }
        }
    }

    fn settle_unasked(&mut self, text: &str, why: &str, now: Timestamp) {
        let reason = format!("{text}; whether a human has it cannot be asked here ({why})");
        let ending = Settlement::new(Status::Rejected).by(ConfirmedBy::Reply);
        self.settle(ending.because(reason), now);
    }

    fn last_text(&self) -> String {
        self.last.as_ref().map(|last| last.text.clone()).unwrap_or_default()
    }
}
