//! Partitions from which no record comes although the brokers have some.
//!
//! A batch that was damaged on a broker's disk, or that unpacks to more than the client accepts, stops
//! its partition: librdkafka asks for it again and again. Some of these errors it reports at each
//! attempt, without the partition, and others not at all. So the statistics decide, and the error
//! explains.
//!
//! What lasts is counted in statistics, which come every second, and not by the clock: while the process
//! is paused, neither does a partition stand still nor does an error fail to repeat.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::statistics::{Partition, Topic};
use tokio::time::Instant;

use crate::health::{Fault, FaultKind, Health};

/// A partition may stand still for this many statistics. `/ready` has to say so within 30 s; a fetch
/// takes a fraction of a second, and a broker that enforces a quota delays one by some seconds.
const STALLED_AFTER: u32 = 20;
/// The same of an error that repeats, by more than a partition may need to stand still after the first
/// report: a standstill names the place, too.
const UNREADABLE_AFTER: u32 = STALLED_AFTER + 4;
/// An error that was not repeated within this many statistics is over.
const REPEATED_WITHIN: u32 = 3;

const REMEDY: &str = "if a batch is damaged, elect another replica as leader; if it unpacks to more \
    than the consumer's receive.message.max.bytes, raise that; or give up its records: move the \
    start of the partition past it (kafka-delete-records.sh). Otherwise look for a quota of the \
    brokers";

/// The assigned partitions that do not advance.
pub(super) struct StalledPartitions {
    health: Arc<Health>,
    state: Mutex<ReadingState>,
}

#[derive(Default)]
struct ReadingState {
    /// The positions of partitions that have more records, and for how long they are there.
    positions: HashMap<i32, Standstill>,
    /// Those that `consume` has paused.
    paused: HashSet<i32>,
    unreadable: Option<Unreadable>,
}

struct Standstill {
    offset: i64,
    since: Instant,
    /// Statistics that showed it.
    seen: u32,
}

/// The client's error about a batch.
struct Unreadable {
    text: String,
    since: Instant,
    /// Statistics since the first of its reports, and since the last.
    seen: u32,
    not_repeated: u32,
}

impl StalledPartitions {
    pub(super) fn new(health: Arc<Health>) -> Self {
        Self { health, state: Mutex::default() }
    }

    /// The client has reported an error.
    pub(super) fn on_error(&self, code: Option<Code>, text: &str) {
        if !matches!(code, Some(Code::BadMessage | Code::BadCompression)) {
            return;
        }
        let mut state = self.state.lock();
        let (since, seen) = match &state.unreadable {
            Some(earlier) => (earlier.since, earlier.seen),
            None => (Instant::now(), 0),
        };
        let text = text.to_owned();
        state.unreadable = Some(Unreadable { text, since, seen, not_repeated: 0 });
    }

    /// `consume` has paused or resumed these partitions.
    pub(super) fn set_paused(&self, partitions: &[i32], is_paused: bool) {
        let paused = &mut self.state.lock().paused;
        for partition in partitions {
            if is_paused {
                paused.insert(*partition);
            } else {
                paused.remove(partition);
            }
        }
    }

    /// Look at the statistics of the escalations topic, which come every second.
    pub(super) fn observe(&self, topic: &Topic) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let ReadingState { positions, paused, unreadable } = &mut *state;
        // A topic that was created again may have fewer.
        positions.retain(|number, _| topic.partitions.contains_key(number));
        for (number, partition) in &topic.partitions {
            if paused.contains(number) || !has_more(partition) {
                positions.remove(number);
                continue;
            }
            let offset = partition.next_offset;
            let begins = || Standstill { offset, since: now, seen: 0 };
            let standstill = positions.entry(*number).or_insert_with(begins);
            if standstill.offset == offset {
                standstill.seen += 1;
            } else {
                *standstill = begins();
            }
        }
        if let Some(error) = unreadable {
            error.seen += 1;
            error.not_repeated += 1;
        }
        unreadable.take_if(|error| error.not_repeated > REPEATED_WITHIN);
        match fault(positions, unreadable.as_ref()) {
            Some((since, fault)) => {
                self.health.faults().report(FaultKind::ReadingStalled, since, fault);
            }
            None => self.health.faults().clear(FaultKind::ReadingStalled),
        }
    }
}

/// Whether the client has to fetch, and there is something to fetch.
fn has_more(partition: &Partition) -> bool {
    let position = partition.next_offset;
    partition.fetch_state == "active"
        && partition.fetchq_cnt == 0
        && (0..partition.ls_offset).contains(&position)
}

fn fault(
    positions: &HashMap<i32, Standstill>,
    unreadable: Option<&Unreadable>,
) -> Option<(Instant, Fault)> {
    let stalled = positions.iter().filter(|(_, standstill)| standstill.seen > STALLED_AFTER);
    let first = stalled.min_by_key(|(_, standstill)| standstill.since);
    let error = unreadable.map(|error| format!("the client says: {}", error.text));
    let (since, mut cause) = match (first, unreadable) {
        (Some((number, Standstill { offset, since, .. })), _) => {
            let place = format!("partition {number} at offset {offset}");
            (*since, format!("no record comes from {place} although there are more"))
        }
        // With `check.crcs` the position goes back and forth, because the client misreads what
        // follows the damaged batch.
        (None, Some(error)) if error.seen > UNREADABLE_AFTER => {
            (error.since, "a partition cannot be read on".to_owned())
        }
        (None, _) => return None,
    };
    if let Some(error) = error {
        cause = format!("{cause}: {error}");
    }
    Some((since, Fault { cause, remedy: REMEDY.to_owned() }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lease::Lease;

    fn topic(partition: &Partition) -> Topic {
        Topic { partitions: [(3, partition.clone())].into(), ..Topic::default() }
    }

    fn waiting_at(offset: i64) -> Partition {
        let fetch_state = "active".to_owned();
        Partition { fetch_state, next_offset: offset, ls_offset: 9, ..Partition::default() }
    }

    fn watch() -> (Arc<Health>, StalledPartitions) {
        let lease = Arc::new(Lease::new(Duration::from_secs(30)));
        let health = Arc::new(Health::new(lease, Duration::ZERO));
        (health.clone(), StalledPartitions::new(health))
    }

    #[test]
    fn a_partition_with_more_records_that_does_not_advance_is_a_fault() {
        let (health, stalled) = watch();
        let shown = |times: u32, partition: &Partition| {
            for _ in 0..times {
                stalled.observe(&topic(partition));
            }
            health.faults().first()
        };
        assert_eq!(shown(20, &waiting_at(5)), None);
        assert_eq!(shown(20, &waiting_at(6)), None, "it has advanced");
        stalled.set_paused(&[3], true);
        assert_eq!(shown(30, &waiting_at(6)), None, "paused");
        stalled.set_paused(&[3], false);
        assert_eq!(shown(20, &waiting_at(6)), None);
        stalled.on_error(Some(Code::BadCompression), "bad batch at 6");
        let fault = shown(2, &waiting_at(6)).unwrap();
        let place = "no record comes from partition 3 at offset 6";
        assert!(fault.starts_with(place) && fault.contains(": bad batch at 6"), "{fault}");
        let prefetched = Partition { fetchq_cnt: 1, ..waiting_at(6) };
        assert_eq!(shown(1, &prefetched), None);
        assert_eq!(shown(1, &waiting_at(6)), None);
        assert_eq!(shown(30, &waiting_at(9)), None, "the end");
    }

    #[test]
    fn an_error_about_a_batch_that_repeats_is_a_fault_wherever_the_position_is() {
        let (health, stalled) = watch();
        for round in 0..25 {
            assert_eq!(health.faults().first(), None);
            stalled.on_error(Some(Code::BadMessage), "CRC of 2");
            stalled.observe(&topic(&waiting_at(round % 2)));
        }
        let fault = health.faults().first().unwrap();
        assert!(fault.contains("cannot be read on: the client says: CRC of 2"), "{fault}");
        for position in 3..=5 {
            stalled.observe(&topic(&waiting_at(position)));
        }
        assert_eq!(health.faults().first(), None, "not repeated");
    }

    #[test]
    fn a_standstill_is_named_although_its_error_came_first() {
        let (health, stalled) = watch();
        let mut position = 5;
        let fault = loop {
            stalled.on_error(Some(Code::BadCompression), "bad batch at 6");
            stalled.observe(&topic(&waiting_at(position)));
            position = 6;
            if let Some(fault) = health.faults().first() {
                break fault;
            }
        };
        assert!(fault.starts_with("no record comes from partition 3 at offset 6"), "{fault}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_the_process_is_neither_a_standstill_nor_the_end_of_an_error() {
        let (health, stalled) = watch();
        let pause = async || tokio::time::advance(Duration::from_secs(60)).await;
        stalled.observe(&topic(&waiting_at(6)));
        pause().await;
        stalled.observe(&topic(&waiting_at(6)));
        assert_eq!(health.faults().first(), None);
        stalled.on_error(Some(Code::BadCompression), "bad batch at 6");
        pause().await;
        for _ in 0..20 {
            stalled.observe(&topic(&waiting_at(6)));
            stalled.on_error(Some(Code::BadCompression), "bad batch at 6");
        }
        pause().await;
        stalled.observe(&topic(&waiting_at(6)));
        let fault = health.faults().first().unwrap();
        assert!(fault.contains("the client says: bad batch at 6"), "{fault}");
    }
}
