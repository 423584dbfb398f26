//! What an operator may do with an unfinished event: have it tried at once, or give it up.
//!
//! Neither takes the event away from its owner. A retry moves the time at which a parked event is
//! due. Giving up moves the deadline to the present and stores who decided it and why; the owner then
//! ends the event as it ends one past its deadline: a call in doubt is reconciled first, and a call
//! in flight decides by its reply.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::command::changed;
use super::{Actor, EntryState, HistoryKind, LedgerEntry, WaitsFor};

/// The resolution of the times that the databases store.
const MICROSECOND: SignedDuration = SignedDuration::from_micros(1);

/// The last time before this deadline: until then an event that was woken is parked at the latest.
pub fn just_before(deadline: Timestamp) -> Timestamp {
    deadline.saturating_sub(MICROSECOND).unwrap_or(Timestamp::MIN)
}

/// What an operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorAct {
    /// Try a parked event at once.
    Retry,
    /// End an unfinished event without another transfer.
    GiveUp {
        /// Why, for the outcome and the history.
        reason: String,
    },
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorResult {
    /// The entry to be written.
    Stored(Box<LedgerEntry>),
    /// Nothing changes: it was done before.
    Already,
    /// Nothing changes.
    Refused(OperatorRefusal),
}

/// Why an event cannot be retried or given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorRefusal {
    /// The entry is that of a dead letter.
    DeadLetter,
    /// Its final answer is stored.
    Answered,
    /// Its owner works on it: a call may be in flight.
    InWork,
    /// Earlier events of its session go first.
    BehindItsSession,
    /// It was released, and Kafka delivers it again.
    Redelivered,
    /// It is past its deadline, or given up: its owner answers it without another transfer.
    PastDeadline,
}

/// An operator's decision to end an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// When it was stored.
    pub at: Timestamp,
    /// Who decided it.
    pub by: Arc<str>,
    /// Why.
    pub reason: String,
}

impl LedgerEntry {
    /// Whether an operator has given it up.
    pub fn given_up(&self) -> Option<GivenUp> {
        let item = self.history.iter().find(|item| item.kind == HistoryKind::GivenUp)?;
        Some(GivenUp { at: item.at, by: item.owner.clone(), reason: item.note.clone() })
    }

    /// Whether an operator may have made it due before the time that its owner has chosen. Giving it up
    /// also shortens what its owner chooses after that.
    pub(super) fn is_due_early(&self) -> bool {
        let last = self.history.last();
        last.is_some_and(|item| item.kind.is_by_operator()) || self.given_up().is_some()
    }
}

/// Applies what an operator wants to an entry.
pub fn operate(entry: LedgerEntry, act: &OperatorAct, operator: Actor<'_>) -> OperatorResult {
    if entry.session_id.is_none() {
        return OperatorResult::Refused(OperatorRefusal::DeadLetter);
    }
    if entry.is_settled() {
        return OperatorResult::Refused(OperatorRefusal::Answered);
    }
    match act {
        OperatorAct::Retry => retry(entry, operator),
        OperatorAct::GiveUp { reason } => give_up(entry, reason, operator),
    }
}

fn retry(entry: LedgerEntry, operator: Actor<'_>) -> OperatorResult {
    let now = operator.now;
    if entry.deadline.is_some_and(|deadline| deadline <= now) {
        return OperatorResult::Refused(OperatorRefusal::PastDeadline);
    }
    let EntryState::Parked { until, waits_for } = &entry.state else {
        return OperatorResult::Refused(OperatorRefusal::InWork);
    };
    match waits_for {
        WaitsFor::Session => {
            return OperatorResult::Refused(OperatorRefusal::BehindItsSession);
        }
        WaitsFor::Redelivery => return OperatorResult::Refused(OperatorRefusal::Redelivered),
        WaitsFor::Time if *until <= now => return OperatorResult::Already,
        WaitsFor::Time | WaitsFor::Agent(_) => {}
    }
    let note = format!("was parked until {until}; waited for {waits_for}");
    // A waiting room tries its events in their order, so this one leaves it.
    let state = EntryState::Parked { until: now, waits_for: WaitsFor::Time };
    let entry = LedgerEntry { state, ..entry };
    OperatorResult::Stored(Box::new(changed(entry, HistoryKind::Retried, &note, operator)))
}

fn give_up(entry: LedgerEntry, reason: &str, operator: Actor<'_>) -> OperatorResult {
    if entry.given_up().is_some() {
        return OperatorResult::Already;
    }
    // A deadline before it was first seen would mean that no call was ever made; the clocks of the
    // operator and the owner may differ.
    let first_seen = entry.first_seen;
    let after_first_seen = first_seen.saturating_add(MICROSECOND);
    let now = operator.now.max(after_first_seen.unwrap_or(Timestamp::MAX));
    let deadline = entry.deadline.map_or(now, |deadline| deadline.min(now));
    let state = match entry.state {
        EntryState::Parked { until, waits_for } => {
            // One that was woken is still parked until a time before its deadline.
            let is_woken = waits_for == WaitsFor::Session
                && entry.deadline.is_some_and(|deadline| until < deadline);
            let latest = if is_woken { just_before(deadline) } else { deadline };
            EntryState::Parked { until: until.min(latest), waits_for }
        }
        state => state,
    };
    let entry = LedgerEntry { deadline: Some(deadline), state, ..entry };
    let actor = Actor { now, ..operator };
    OperatorResult::Stored(Box::new(changed(entry, HistoryKind::GivenUp, reason, actor)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ledger_entry::{HistoryItem, RecordOrigin};
    use crate::domain::record::Position;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn entry(state: EntryState) -> LedgerEntry {
        LedgerEntry {
            session_id: Some("s".into()),
            source: Position { topic: "t".into(), partition: 1, offset: 2 },
            recorded_at: None,
            record: None,
            first_seen: at(0),
            deadline: Some(at(600)),
            owner: "a".into(),
            claimed_at: at(1),
            version: 7,
            state,
            snapshot: None,
            answer: None,
            history: vec![],
        }
    }

    fn parked(until: i64, waits_for: WaitsFor) -> LedgerEntry {
        entry(EntryState::Parked { until: at(until), waits_for })
    }

    fn operated(entry: LedgerEntry, act: &OperatorAct, second: i64) -> OperatorResult {
        operate(entry, act, Actor { owner: &"ann".into(), now: at(second) })
    }

    fn stored(result: OperatorResult) -> LedgerEntry {
        let OperatorResult::Stored(entry) = result else { panic!("{result:?}") };
        *entry
    }

    fn give_up() -> OperatorAct {
        OperatorAct::GiveUp { reason: "why".into() }
    }

    #[test]
    fn a_retry_makes_a_parked_event_due() {
        for waits_for in [WaitsFor::Time, WaitsFor::Agent("room".into())] {
            let retried = stored(operated(parked(90, waits_for), &OperatorAct::Retry, 30));
            let due = EntryState::Parked { until: at(30), waits_for: WaitsFor::Time };
            assert_eq!((&retried.state, retried.version), (&due, 8));
            let item = retried.history.last().unwrap();
            assert_eq!((item.kind, &*item.owner, item.at), (HistoryKind::Retried, "ann", at(30)));
            assert_eq!(operated(retried, &OperatorAct::Retry, 31), OperatorResult::Already);
        }
    }

    #[test]
    fn a_retry_is_refused_where_it_would_break_an_order_or_do_nothing() {
        let check = |entry, second, refusal| {
            let refused = OperatorResult::Refused(refusal);
            assert_eq!(operated(entry, &OperatorAct::Retry, second), refused);
        };
        let open = || entry(EntryState::Open { origin: RecordOrigin::Ledger });
        check(parked(90, WaitsFor::Session), 30, OperatorRefusal::BehindItsSession);
        check(parked(90, WaitsFor::Redelivery), 30, OperatorRefusal::Redelivered);
        check(open(), 30, OperatorRefusal::InWork);
        check(parked(90, WaitsFor::Time), 600, OperatorRefusal::PastDeadline);
        check(entry(EntryState::Settled { at: at(2) }), 30, OperatorRefusal::Answered);
        let dead_letter = LedgerEntry { session_id: None, ..open() };
        check(dead_letter, 30, OperatorRefusal::DeadLetter);
        let given_up = stored(operated(parked(90, WaitsFor::Time), &give_up(), 30));
        check(given_up, 31, OperatorRefusal::PastDeadline);
    }

    #[test]
    fn giving_up_moves_the_deadline_once_and_keeps_what_the_event_waits_for() {
        let room = WaitsFor::Agent("room".into());
        for waits_for in [WaitsFor::Time, WaitsFor::Session, room, WaitsFor::Redelivery] {
            let given_up = stored(operated(parked(600, waits_for.clone()), &give_up(), 30));
            assert_eq!(given_up.deadline, Some(at(30)));
            assert_eq!(given_up.state, EntryState::Parked { until: at(30), waits_for });
            let expected = GivenUp { at: at(30), by: "ann".into(), reason: "why".into() };
            assert_eq!(given_up.given_up(), Some(expected));
            assert_eq!(operated(given_up, &give_up(), 40), OperatorResult::Already);
        }
        let open = stored(operated(
            entry(EntryState::Open { origin: RecordOrigin::Kafka }),
            &give_up(),
            30,
        ));
        assert_eq!(
            open.state,
            EntryState::Open { origin: RecordOrigin::Kafka },
            "its owner goes on"
        );
        let overdue = stored(operated(parked(90, WaitsFor::Time), &give_up(), 700));
        assert_eq!(overdue.deadline, Some(at(600)), "it stays past its deadline");
    }

    #[test]
    fn an_operator_whose_clock_is_behind_does_not_give_up_before_the_first_look() {
        let given_up = stored(operated(parked(90, WaitsFor::Time), &give_up(), -50));
        assert!(given_up.deadline > Some(given_up.first_seen));
    }

    #[test]
    fn that_an_event_was_given_up_is_never_dropped_from_its_history() {
        let mut history = Vec::new();
        let item = |kind| HistoryItem { at: at(0), kind, owner: "a".into(), note: String::new() };
        for number in 0..100 {
            let kind = if number == 12 { HistoryKind::GivenUp } else { HistoryKind::Claimed };
            super::super::append_history(&mut history, item(kind));
        }
        assert_eq!(history.len(), 32);
        let given_up = history.iter().filter(|item| item.kind == HistoryKind::GivenUp);
        assert_eq!(given_up.count(), 1);
    }
}
