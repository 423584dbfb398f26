//! Whether the leaders of our partitions answer. The others may be well, and the coordinator too.
//!
//! A consumer asks the leader of each of its partitions for records all the time, and gets an answer
//! several times a second, also where there are none. It asks for nothing while its partitions are
//! paused.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use rdkafka::Statistics;
use rdkafka::statistics::Broker;
use tokio::time::Instant;

use crate::health::Fault;

/// A partition whose leader is silent for longer is a fault. `/ready` has to say so within 30 s; an
/// election takes a few.
const LIMIT: Duration = Duration::from_secs(25);
/// What librdkafka writes where a partition has no leader.
const NO_LEADER: i32 = -1;

/// What the statistics have shown so far.
#[derive(Default)]
pub(super) struct LeaderWatch {
    /// How many answers each broker had sent.
    answers: HashMap<i32, u64>,
    /// When the leader of each partition was seen to be well, by topic and number.
    well: HashMap<(String, i32), Instant>,
}

impl LeaderWatch {
    /// Start again, as if all leaders had answered just now.
    pub(super) fn reset(&mut self) {
        self.well.clear();
    }

    /// Look at the statistics of the consumer. Returns since when the leader of a partition of ours
    /// has been silent, if it has been for too long.
    pub(super) fn observe(&mut self, statistics: &Statistics) -> Option<(Instant, Fault)> {
        let now = Instant::now();
        // Logical ones are further connections to the same brokers.
        let brokers =
            statistics.brokers.values().filter(|b| b.nodeid >= 0 && b.source != "logical");
        let well: HashSet<i32> =
            brokers.filter_map(|broker| self.is_well(broker).then_some(broker.nodeid)).collect();
        let mut last = std::mem::take(&mut self.well);
        let mut silent = Vec::new();
        for (name, topic) in &statistics.topics {
            let ours = topic.partitions.iter().filter(|(number, partition)| {
                **number >= 0 && !matches!(&*partition.fetch_state, "none" | "stopping" | "stopped")
            });
            for (number, partition) in ours {
                let key = (name.clone(), *number);
                let at = last.remove(&key).filter(|_| !well.contains(&partition.leader));
                let at = at.unwrap_or(now);
                if at.elapsed() > LIMIT {
                    silent.push(SilentPartition { at, leader: partition.leader, key: key.clone() });
                }
                self.well.insert(key, at);
            }
        }
        silent.sort_by_key(|partition| (partition.at, partition.key.clone()));
        let SilentPartition { at, leader, .. } = silent.first()?;
        Some((*at, fault(*leader, &silent, statistics)))
    }

    /// Whether the broker has answered since it was looked at last, or has nothing to answer.
    fn is_well(&mut self, broker: &Broker) -> bool {
        let has_answered = self.answers.insert(broker.nodeid, broker.rx) != Some(broker.rx);
        has_answered || (broker.state == "UP" && broker.waitresp_cnt == 0)
    }
}

struct SilentPartition {
    at: Instant,
    leader: i32,
    key: (String, i32),
}

/// The fault of the partitions of this leader.
fn fault(leader: i32, silent: &[SilentPartition], statistics: &Statistics) -> Fault {
    let of_leader = silent.iter().filter(|partition| partition.leader == leader);
    let mut names: Vec<_> = of_leader
        .map(|SilentPartition { key: (topic, number), .. }| format!("{topic}/{number}"))
        .collect();
    names.sort();
    let names = names.join(", ");
    if leader == NO_LEADER {
        let cause = format!("{names} cannot be read: no leader");
        return Fault { cause, remedy: "start the brokers that have its replicas".into() };
    }
    let address = statistics.brokers.values().find(|broker| broker.nodeid == leader);
    let address = address.map_or(String::new(), |broker| format!(" ({})", broker.nodename));
    Fault {
        cause: format!(
            "{names} cannot be read: its leader, broker {leader}{address}, does not answer"
        ),
        remedy: "restart that broker, or repair the network to it".into(),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::statistics::{Partition, Topic};

    use super::*;

    fn broker(nodeid: i32, rx: u64, state: &str, waitresp_cnt: i64) -> Broker {
        let (state, nodename) = (state.into(), format!("b{nodeid}:9092"));
        Broker { nodeid, nodename, rx, state, waitresp_cnt, ..Broker::default() }
    }

    /// Partition 0 is led by broker 1, partition 1 by this one.
    fn statistics(leader: i32, brokers: impl IntoIterator<Item = Broker>) -> Statistics {
        let partition = |leader| {
            let fetch_state = "active".into();
            Partition { leader, fetch_state, ..Partition::default() }
        };
        let partitions = [(0, partition(1)), (1, partition(leader))].into();
        let topic = Topic { partitions, ..Topic::default() };
        let brokers = brokers.into_iter().map(|broker| (broker.nodename.clone(), broker));
        let topics = [("in".to_owned(), topic)].into();
        Statistics { brokers: brokers.collect(), topics, ..Statistics::default() }
    }

    /// What is found after half a minute of these.
    async fn found(watch: &mut LeaderWatch, at: impl Fn(u64) -> Statistics) -> Option<Fault> {
        let mut found = None;
        for second in 0..27 {
            tokio::time::advance(Duration::from_secs(1)).await;
            found = watch.observe(&at(second));
        }
        found.map(|(_, fault)| fault)
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_hangs_is_found_beside_one_that_is_well() {
        let mut watch = LeaderWatch::default();
        let hanging = |second| statistics(2, [broker(1, second, "UP", 1), broker(2, 7, "UP", 1)]);
        let cause = found(&mut watch, hanging).await.unwrap().cause;
        assert_eq!(cause, "in/1 cannot be read: its leader, broker 2 (b2:9092), does not answer");
        assert_eq!(watch.observe(&statistics(2, [broker(2, 8, "UP", 1)])), None, "it answers");
        let reconnecting = |n| statistics(2, [broker(1, n, "UP", 1), broker(2, 8, "CONNECT", 0)]);
        assert!(found(&mut watch, reconnecting).await.is_some());
        let gone = |second| statistics(NO_LEADER, [broker(1, second, "UP", 1)]);
        assert_eq!(found(&mut watch, gone).await.unwrap().cause, "in/1 cannot be read: no leader");
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_is_asked_for_nothing_is_well() {
        let mut watch = LeaderWatch::default();
        let paused = |_| statistics(2, [broker(1, 5, "UP", 0), broker(2, 5, "UP", 0)]);
        assert_eq!(found(&mut watch, paused).await, None);
        let moved = |second| statistics(1, [broker(1, second, "UP", 1), broker(2, 5, "DOWN", 0)]);
        assert_eq!(found(&mut watch, moved).await, None, "the partition has another leader");
    }
}
