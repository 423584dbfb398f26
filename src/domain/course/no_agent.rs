//! What follows when nobody of the whole plan is online.
//!
//! That is the answer, or, where the route keeps trying, one interim outcome; the whole plan is then
//! tried again after each park. The interim outcome is stored byte for byte before it is published:
//! after a crash the topic is searched for exactly these bytes, so it is published once.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::settlement::Settlement;
use super::{Course, InterimOutcome, Policy, Step};
use crate::domain::event::{Event, TransferRequest};
use crate::domain::ledger_entry::RoomName;
use crate::domain::plan::Plan;
use crate::domain::verdict::Verdict;
use crate::domain::wire::Message;
use crate::domain::wire::outcome::{ConfirmedBy, Outcome, Status};
use crate::domain::wire::outcome_format::{FormattedOutcome, OutcomeFormat};

/// The interim outcome of an event, as the ledger stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Interim {
    /// The value of the record, byte for byte: another form of outcomes may be configured since.
    #[serde(flatten)]
    formatted: FormattedOutcome,
    decided_at: Timestamp,
    published: bool,
    /// A previous incarnation may have published it without storing that it did.
    #[serde(skip)]
    maybe_published: bool,
}

impl Interim {
    fn new(event: &Event, outcome: Outcome, format: &OutcomeFormat) -> Self {
        let decided_at = outcome.decided_at;
        let formatted = format.write(event, outcome.into_interim().to_json());
        Self { formatted, decided_at, published: false, maybe_published: false }
    }

    pub(super) fn restored(self) -> Self {
        Self { maybe_published: !self.published, ..self }
    }

    fn to_publish(&self, event: &Event) -> InterimOutcome {
        let message = Message::of_outcome(event, Status::NoAgentOnline, self.formatted.clone());
        InterimOutcome { message, since: self.maybe_published.then_some(self.decided_at) }
    }
}

/// What an event will need, as far as it can be seen before its course begins.
#[derive(Debug, Default)]
pub struct Needs {
    /// Its waiting room: the name of its plan. `None`: it does not wait for an agent.
    pub room: Option<RoomName>,
    /// Whether Desk is called.
    pub call: bool,
}

/// What an event will need if its course begins now.
pub fn needs(event: &Event, policy: &Policy, now: Timestamp) -> Needs {
    let Ok(request) = &event.request else { return Needs::default() };
    let route = policy.routes.find(request, now).route;
    let keeps_trying = route.is_some_and(|route| route.retry_wait(0).is_some());
    let plan = || Plan::new(&request.requested_target, route, policy.default_target);
    Needs {
        room: keeps_trying.then(|| plan().name().into()),
        call: route.is_none_or(|route| route.closed(now).is_none()),
    }
}

impl Course<'_> {
    /// The interim outcome is in its topic.
    pub fn on_interim_published(&mut self) {
        if let Some(interim) = &mut self.interim {
            interim.published = true;
        }
    }

    /// Whether the event may wait in this room: its route may be another one than when it was read.
    pub fn may_wait_in(&self, room: &RoomName) -> bool {
        *self.plan.name() == **room
    }

    pub(super) fn unpublished_interim(&self) -> Option<Step> {
        let format = &self.policy.outcome_format;
        let interim = self.interim.as_ref().filter(|interim| !interim.published)?;
        // In doubt, a human may have the session by now: "nobody is online" could be untrue.
        let in_doubt = self.in_doubt.is_some() || self.effect_unknown;
        (!in_doubt && format.has_interim())
            .then(|| Step::PublishInterim(Box::new(interim.to_publish(self.event))))
    }

    /// Announce that another outcome follows, unless that was announced or the form of outcomes has
    /// none that is not final.
    pub(super) fn announce(&mut self, settlement: Settlement, now: Timestamp) {
        let format = &self.policy.outcome_format;
        if self.interim.is_none() && format.has_interim() {
            let outcome = self.outcome(settlement, now);
            self.interim = Some(Interim::new(self.event, outcome, format));
        }
    }

    /// The event's request, completed by its route.
    pub(super) fn effective_request(&self) -> Cow<'_, TransferRequest> {
        let own = self.event.request.as_ref().map_or_else(|_| Cow::default(), Cow::Borrowed);
        let mut request = match self.route {
            Some(route) => Cow::Owned(route.complete(&own)),
            None => own,
        };
        // Desk would prompt the user again at each retry.
        if self.plan_retries > 0 {
            request.to_mut().options.send_tip_if_no_agent_online = None;
        }
        request
    }

    pub(super) fn on_nobody_online(&mut self, verdict: &Verdict, now: Timestamp) {
        let text = &verdict.text;
        let Some(wait) = self.route.and_then(|route| route.retry_wait(self.plan_retries)) else {
            return self.settle(no_agent_online(text.clone()), now);
        };
        if self.effective_request().options.end_session_when_no_member_online == Some(true) {
            let reason = format!("{text}; Desk was asked to end the session");
            return self.settle(no_agent_online(reason), now);
        }
        let deadline = self.deadline();
        if now.saturating_add(wait).is_ok_and(|next| next >= deadline) {
            let reason = format!("{text}; the deadline comes before the next attempt");
            return self.settle(no_agent_online(reason), now);
        }
        let reason = format!("{text}; retried until {deadline}");
        self.announce(no_agent_online(reason), now);
        self.plan_retries += 1;
        self.plan.restart();
        self.target_untried = true;
        self.pause = Some(Step::AwaitAgent(wait));
    }
}

fn no_agent_online(reason: String) -> Settlement {
    Settlement::new(Status::NoAgentOnline).confirmed_by(ConfirmedBy::Reply).because(reason)
}
