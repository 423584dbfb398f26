//! Which outcome the deadline brings.
//!
//! A course in doubt goes on for the grace period after its deadline, with state queries only. What is
//! known at its end decides; an unknown effect makes the outcome `failed` and its reason says so.
//! An event that an operator gives up ends the same way, but always as `failed`.

use jiff::Timestamp;

use super::Course;
use super::in_doubt::InDoubt;
use super::settlement::Settlement;
use crate::domain::ledger_entry::GivenUp;
use crate::domain::verdict::VerdictClass;
use crate::domain::wire::outcome::{ConfirmedBy, Status};

impl Course<'_> {
    /// Settle the course if its time is over.
    pub(super) fn check_deadline(&mut self, now: Timestamp) {
        if self.settled.is_none() && now >= self.gives_up_at() {
            let settlement = self.at_deadline();
            self.settle(settlement, now);
        }
    }

    fn at_deadline(&self) -> Settlement {
        if let Some(given_up) = &self.given_up {
            return self.at_give_up(given_up);
        }
        let Some(last) = &self.last_verdict else {
            let reason = "the deadline passed before Desk was called";
            return Settlement::new(Status::Expired).because(reason);
        };
        let failed = |what: &str| {
            let reason = format!("the deadline passed; {what}; last fault: {}", last.text);
            Settlement::new(Status::Failed).because(reason)
        };
        match self.in_doubt {
            Some(InDoubt::Ambiguous) => failed("the effect of the last call is unknown"),
            Some(InDoubt::Occupied) => {
                failed("the effect is unknown: whether a human has it could not be asked")
            }
            None if self.effect_unknown => {
                let cause = self.state_query_unsupported.as_deref().unwrap_or_default();
                failed(&format!(
                    "the effect of a call is unknown and cannot be asked here ({cause})"
                ))
            }
            // Desk answered the request: nobody was online. That is no fault.
            None if last.class == VerdictClass::NoAgent => {
                let settlement = Settlement::new(Status::NoAgentOnline);
                settlement.confirmed_by(ConfirmedBy::Reply).because(&last.text)
            }
            None => {
                let reason = format!("the deadline passed; last fault: {}", last.text);
                Settlement::new(Status::Failed).because(reason)
            }
        }
    }

    fn at_give_up(&self, given_up: &GivenUp) -> Settlement {
        let effect = if self.in_doubt.is_some() || self.effect_unknown {
            "; the effect of the last call is unknown"
        } else {
            ""
        };
        let last = match &self.last_verdict {
            Some(last) => format!("; last: {}", last.text),
            None => "; Desk was not called".into(),
        };
        Settlement::new(Status::Failed).because(format!("{}{effect}{last}", words(given_up)))
    }

    /// The transfer in doubt had no effect, and there is no time for another one.
    pub(super) fn without_transfer(&self, last_fault: &str) -> Settlement {
        let (status, why) = match &self.given_up {
            Some(given_up) => (Status::Failed, words(given_up)),
            None => (Status::Expired, "the deadline passed without a transfer".into()),
        };
        Settlement::new(status).because(format!("{why}; last fault: {last_fault}"))
    }
}

fn words(GivenUp { by, reason, .. }: &GivenUp) -> String {
    format!("given up by {by}: {reason}")
}
