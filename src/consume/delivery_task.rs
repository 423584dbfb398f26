//! The task of one event: delivers it, and tries again after it was fenced or blocked.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::assignment::{AssignedRecord, AssignmentState};
use super::task_events::TaskEventSender;
use crate::activity::UnfinishedEntry;
use crate::deliver::{Context, Delivery, Ended, Ports, ReadBefore, Turn};
use crate::domain::course::Policy;
use crate::domain::event::Event;
use crate::domain::ledger_entry::{EntryState, RecordOrigin, RoomName, WaitsFor};
use crate::domain::record::Record;
use crate::domain::signal::Attempt;
use crate::telemetry::traces::EventSpan;

/// If another instance claims our event, wait this many settle times before claiming it back: a
/// live owner has reconciled and answered by then.
const RECLAIM_AFTER_SETTLE_TIMES: u32 = 3;
const MIN_RECLAIM_DELAY: Duration = Duration::from_secs(1);

/// What every task needs.
pub(super) struct TaskInput {
    pub(super) record: Record,
    pub(super) at: AssignedRecord,
    pub(super) state: AssignmentState,
    pub(super) source: TaskSource,
}

/// Where the record of a task comes from.
pub(super) enum TaskSource {
    Kafka {
        /// Whether it may have been read before.
        read_before: ReadBefore,
        /// Whether its event had an answer when the ledger was asked about it.
        is_answered: bool,
    },
    /// From the ledger.
    Ledger {
        /// The state in which it was read.
        state: EntryState,
        /// The version in which it was read.
        version: i64,
        /// When its record was first read.
        first_seen: Timestamp,
        /// It is past its deadline, so that no call will be made.
        is_overdue: bool,
    },
}

impl TaskSource {
    pub(super) fn origin(&self) -> RecordOrigin {
        match self {
            Self::Kafka { .. } => RecordOrigin::Kafka,
            Self::Ledger { .. } => RecordOrigin::Ledger,
        }
    }

    /// Whether its record may have been read before. One of the ledger has an entry, so that nothing
    /// depends on it.
    pub(super) fn read_before(&self) -> ReadBefore {
        match self {
            Self::Kafka { read_before, .. } => *read_before,
            Self::Ledger { .. } => ReadBefore::Never,
        }
    }

    /// The version in which its entry must still be when it is claimed.
    pub(super) fn version(&self) -> Option<i64> {
        match self {
            Self::Kafka { .. } => None,
            Self::Ledger { version, .. } => Some(*version),
        }
    }

    /// When its record was first read, as far as the ledger knows.
    pub(super) fn first_seen(&self) -> Option<Timestamp> {
        match self {
            Self::Kafka { .. } => None,
            Self::Ledger { first_seen, .. } => Some(*first_seen),
        }
    }

    /// Whether the answer is stored, so that Desk need not be called.
    pub(super) fn is_answered(&self) -> bool {
        match self {
            Self::Kafka { is_answered, .. } => *is_answered,
            Self::Ledger { state, .. } => matches!(state, EntryState::Settled { .. }),
        }
    }

    /// Whether Desk was called for the event before.
    pub(super) fn is_retry(&self) -> bool {
        self.origin() == RecordOrigin::Ledger && !self.waited_for_session()
    }

    /// Whether it was parked behind others of its session.
    pub(super) fn waited_for_session(&self) -> bool {
        self.waits_for() == Some(&WaitsFor::Session)
    }

    /// Whether it takes a retry slot.
    pub(super) fn takes_slot(&self) -> bool {
        matches!(self, Self::Ledger { is_overdue: false, .. })
    }

    /// The waiting room that tries it.
    pub(super) fn room(&self) -> Option<&RoomName> {
        match (self, self.waits_for()) {
            (Self::Ledger { is_overdue: false, .. }, Some(WaitsFor::Agent(room))) => Some(room),
            _ => None,
        }
    }

    /// What it waited for in the ledger.
    pub(super) fn waits_for(&self) -> Option<&WaitsFor> {
        match self {
            Self::Kafka { .. } => None,
            Self::Ledger { state, .. } => state.waits_for(),
        }
    }
}

/// After a delivery that was fenced or blocked: wait until it may be tried again. Returns false
/// where there is nothing to try again, or the partition drains.
pub(super) async fn may_reclaim(
    end: &Ended,
    draining: &CancellationToken,
    policy: &Policy,
) -> bool {
    if !matches!(end, Ended::Fenced | Ended::Blocked) {
        return false;
    }
    // While the partition stays ours, the instance that fenced us had lost the partition without
    // knowing it, and will not answer.
    tokio::select! {
        biased;
        () = draining.cancelled() => false,
        () = sleep((policy.settle_time * RECLAIM_AFTER_SETTLE_TIMES).max(MIN_RECLAIM_DELAY)) => true,
    }
}

/// The task of one event.
pub(super) struct DeliveryTask<P: Ports> {
    pub(super) context: Arc<Context<P>>,
    pub(super) policy: Arc<Policy>,
    pub(super) event: Event,
    pub(super) input: TaskInput,
    pub(super) needs_call: bool,
    pub(super) origin: RecordOrigin,
    pub(super) waited_for_session: bool,
    pub(super) attempt: Attempt,
    pub(super) room: Option<RoomName>,
    pub(super) retry_slots: Arc<Semaphore>,
    pub(super) turn: Turn,
    pub(super) progress: UnfinishedEntry,
    pub(super) events: TaskEventSender,
}

impl<P: Ports> DeliveryTask<P> {
    pub(super) async fn run(self) -> Ended {
        self.progress.set_parked(self.input.source.waits_for().is_some());
        let mut delivery = Delivery {
            context: &self.context,
            policy: &self.policy,
            event: &self.event,
            record: &self.input.record,
            turn: &self.turn,
            origin: self.origin,
            read_before: self.input.source.read_before(),
            expected_version: self.input.source.version(),
            waited_for_session: self.waited_for_session,
            room: self.room.clone(),
            retry_slots: &self.retry_slots,
            needs_call: self.needs_call,
            attempt: self.attempt,
            draining: &self.input.state.draining,
            record_is_gone: &self.input.state.record_is_gone,
            finished_below: &self.input.state.finished_below,
            progress: &self.progress,
            on_event: &|event| self.events.send(event),
            span: self.context.traces.begin(&self.event, &self.input.record),
        };
        loop {
            let end = delivery.run().await;
            delivery.span = EventSpan::default();
            if !may_reclaim(&end, &self.input.state.draining, &self.policy).await {
                return end;
            }
            // What was read of the entry is outdated by now.
            delivery.expected_version = None;
            delivery.span = self.context.traces.begin(&self.event, &self.input.record);
        }
    }
}
