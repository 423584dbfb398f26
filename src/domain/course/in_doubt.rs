//! Calls that may have taken effect, and how the session's state reconciles them.
//!
//! A transfer whose answer was lost and Desk's "cannot be transferred" both put the course in doubt;
//! the answer to a state query ends it, by the table in [`Course::on_state`]. Some deployments have no
//! `get_session_state`: there the transfer is repeated, and the outcome says that the effect of the
//! first one is unknown.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::settlement::Settlement;
use super::{Assessment, CompletedCall, Course, Signal, Step};
use crate::domain::verdict::{IfPersistent, SessionState, StateQueryResult, Verdict, VerdictClass};
use crate::domain::wire::outcome::{ConfirmedBy, Status};

/// Why a course is in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum InDoubt {
    /// The reply does not say whether the transfer happened.
    Ambiguous,
    /// Desk said "cannot be transferred", perhaps because a human has the session already.
    Occupied,
}

impl Course<'_> {
    pub(super) fn on_occupied(&mut self, verdict: &Verdict, now: Timestamp) -> Signal {
        match self.state_query_unsupported.clone() {
            Some(cause) => self.settle_occupied_unqueried(&verdict.text, &cause, now),
            None => self.in_doubt = Some(InDoubt::Occupied),
        }
        Signal::Success
    }

    /// Take in the reply to a state query.
    pub(super) fn on_state_reply(&mut self, call: &CompletedCall, jitter: f64) -> Assessment {
        let result = self.policy.verdicts.of_state_query(&call.reply);
        let verdict = result.as_str();
        let signal = match result {
            StateQueryResult::State(state, agent_id) => {
                self.record_signature_result(&call.reply, VerdictClass::Assigned);
                self.on_state(state, agent_id, call.finished_at);
                Signal::Success
            }
            StateQueryResult::Unsupported(cause) => {
                self.on_state_query_unsupported(&cause, call.finished_at);
                Signal::StateQueryUnsupported(cause)
            }
            StateQueryResult::Inconclusive(verdict) => self.on_inconclusive(&verdict, call, jitter),
        };
        Assessment { verdict, in_doubt: false, signal }
    }

    fn on_inconclusive(&mut self, verdict: &Verdict, call: &CompletedCall, jitter: f64) -> Signal {
        self.record_signature_result(&call.reply, verdict.class);
        if verdict.class.concerns_all_events() {
            return self.on_fault_for_all(verdict, call, jitter);
        }
        // A state query changes nothing in Desk, so it is repeated without a bound but the grace
        // period.
        self.attempts.inconclusive_queries += 1;
        let wait = self.policy.retry.backoff.delay(self.attempts.inconclusive_queries, jitter);
        self.pause = Some(Step::Wait(wait));
        if call.reply.answer().is_some() {
            Signal::Success
        } else if self.attempts.is_misrouted(verdict) {
            Signal::Misconfigured(verdict.text.clone())
        } else if verdict.if_persistent == IfPersistent::Misconfigured {
            Signal::Misrouted(verdict.text.clone())
        } else {
            Signal::NoResponse(verdict.text.clone())
        }
    }

    /// The session's state ends the doubt.
    fn on_state(&mut self, state: SessionState, agent_id: Option<String>, now: Timestamp) {
        let Some(doubt) = self.in_doubt.take() else { return };
        self.attempts.inconclusive_queries = 0;
        let past_deadline = now >= self.deadline();
        let text = self.last_text();
        let rejected = |reason: String| Settlement::new(Status::Rejected).because(reason);
        let settlement = match (state, doubt) {
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
                "the session ended before its state could be queried; a transfer may have happened"
                    .into(),
            ),
            (SessionState::Chatbot, InDoubt::Ambiguous) if past_deadline => {
                self.without_transfer(&text)
            }
            // The transfer had no effect: go on as if the reply had said so.
            (SessionState::Chatbot, InDoubt::Ambiguous) => {
                return self.perform_deferred_action(now);
            }
        };
        self.settle(settlement.confirmed_by(ConfirmedBy::SessionState), now);
    }

    fn on_state_query_unsupported(&mut self, cause: &str, now: Timestamp) {
        self.state_query_unsupported = Some(cause.to_owned());
        match self.in_doubt.take() {
            None => {}
            Some(InDoubt::Occupied) => {
                self.settle_occupied_unqueried(&self.last_text(), cause, now);
            }
            Some(InDoubt::Ambiguous) => {
                self.effect_unknown = true;
                self.perform_deferred_action(now);
            }
        }
    }

    fn settle_occupied_unqueried(&mut self, text: &str, cause: &str, now: Timestamp) {
        let reason = format!("{text}; whether a human has it cannot be asked here ({cause})");
        let settlement = Settlement::new(Status::Rejected).confirmed_by(ConfirmedBy::Reply);
        self.settle(settlement.because(reason), now);
    }

    fn last_text(&self) -> String {
        self.last_verdict.as_ref().map(|verdict| verdict.text.clone()).unwrap_or_default()
    }
}
