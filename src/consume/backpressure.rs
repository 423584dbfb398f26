//! Backpressure: how much the intake holds, and when it stops to read.
//!
//! [`decide`] is pure; the event loop feeds it and applies the [`FlowDecision`]. There are two ways
//! to stop. To *hold* means to take no message from the consumer's thread, which costs nothing. To
//! *pause* a partition makes the client discard what it has prefetched, and fetch it again. So a full
//! buffer is held first, and paused only when it stays full.

use std::time::Duration;

use tokio::time::Instant;

/// How long a full buffer is held before partitions are paused.
const MAX_HOLD: Duration = Duration::from_millis(300);

/// Bytes of records that wait to be started; the same bound applies to the records that wait for
/// recovery, which join these afterwards.
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;

/// The part of a limit that must be free again before reading goes on.
const FREE_AFTER_HOLD: usize = 16;
const FREE_AFTER_PAUSE: usize = 4;

/// The configured limits of the intake.
#[derive(Debug, Clone, Copy)]
pub struct IntakeLimits {
    /// Unfinished events in memory, beyond which no record is started. Events that come back from the
    /// ledger may exceed it by a quarter: new events must not keep them from meeting their deadlines.
    /// As many records may wait to be started, and as many for the recovery of their partition.
    pub max_events: usize,
    /// Of them, events of one session. Those behind are parked in the ledger.
    pub max_per_session: usize,
    /// Bytes of unfinished events in memory.
    pub max_bytes: usize,
    /// How far a partition may be read ahead of its committed offset, in offsets.
    pub max_span: usize,
}

impl IntakeLimits {
    /// Another record may be started.
    pub(super) fn admit(&self, load: &MemoryLoad) -> bool {
        load.events() < self.max_events && load.bytes() < self.max_bytes
    }
}

/// Events in memory and their bytes. Parked events are in the ledger and do not count.
#[derive(Debug, Default)]
pub(super) struct MemoryLoad {
    events: usize,
    bytes: usize,
}

impl MemoryLoad {
    pub(super) fn add(&mut self, bytes: usize) {
        self.events += 1;
        self.bytes += bytes;
    }

    pub(super) fn remove(&mut self, bytes: usize) {
        self.events -= 1;
        self.bytes -= bytes;
    }

    pub(super) fn events(&self) -> usize {
        self.events
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The input of [`decide`].
#[derive(Debug)]
pub(super) struct IntakeState {
    pub(super) now: Instant,
    /// Since when the buffer of waiting records has been full, by the decision before.
    pub(super) full_since: Option<Instant>,
    /// The ledger is unavailable, or an operator has paused the intake.
    pub(super) must_pause: bool,
    pub(super) partitions: Vec<PartitionState>,
}

/// One assigned partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartitionState {
    pub(super) partition: i32,
    /// By the decision before.
    pub(super) paused: bool,
    /// It is being revoked.
    pub(super) draining: bool,
    /// Its recovery is complete.
    pub(super) recovered: bool,
    /// Offsets from the lowest unfinished one to the last one started.
    pub(super) span: usize,
    /// Records that wait to be started.
    pub(super) waiting_records: usize,
    pub(super) waiting_bytes: usize,
}

/// What the event loop has to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FlowDecision {
    pub(super) full_since: Option<Instant>,
    /// Take no message from the consumer.
    pub(super) hold: bool,
    /// Every partition is paused.
    pub(super) paused: bool,
    /// Partitions to pause that were not, and to resume that were paused.
    pub(super) pause: Vec<i32>,
    pub(super) resume: Vec<i32>,
}

/// Decide which partitions to pause and to resume, and whether to hold.
pub(super) fn decide(limits: &IntakeLimits, state: &IntakeState) -> FlowDecision {
    let full_since = full_since(limits, state);
    let hold = is_holding(full_since, state.now);
    let paused = full_since.is_some() && !hold || state.must_pause;
    let share = UnrecoveredShare::new(limits, state.partitions.len());
    let (mut pause, mut resume) = (Vec::new(), Vec::new());
    for partition in &state.partitions {
        let pausing = paused
            || partition.draining
            || is_too_far_ahead(partition, limits.max_span)
            || share.is_used_up_by(partition);
        if pausing != partition.paused {
            if pausing { &mut pause } else { &mut resume }.push(partition.partition);
        }
    }
    FlowDecision { full_since, hold, paused, pause, resume }
}

/// Since when the buffer has been full; `None` once there is enough room again.
fn full_since(limits: &IntakeLimits, state: &IntakeState) -> Option<Instant> {
    // Records that wait for recovery do not count: each such partition has a bound of its own, and
    // a ledger that cannot read one partition must not stop the others.
    let ready = state.partitions.iter().filter(|partition| partition.recovered);
    let (records, bytes) = ready.fold((0, 0), |(records, bytes), partition| {
        (records + partition.waiting_records, bytes + partition.waiting_bytes)
    });
    let Some(since) = state.full_since else {
        let full = records >= limits.max_events || bytes >= MAX_WAITING_BYTES;
        return full.then_some(state.now);
    };
    let held = is_holding(Some(since), state.now);
    let free = if held { FREE_AFTER_HOLD } else { FREE_AFTER_PAUSE };
    let still_full =
        lacks_room(records, limits.max_events, free) || lacks_room(bytes, MAX_WAITING_BYTES, free);
    still_full.then_some(since)
}

fn is_holding(full_since: Option<Instant>, now: Instant) -> bool {
    full_since.is_some_and(|since| now - since < MAX_HOLD)
}

fn is_too_far_ahead(partition: &PartitionState, max_span: usize) -> bool {
    let ahead = partition.span + partition.waiting_records;
    if partition.paused { lacks_room(ahead, max_span, FREE_AFTER_PAUSE) } else { ahead >= max_span }
}

/// Less than one `free`th of the limit is unused.
fn lacks_room(value: usize, limit: usize, free: usize) -> bool {
    value > limit - (limit / free).max(1)
}

/// What one partition may hold while it waits for recovery.
struct UnrecoveredShare {
    records: usize,
    bytes: usize,
}

impl UnrecoveredShare {
    fn new(limits: &IntakeLimits, partitions: usize) -> Self {
        let share = |limit: usize| (limit / partitions.max(1)).max(1);
        Self { records: share(limits.max_events), bytes: share(MAX_WAITING_BYTES) }
    }

    fn is_used_up_by(&self, partition: &PartitionState) -> bool {
        !partition.recovered
            && (partition.waiting_records >= self.records || partition.waiting_bytes >= self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: IntakeLimits =
        IntakeLimits { max_events: 100, max_per_session: 100, max_bytes: 1000, max_span: 1000 };

    fn partition(partition: i32) -> PartitionState {
        PartitionState {
            partition,
            paused: false,
            draining: false,
            recovered: true,
            span: 0,
            waiting_records: 0,
            waiting_bytes: 0,
        }
    }

    fn state(partitions: Vec<PartitionState>) -> IntakeState {
        IntakeState { now: Instant::now(), full_since: None, must_pause: false, partitions }
    }

    /// The partitions that are paused and resumed.
    fn flow(limits: &IntakeLimits, partitions: Vec<PartitionState>) -> (Vec<i32>, Vec<i32>) {
        let FlowDecision { pause, resume, .. } = decide(limits, &state(partitions));
        (pause, resume)
    }

    #[test]
    fn records_that_wait_for_recovery_stop_only_their_own_partition() {
        let limits = IntakeLimits { max_events: 6, ..LIMITS };
        let waiting = PartitionState { recovered: false, waiting_records: 20, ..partition(0) };
        let decision = decide(&limits, &state(vec![waiting, partition(1)]));
        assert_eq!((decision.pause, decision.full_since), (vec![0], None));
        let large =
            PartitionState { waiting_records: 1, waiting_bytes: MAX_WAITING_BYTES, ..waiting };
        assert_eq!(flow(&limits, vec![large, partition(1)]).0, [0], "bytes count as well");
        let recovered = PartitionState { recovered: true, paused: true, ..waiting };
        let decision = decide(&limits, &state(vec![recovered, partition(1)]));
        assert_eq!(decision.resume, [0]);
        assert!(decision.hold, "now its records fill the common buffer");
    }

    #[test]
    fn waiting_records_count_as_read_ahead() {
        let limits = IntakeLimits { max_span: 8, ..LIMITS };
        let ahead = PartitionState { span: 3, waiting_records: 5, ..partition(0) };
        assert_eq!(flow(&limits, vec![ahead]), (vec![0], vec![]));
    }

    #[test]
    fn only_the_partition_that_is_too_far_ahead_is_paused() {
        let limits = IntakeLimits { max_span: 8, ..LIMITS };
        let ahead = |span, paused| PartitionState { span, paused, ..partition(1) };
        assert_eq!(flow(&limits, vec![partition(0), ahead(8, false)]), (vec![1], vec![]));
        assert_eq!(flow(&limits, vec![partition(0), ahead(8, true)]), (vec![], vec![]));
        assert_eq!(flow(&limits, vec![partition(0), ahead(7, true)]), (vec![], vec![]));
        assert_eq!(flow(&limits, vec![partition(0), ahead(6, true)]), (vec![], vec![1]));
    }

    #[test]
    fn every_partition_is_paused_while_the_ledger_is_unavailable() {
        let partitions = vec![partition(0), partition(1)];
        let state = IntakeState { must_pause: true, ..state(partitions) };
        let decision = decide(&LIMITS, &state);
        assert_eq!((decision.paused, decision.pause), (true, vec![0, 1]));
        assert!(!decision.hold, "messages about the group are still taken");
    }

    #[test]
    fn a_full_buffer_is_held_first_and_paused_when_it_stays_full() {
        let mut state = state(vec![PartitionState { waiting_records: 100, ..partition(0) }]);
        let full = decide(&LIMITS, &state);
        assert_eq!((full.full_since, full.hold, full.pause), (Some(state.now), true, vec![]));
        let decide_with = |state: &mut IntakeState, waiting_records| {
            state.partitions[0].waiting_records = waiting_records;
            decide(&LIMITS, state)
        };
        state.full_since = full.full_since;
        assert!(decide_with(&mut state, 95).hold, "less than a sixteenth is free");
        assert_eq!(decide_with(&mut state, 94).full_since, None);
        state.now += MAX_HOLD;
        let paused = decide_with(&mut state, 94);
        assert_eq!((paused.hold, paused.paused, paused.pause), (false, true, vec![0]));
        state.partitions[0].paused = true;
        assert!(decide_with(&mut state, 76).paused, "less than a quarter is free");
        assert_eq!(decide_with(&mut state, 75).resume, [0]);
    }
}
