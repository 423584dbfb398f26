//! The unfinished events in memory, each with how far its delivery is.
//!
//! A delivery notes each of its phases in its own [`UnfinishedEvent`], which nobody else waits for; to
//! see them all, the list is copied. An event leaves the list when its [`UnfinishedEntry`] drops.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::domain::course::Course;
use crate::domain::event::Event;
use crate::domain::problem::Problem;
use crate::domain::record::Position;
use crate::domain::request::DeskCommand;
use crate::domain::verdict::VerdictClass;

/// A claim takes milliseconds. One that takes longer than this waits for the ledger or the lease.
const LONG_CLAIM: Duration = Duration::from_secs(1);

/// All unfinished events in memory.
#[derive(Debug, Default)]
pub struct UnfinishedEvents(Mutex<UnfinishedList>);

#[derive(Debug, Default)]
struct UnfinishedList {
    events: HashMap<u64, Arc<UnfinishedEvent>>,
    next: u64,
}

/// An unfinished event.
#[derive(Debug)]
pub struct UnfinishedEvent {
    /// Its id.
    pub id: Arc<str>,
    /// Its session.
    pub session_id: Arc<str>,
    /// The topic, partition and offset of its record.
    pub source: Position,
    /// Its deadline.
    pub deadline: Timestamp,
    state: Mutex<UnfinishedState>,
}

/// How far the delivery of an event is.
#[derive(Debug, Clone)]
pub struct UnfinishedState {
    /// Where it is now.
    pub phase: DeliveryPhase,
    /// Since when.
    pub since: Instant,
    /// When an instance read its record for the first time.
    pub received_at: Timestamp,
    /// Its route; `None`: none matches, or it is not known yet.
    pub route: Option<String>,
    /// Transfers sent.
    pub attempts: u32,
    /// What came back last.
    pub last: Option<String>,
    /// A call may have taken effect.
    pub is_in_doubt: bool,
    /// Nobody was online when it was tried last.
    pub found_nobody: bool,
    /// It was parked when it was read in the ledger, and is not claimed yet.
    pub is_parked: bool,
}

/// Where a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryPhase {
    /// It waits for its turn in its session.
    Queued,
    /// It waits for a permit of the gate.
    AwaitsPermit,
    /// It is being claimed in the ledger, or waits for the lease.
    Claiming,
    /// A call is in flight.
    Calling(DeskCommand),
    /// It waits until this time.
    Waiting(Timestamp),
    /// Its answer is being stored and published.
    Publishing,
    /// Its entry cannot be read, or another instance has it.
    Blocked,
}

impl UnfinishedEvents {
    /// An event that a task begins to work on.
    pub fn add(self: &Arc<Self>, event: &Event, received_at: Timestamp) -> UnfinishedEntry {
        let state = UnfinishedState::begun(received_at);
        let event = Arc::new(UnfinishedEvent {
            id: event.id.clone(),
            session_id: event.session_id.clone(),
            source: event.source.clone(),
            deadline: event.deadline,
            state: Mutex::new(state),
        });
        let mut list = self.0.lock();
        let number = list.next;
        list.next += 1;
        list.events.insert(number, event.clone());
        drop(list);
        UnfinishedEntry { events: self.clone(), number, event }
    }

    /// All of them, in no order.
    pub fn all(&self) -> Vec<Arc<UnfinishedEvent>> {
        self.0.lock().events.values().cloned().collect()
    }
}

/// The entry of an event in the list: it is removed when this is dropped.
#[derive(Debug)]
pub struct UnfinishedEntry {
    events: Arc<UnfinishedEvents>,
    number: u64,
    event: Arc<UnfinishedEvent>,
}

impl Deref for UnfinishedEntry {
    type Target = UnfinishedEvent;

    fn deref(&self) -> &UnfinishedEvent {
        &self.event
    }
}

impl Drop for UnfinishedEntry {
    fn drop(&mut self) {
        self.events.0.lock().events.remove(&self.number);
    }
}

impl UnfinishedEvent {
    /// Its delivery has come to this phase.
    pub fn enter(&self, phase: DeliveryPhase) {
        let mut state = self.state.lock();
        state.phase = phase;
        state.since = Instant::now();
    }

    /// Whether it was read in the ledger, where it stays parked until it is claimed.
    pub fn set_parked(&self, is_parked: bool) {
        self.state.lock().is_parked = is_parked;
    }

    /// It was claimed, and first read at this time, perhaps by an earlier owner.
    pub fn was_claimed_again(&self, received_at: Timestamp) {
        let mut state = self.state.lock();
        (state.received_at, state.is_parked) = (received_at, false);
    }

    /// Its course has changed.
    pub fn observe(&self, course: &Course<'_>) {
        // A settled course has an outcome, which says all of this.
        if course.is_settled() {
            return;
        }
        let last = course.verdict();
        let mut state = self.state.lock();
        state.attempts = course.transfers();
        state.is_in_doubt = course.in_doubt();
        state.found_nobody = last.is_some_and(|last| last.class == VerdictClass::NoAgent);
        if state.route.as_deref() != course.route().map(|route| route.name.as_str()) {
            state.route = course.route().map(|route| route.name.clone());
        }
        if state.last.as_deref() != last.map(|last| last.text.as_str()) {
            state.last = last.map(|last| last.text.clone());
        }
    }

    /// Looks at how far it is, without a copy of it.
    pub fn glance<T>(&self, look: impl FnOnce(&UnfinishedState) -> T) -> T {
        look(&self.state.lock())
    }

    /// How far it is.
    pub fn state(&self) -> UnfinishedState {
        self.state.lock().clone()
    }
}

impl UnfinishedState {
    /// Of an event that a task begins to work on.
    fn begun(received_at: Timestamp) -> Self {
        Self {
            phase: DeliveryPhase::Queued,
            since: Instant::now(),
            received_at,
            route: None,
            attempts: 0,
            last: None,
            is_in_doubt: false,
            found_nobody: false,
            is_parked: false,
        }
    }

    /// What it waits for.
    pub fn problem(&self, gate_is_held: bool) -> Problem {
        match self.phase {
            DeliveryPhase::Publishing => Problem::Unpublished,
            DeliveryPhase::Blocked => Problem::Blocked,
            DeliveryPhase::Claiming if self.since.elapsed() > LONG_CLAIM => Problem::Blocked,
            DeliveryPhase::Queued => Problem::BehindInSession,
            DeliveryPhase::Calling(DeskCommand::TransferToHuman) => Problem::Calling,
            _ if self.is_in_doubt => Problem::InDoubt,
            DeliveryPhase::Calling(DeskCommand::GetSessionState) => Problem::Calling,
            DeliveryPhase::Waiting(_) if self.found_nobody => Problem::NoAgentOnline,
            DeliveryPhase::Waiting(_) => Problem::WaitingRetry,
            DeliveryPhase::AwaitsPermit | DeliveryPhase::Claiming if gate_is_held => {
                Problem::GateShut
            }
            DeliveryPhase::AwaitsPermit | DeliveryPhase::Claiming => Problem::RateLimited,
        }
    }

    /// When it goes on by itself, where that is known.
    pub fn next_at(&self) -> Option<Timestamp> {
        if let DeliveryPhase::Waiting(until) = self.phase { Some(until) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(phase: DeliveryPhase) -> UnfinishedState {
        UnfinishedState { phase, ..UnfinishedState::begun(Timestamp::UNIX_EPOCH) }
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_word() {
        let waiting = || DeliveryPhase::Waiting(Timestamp::UNIX_EPOCH);
        let query = || DeliveryPhase::Calling(DeskCommand::GetSessionState);
        let open = |phase| state(phase).problem(false);
        assert_eq!(open(DeliveryPhase::Queued), Problem::BehindInSession);
        assert_eq!(open(DeliveryPhase::AwaitsPermit), Problem::RateLimited);
        assert_eq!(open(DeliveryPhase::Calling(DeskCommand::TransferToHuman)), Problem::Calling);
        assert_eq!(open(waiting()), Problem::WaitingRetry);
        assert_eq!(open(DeliveryPhase::Publishing), Problem::Unpublished);
        assert_eq!(open(DeliveryPhase::Blocked), Problem::Blocked);
        assert_eq!(state(DeliveryPhase::AwaitsPermit).problem(true), Problem::GateShut);
        let in_doubt = |phase| UnfinishedState { is_in_doubt: true, ..state(phase) }.problem(true);
        for phase in [waiting(), DeliveryPhase::AwaitsPermit, query()] {
            assert_eq!(in_doubt(phase), Problem::InDoubt, "{phase:?}");
        }
        assert_eq!(in_doubt(DeliveryPhase::Queued), Problem::BehindInSession);
        let nobody = UnfinishedState { found_nobody: true, ..state(waiting()) };
        assert_eq!(nobody.problem(false), Problem::NoAgentOnline);
        let claiming = state(DeliveryPhase::Claiming);
        assert_eq!(claiming.problem(false), Problem::RateLimited);
        tokio::time::advance(LONG_CLAIM * 2).await;
        assert_eq!(claiming.problem(false), Problem::Blocked);
    }
}
