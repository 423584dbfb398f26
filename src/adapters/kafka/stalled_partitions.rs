//! Partitions from which no record comes although the brokers have some.
//!
//! A batch that was damaged on a broker's disk, or that unpacks to more than the client accepts, stops
//! its partition: librdkafka asks for it again and again. Some of these errors it reports at each
//! attempt, without the partition, and others not at all. So the statistics decide, and the error
//! explains.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::statistics::{Partition, Topic};
use tokio::time::Instant;

use crate::health::{Fault, FaultKind, Health};

/// A partition may stand still for this long. `/ready` has to say so within 30 s; a fetch takes a
/// fraction of a second, and a broker that enforces a quota delays one by some seconds.
const STALLED_AFTER: Duration = Duration::from_secs(20);
/// An error that was not repeated for this long is over.
const REPEATED_WITHIN: Duration = Duration::from_secs(3);

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
    /// The positions of partitions that have more records, and since when they are there.
    positions: HashMap<i32, Standstill>,
    /// Those that `consume` has paused.
    paused: HashSet<i32>,
    unreadable: Option<Unreadable>,
}

struct Standstill {
    offset: i64,
    since: Instant,
}

/// The client's error about a batch.
struct Unreadable {
    text: String,
    since: Instant,
    last: Instant,
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
        let now = Instant::now();
        let mut state = self.state.lock();
        let since = state.unreadable.as_ref().map_or(now, |earlier| earlier.since);
        state.unreadable = Some(Unreadable { text: text.to_owned(), since, last: now });
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
        for (number, partition) in &topic.partitions {
            if paused.contains(number) || !has_more(partition) {
                positions.remove(number);
                continue;
            }
            let offset = partition.next_offset;
            let standstill = positions.entry(*number).or_insert(Standstill { offset, since: now });
            if standstill.offset != offset {
                *standstill = Standstill { offset, since: now };
            }
        }
        unreadable.take_if(|error| now - error.last > REPEATED_WITHIN);
        match fault(positions, unreadable.as_ref(), now) {
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
    now: Instant,
) -> Option<(Instant, Fault)> {
    let is_due = |since: Instant| now - since >= STALLED_AFTER;
    let stalled = positions.iter().filter(|(_, standstill)| is_due(standstill.since));
    let first = stalled.min_by_key(|(_, standstill)| standstill.since);
    let error = unreadable.map(|error| format!("the client says: {}", error.text));
    let (since, mut cause) = match (first, unreadable) {
        (Some((number, Standstill { offset, since })), _) => {
            let place = format!("partition {number} at offset {offset}");
            (*since, format!("no record comes from {place} although there are more"))
        }
        // With `check.crcs` the position goes back and forth, because the client misreads what
        // follows the damaged batch.
        (None, Some(error)) if is_due(error.since) => {
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
    use tokio::time::advance;

    use super::*;
    use crate::lease::Lease;

    fn topic(partition: &Partition) -> Topic {
        Topic { partitions: [(3, partition.clone())].into(), ..Topic::default() }
    }

    fn waiting_at(offset: i64) -> Partition {
        let fetch_state = "active".to_owned();
        Partition { fetch_state, next_offset: offset, ls_offset: 9, ..Partition::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_with_more_records_that_does_not_advance_is_a_fault() {
        let health =
            Arc::new(Health::new(Arc::new(Lease::new(Duration::from_secs(30))), Duration::ZERO));
        let stalled = StalledPartitions::new(health.clone());
        let after = async |seconds, partition: Partition| {
            advance(Duration::from_secs(seconds)).await;
            stalled.observe(&topic(&partition));
            health.faults().first()
        };
        assert_eq!(after(0, waiting_at(5)).await, None);
        assert_eq!(after(19, waiting_at(5)).await, None);
        assert_eq!(after(19, waiting_at(6)).await, None, "it has advanced");
        stalled.on_error(Some(Code::BadCompression), "bad batch at 6");
        let fault = after(1, waiting_at(6)).await;
        assert_eq!(fault, None);
        stalled.set_paused(&[3], true);
        assert_eq!(after(30, waiting_at(6)).await, None, "paused");
        stalled.set_paused(&[3], false);
        assert_eq!(after(1, waiting_at(6)).await, None);
        stalled.on_error(Some(Code::BadCompression), "bad batch at 6");
        let fault = after(20, waiting_at(6)).await.unwrap();
        assert!(fault.starts_with("no record comes from partition 3 at offset 6"), "{fault}");
        let prefetched = Partition { fetchq_cnt: 1, ..waiting_at(6) };
        assert_eq!(after(1, prefetched).await, None);
        assert_eq!(after(1, waiting_at(6)).await, None);
        assert_eq!(after(30, waiting_at(9)).await, None, "the end");
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_about_a_batch_that_repeats_is_a_fault_wherever_the_position_is() {
        let health =
            Arc::new(Health::new(Arc::new(Lease::new(Duration::from_secs(30))), Duration::ZERO));
        let stalled = StalledPartitions::new(health.clone());
        for round in 0..=10 {
            let position = round % 2;
            stalled.on_error(Some(Code::BadMessage), "CRC of 2");
            stalled.observe(&topic(&waiting_at(position)));
            advance(Duration::from_secs(2)).await;
        }
        let fault = health.faults().first().unwrap();
        assert!(fault.contains("cannot be read on: the client says: CRC of 2"), "{fault}");
        advance(Duration::from_secs(4)).await;
        stalled.observe(&topic(&waiting_at(3)));
        assert_eq!(health.faults().first(), None, "not repeated");
    }
}
