//! The number of parked events of one kind in one partition, which is for people only.
//!
//! It changes at once with each event that is parked or started here. Those that an earlier owner had
//! parked are counted in the background, and added when their number is there. Events that are
//! started while they are counted can make it too low, and so can an operator who takes one out of its
//! waiting room; it is right again when it reaches 0.

/// Number of parked events of one partition that wait in no room.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) time: EventCount,
    pub(super) session: EventCount,
}

/// How many events are parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EventCount {
    /// Negative while it is not complete, if more were started than parked.
    events: i64,
    is_complete: bool,
}

impl Default for EventCount {
    /// An earlier owner has parked none.
    fn default() -> Self {
        Self { events: 0, is_complete: true }
    }
}

impl EventCount {
    /// An earlier owner has parked some; see [`Self::complete`].
    pub(super) fn unknown() -> Self {
        Self { events: 0, is_complete: false }
    }

    /// The events of earlier owners were counted.
    pub(super) fn complete(&mut self, events: u64) {
        if !self.is_complete {
            let events = i64::try_from(events).unwrap_or(i64::MAX);
            *self = Self { events: self.events.saturating_add(events).max(0), is_complete: true };
        }
    }

    pub(super) fn parked(&mut self) {
        self.events += 1;
    }

    pub(super) fn started(&mut self) {
        self.events -= 1;
        if self.is_complete {
            self.events = self.events.max(0);
        }
    }

    /// As far as it is known.
    pub(super) fn events(&self) -> u64 {
        u64::try_from(self.events).unwrap_or(0)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Whether there may be any.
    pub(super) fn may_be_any(&self) -> bool {
        !self.is_complete || self.events > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_earlier_owners_are_added_when_they_are_counted() {
        let mut count = EventCount::unknown();
        assert!(count.may_be_any());
        count.started();
        count.started();
        assert_eq!((count.events(), count.is_complete()), (0, false));
        count.parked();
        count.complete(10);
        count.complete(10);
        assert_eq!((count.events(), count.is_complete()), (9, true));
    }

    #[test]
    fn a_count_that_was_too_low_is_right_again_at_zero() {
        let mut count = EventCount::unknown();
        count.started();
        count.complete(0);
        count.started();
        assert!(!count.may_be_any());
        count.parked();
        assert_eq!(count.events(), 1);
    }
}
