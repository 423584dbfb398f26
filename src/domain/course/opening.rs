//! What follows outside the hours of a route.
//!
//! They are looked at before each transfer, because hours may end while an event waits. Either the
//! event is answered at once, or one interim outcome says when the route opens, and the event is parked
//! until then. A call in doubt is reconciled first: outside the hours, too.

use jiff::Timestamp;

use super::settlement::Settlement;
use super::{Course, Step};
use crate::domain::route::{Opening, OutsideHours};
use crate::domain::verdict::VerdictClass;
use crate::domain::wire::outcome::{ConfirmedBy, Status};

impl Course<'_> {
    /// Whether the call of the last step may still be made: its time may be over, or its route closed,
    /// since.
    pub fn may_call(&self, now: Timestamp) -> bool {
        now < self.gives_up_at() && (self.in_doubt() || self.closed(now).is_none())
    }

    /// The hours of the route, if they are closed now.
    pub(super) fn closed(&self, now: Timestamp) -> Option<&Opening> {
        self.route.and_then(|route| route.closed(now))
    }

    /// Answer or park the event, whose route is closed now.
    pub(super) fn on_closed(&mut self, opening: &Opening, now: Timestamp) {
        let (name, deadline) = (&opening.hours.name, self.event.deadline);
        if self.effect_unknown {
            // "Nobody is there" could be untrue.
            let reason = format!("outside the hours {name:?}; the effect of a call is unknown");
            return self.settle(Settlement::new(Status::Failed).because(reason), now);
        }
        let opens_at = opening.hours.opens_at(now);
        let until = match (opening.outside, opens_at) {
            (OutsideHours::ParkUntilOpen, Some(opens_at)) if opens_at < deadline => opens_at,
            (OutsideHours::ParkUntilOpen, _) => {
                let reason =
                    format!("outside the hours {name:?}; the deadline comes before they begin");
                return self.settle(self.closed_outcome(reason, opens_at), now);
            }
            (OutsideHours::Answer, _) => {
                let reason = format!("outside the hours {name:?}");
                return self.settle(self.closed_outcome(reason, opens_at), now);
            }
        };
        let reason = format!("outside the hours {name:?}; parked until they begin");
        self.announce(self.closed_outcome(reason, Some(until)), now);
        self.closed_until = Some(until);
        let wait = until.duration_since(now).try_into().unwrap_or_default();
        self.pause = Some(Step::Park(wait));
    }

    fn closed_outcome(&self, reason: String, opens_at: Option<Timestamp>) -> Settlement {
        let settlement =
            Settlement::new(Status::NoAgentOnline).because(reason).opening_at(opens_at);
        match &self.last_verdict {
            Some(last) if last.class == VerdictClass::NoAgent => {
                settlement.confirmed_by(ConfirmedBy::Reply)
            }
            _ => settlement,
        }
    }
}
