//! What the log says of records that are skipped: the first one of each kind, with its remedy, so that a
//! whole topic is never skipped in silence; and those that repeat an escalation of their session.

use std::borrow::Cow;
use std::collections::HashSet;

use tracing::info;

use crate::domain::event::Event;
use crate::domain::record::Position;
use crate::domain::wire::reading::{Skip, SkipReason};
use crate::telemetry::LoggedId;
use crate::telemetry::log_throttle::{LogThrottle, info_throttled};

/// Kinds of one reason that are logged. The words of a kind may come from records, so their number is
/// bounded.
const MAX_PER_REASON: usize = 16;

/// Of the process, like the log: a bot in a loop repeats thousands.
static REPETITIONS: LogThrottle = LogThrottle::new();

/// The kinds that were logged since the start of the process.
#[derive(Debug, Default)]
pub(super) struct SkippedKinds {
    logged: HashSet<Cow<'static, str>>,
    by_reason: [usize; SkipReason::ALL.len()],
}

impl SkippedKinds {
    /// Log the record, if it is the first of its kind.
    pub(super) fn report(&mut self, skip: &Skip, position: &Position) {
        if !self.is_new(skip) {
            return;
        }
        info!(
            kafka.partition = position.partition,
            kafka.offset = position.offset,
            reason = skip.reason.as_str(),
            why = %skip.why,
            remedy = skip.reason.remedy(),
            "record skipped: the first of its kind"
        );
    }

    fn is_new(&mut self, skip: &Skip) -> bool {
        let kinds = &mut self.by_reason[skip.reason as usize];
        if *kinds >= MAX_PER_REASON || self.logged.contains(&skip.why) {
            return false;
        }
        *kinds += 1;
        self.logged.insert(skip.why.clone())
    }
}

/// A record that repeats an escalation of its session, which is at `first`.
pub(super) fn report_repetition(event: &Event, position: &Position, first: &Position) {
    info_throttled!(
        REPETITIONS,
        session = %LoggedId(&event.session_id),
        kafka.partition = position.partition,
        kafka.offset = position.offset,
        %first,
        "repeats an escalation of its session; not answered again"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skip(reason: SkipReason, why: String) -> Skip {
        Skip { reason, why: why.into() }
    }

    #[test]
    fn the_first_record_of_each_kind_is_logged_and_no_reason_hides_another() {
        let mut kinds = SkippedKinds::default();
        let chat = skip(SkipReason::OtherType, "its type is \"chat\"".into());
        assert!(kinds.is_new(&chat));
        assert!(!kinds.is_new(&chat));
        for number in 0..100 {
            kinds.is_new(&skip(SkipReason::OtherType, format!("its type is \"{number}\"")));
        }
        assert_eq!(kinds.logged.len(), MAX_PER_REASON);
        assert!(kinds.is_new(&skip(SkipReason::OtherFormat, "no JSON object".into())));
    }
}
