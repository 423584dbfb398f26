//! What follows when nobody of the whole plan is online: the end, or, where the route keeps
//! trying, one interim outcome and the whole plan again later.
//!
//! The interim outcome is remembered byte for byte before it is told, so that whoever goes on
//! after a crash can see whether it was, and repeat exactly it. Desk's own prompt to the user is
//! asked for in the first round only.
//! This file never tells a second interim outcome, and none while a call is in doubt.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::settlement::Settlement;
use super::{Course, InterimOutcome, Step};
use crate::domain::event::{Event, TransferRequest};
use crate::domain::verdict::Verdict;
use crate::domain::wire::outcome::{ConfirmedBy, Message, Outcome, Status};

/// The interim outcome of an event, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Interim {
    /// What is published, to the letter.
    value: String,
    /// When it was written down.
    at: Timestamp,
    /// It is in its topic.
    told: bool,
    /// An earlier life may have told it.
    #[serde(skip)]
    doubtful: bool,
}

impl Interim {
    fn new(outcome: Outcome) -> Self {
        let at = outcome.decided_at;
        let value = outcome.into_interim().to_json();
        Self { value, at, told: false, doubtful: false }
    }

    /// As somebody finds it who goes on with it.
    pub(super) fn remembered(self) -> Self {
        Self { doubtful: !self.told, ..self }
    }

    fn to_tell(&self, event: &Event) -> InterimOutcome {
        let value = self.value.clone().into_bytes();
        let message = Message::of_outcome(event, Status::NoAgentOnline, value);
        InterimOutcome { message, since: self.doubtful.then_some(self.at) }
    }
}

impl Course<'_> {
    /// The interim outcome is in its topic.
    pub fn on_interim_published(&mut self) {
        if let Some(interim) = &mut self.interim {
            interim.told = true;
        }
    }

    /// What is to be told now.
    pub(super) fn to_tell(&self) -> Option<Step> {
        let interim = self.interim.as_ref().filter(|interim| !interim.told)?;
        let doubtful = self.doubt.is_some() || self.unverified;
        (!doubtful).then(|| Step::PublishInterim(Box::new(interim.to_tell(self.event))))
    }

    /// What is asked for in this round.
    pub(super) fn ask(&self) -> Cow<'_, TransferRequest> {
        let own = self.event.request.as_ref().map_or_else(|_| Cow::default(), Cow::Borrowed);
        let mut ask = match self.route {
            Some(route) => Cow::Owned(route.complete(&own)),
            None => own,
        };
        if self.rounds > 0 {
            ask.to_mut().options.send_tip_if_no_agent_online = None;
        }
        ask
    }

    /// Nobody of the whole plan is online.
    pub(super) fn nobody_online(&mut self, verdict: &Verdict, now: Timestamp) {
        let ending =
            |reason| Settlement::new(Status::NoAgentOnline).by(ConfirmedBy::Reply).because(reason);
        let text = verdict.text.clone();
        let Some(wait) = self.route.and_then(|route| route.wait(self.rounds)) else {
            return self.settle(ending(text), now);
        };
        if self.ask().options.end_session_when_no_member_online == Some(true) {
            return self
                .settle(ending(format!("{text}; DeskStatus was asked to end the session")), now);
        }
        let deadline = self.event.deadline;
        if now.saturating_add(wait).is_ok_and(|next| next >= deadline) {
            return self
                .settle(ending(format!("{text}; its deadline comes before the next try")), now);
        }
        if self.interim.is_none() {
            let reason = format!("{text}; asked again until {deadline}");
            self.interim = Some(Interim::new(self.outcome(ending(reason), now)));
        }
        self.rounds += 1;
        self.plan.restart();
        self.stepped = true;
        self.pause = Some(Step::Park(wait));
    }
}
