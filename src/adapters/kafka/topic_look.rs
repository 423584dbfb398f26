//! Whether Kafka delivers the records of revoked partitions again: which topic has their name now, asked
//! by a client of its own.
//!
//! The consumer learns a topic's id from its log ([`TopicIdentity`]), which it hands out while it is
//! polled; in a rebalance it is not polled. An answer that would mean that the topic is gone counts only
//! if it is given twice: a broker that has just started knows no topics, or knows old ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, ClientContext};
use tokio::time::Instant;

use super::rebalance::wait_for;
use super::topic_identity::{TopicIdentity, log_metadata};
use crate::lease::Lease;

/// How long the brokers may take to answer once.
const ANSWER_LIMIT: Duration = Duration::from_millis(600);
/// How long all of it may take: less than the lease is invalid after [`Lease::interrupt`].
const LOOK_LIMIT: Duration = Duration::from_millis(1500);
/// From an answer that has to be confirmed to the next.
const CONFIRM_AFTER: Duration = Duration::from_millis(200);
/// For this many milliseconds the client is polled for its log, at least and at most.
const LOG_POLLS: std::ops::Range<usize> = 10..100;

/// A topic, as the brokers know it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PresentTopic {
    Missing,
    Id(Arc<str>),
    /// It is there. Brokers before Kafka 2.8 name no ids.
    Unnamed,
}

/// The id of the topic that was read, by partition; `None`: it is not known.
pub(super) type TopicsRead = BTreeMap<i32, Option<Arc<str>>>;

/// How partitions are given up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Departure {
    /// Other members may own them.
    pub(super) lost: bool,
    /// Those of a topic that was deleted: Kafka gives nobody the records that were read.
    pub(super) gone: Vec<i32>,
    /// Those whose records Kafka may not deliver again.
    pub(super) in_doubt: Vec<i32>,
    /// All are of a topic that was deleted, so that a loss means nothing: librdkafka calls such partitions
    /// lost, and nobody else is given their records.
    pub(super) is_gone: bool,
}

/// What the client says of its partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// They are ours until we give them up.
    Kept,
    /// They were lost. librdkafka says so too when their topic was deleted.
    Reported,
    /// The client has failed for good.
    ClientFailed,
}

/// Find out how partitions are given up. Where they may be lost, `fence` ends all work for them before
/// the look, which takes its time, and no answer but a certain one makes up for that.
pub(super) fn depart(
    loss: Loss,
    read: &TopicsRead,
    fence: impl FnOnce(),
    look: impl FnOnce() -> Option<PresentTopic>,
) -> Departure {
    let lost = loss != Loss::Kept;
    if lost {
        fence();
    }
    // Where nothing was read there is nothing to release.
    let present = if read.is_empty() { None } else { look() };
    let (mut gone, mut in_doubt) = (Vec::new(), Vec::new());
    for (partition, id) in read {
        match (&present, id) {
            (Some(PresentTopic::Missing), _) => gone.push(*partition),
            (Some(PresentTopic::Id(present)), Some(id)) if present != id => gone.push(*partition),
            (Some(PresentTopic::Id(_)), Some(_)) => {}
            // The topic is there. It may have been created again, but the group loses a partition then.
            (Some(_), _) if !lost => {}
            (None | Some(_), _) => in_doubt.push(*partition),
        }
    }
    // After a failure for good another process may have the name of this one.
    let is_gone = loss != Loss::ClientFailed && !read.is_empty() && gone.len() == read.len();
    Departure { lost: lost && !is_gone, gone, in_doubt, is_gone }
}

struct IdentityLog(TopicIdentity);

impl ClientContext for IdentityLog {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, message: &str) {
        self.0.on_log(message);
    }
}

impl ConsumerContext for IdentityLog {}

/// Ask for a topic, and renew the lease meanwhile. `None`: no broker answers in time, or they do not
/// agree.
pub(super) fn look_at(
    config: ClientConfig,
    topic: Arc<str>,
    read: &TopicsRead,
    lease: &Lease,
) -> Option<PresentTopic> {
    let (sender, found) = channel();
    let read: Vec<_> = read.values().flatten().cloned().collect();
    let look = move || {
        let client = client(config, &topic)?;
        confirmed(|| ask(&client, &topic), &read)
    };
    // On a thread of its own, because closing a client may block without a broker.
    let run = move || sender.send(look()).unwrap_or_default();
    thread::Builder::new().name("kafka-topic".into()).spawn(run).ok()?;
    wait_for(&found, Instant::now() + LOOK_LIMIT, lease, || {}).ok().flatten()
}

/// The answer, if it is the topic that was read; another one only if it is given twice.
fn confirmed(ask: impl Fn() -> Option<PresentTopic>, read: &[Arc<str>]) -> Option<PresentTopic> {
    let first = ask()?;
    let means_gone = match &first {
        PresentTopic::Missing => true,
        PresentTopic::Id(present) => read.iter().any(|id| id != present),
        PresentTopic::Unnamed => false,
    };
    if !means_gone {
        return Some(first);
    }
    thread::sleep(CONFIRM_AFTER);
    ask().filter(|second| *second == first)
}

fn client(mut config: ClientConfig, topic: &str) -> Option<BaseConsumer<IdentityLog>> {
    log_metadata(&mut config);
    config.create_with_context(IdentityLog(TopicIdentity::new(topic))).ok()
}

fn ask(client: &BaseConsumer<IdentityLog>, topic: &str) -> Option<PresentTopic> {
    let metadata = client.fetch_metadata(Some(topic), ANSWER_LIMIT).ok()?;
    let found = metadata.topics().iter().find(|found| found.name() == topic)?;
    let error = found.error().map(Code::from);
    let mut id = None;
    for polls in 0..LOG_POLLS.end {
        id = client.context().0.id();
        if id.is_some() && polls >= LOG_POLLS.start || error.is_some() {
            break;
        }
        // Nothing is assigned, so no records come.
        drop(client.poll(Duration::from_millis(1)));
    }
    present(error, found.partitions().len(), id)
}

/// What one answer says. Of errors only one says that there is no such topic.
fn present(error: Option<Code>, partitions: usize, id: Option<Arc<str>>) -> Option<PresentTopic> {
    match error {
        Some(Code::UnknownTopicOrPartition) => Some(PresentTopic::Missing),
        None if partitions > 0 => Some(id.map_or(PresentTopic::Unnamed, PresentTopic::Id)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    fn id(id: &str) -> Option<PresentTopic> {
        Some(PresentTopic::Id(id.into()))
    }

    fn missing() -> Option<PresentTopic> {
        Some(PresentTopic::Missing)
    }

    fn read(ids: &[Option<&str>]) -> TopicsRead {
        (0..).zip(ids.iter().map(|id| id.map(Into::into))).collect()
    }

    fn departure(
        loss: Loss,
        ids: &[Option<&str>],
        present: Option<PresentTopic>,
    ) -> (bool, Vec<i32>, Vec<i32>) {
        let Departure { lost, gone, in_doubt, .. } = depart(loss, &read(ids), || {}, || present);
        (lost, gone, in_doubt)
    }

    #[test]
    fn a_loss_is_fenced_before_anybody_is_asked() {
        for (loss, expected) in [
            (Loss::Kept, &["look"][..]),
            (Loss::Reported, &["fence", "look"]),
            (Loss::ClientFailed, &["fence", "look"]),
        ] {
            let steps = RefCell::new(Vec::new());
            let look = || {
                steps.borrow_mut().push("look");
                id("one")
            };
            depart(loss, &read(&[Some("one")]), || steps.borrow_mut().push("fence"), look);
            assert_eq!(*steps.borrow(), expected, "{loss:?}");
        }
    }

    #[test]
    fn only_a_topic_that_is_certainly_gone_explains_a_loss() {
        let of = |present| departure(Loss::Reported, &[Some("one"), Some("one")], present);
        assert_eq!(of(id("one")), (true, vec![], vec![]), "the group has given them to others");
        assert_eq!(of(id("two")), (false, vec![0, 1], vec![]));
        assert_eq!(of(missing()), (false, vec![0, 1], vec![]));
        assert_eq!(of(None), (true, vec![], vec![0, 1]), "nobody answers");
        assert_eq!(of(Some(PresentTopic::Unnamed)), (true, vec![], vec![0, 1]));
        let mixed = departure(Loss::Reported, &[Some("one"), Some("two"), None], id("two"));
        assert_eq!(mixed, (true, vec![0], vec![2]), "others may own one of them");
        let failed = departure(Loss::ClientFailed, &[Some("one")], missing());
        assert_eq!(failed, (true, vec![0], vec![]), "another process may have its name");
        assert_eq!(departure(Loss::Reported, &[], missing()), (true, vec![], vec![]));
    }

    #[test]
    fn a_revocation_without_an_answer_leaves_in_doubt_what_is_delivered_again() {
        let of = |ids: &[_], present| departure(Loss::Kept, ids, present);
        assert_eq!(of(&[Some("one")], None), (false, vec![], vec![0]));
        assert_eq!(of(&[Some("one")], id("one")), (false, vec![], vec![]));
        assert_eq!(of(&[Some("one")], id("two")), (false, vec![0], vec![]));
        assert_eq!(
            of(&[None], Some(PresentTopic::Unnamed)),
            (false, vec![], vec![]),
            "old brokers"
        );
    }

    #[test]
    fn an_answer_that_means_gone_is_confirmed() {
        let found = |answers: [Option<PresentTopic>; 2]| {
            let asked = Cell::new(0);
            let ask = || answers[asked.replace(asked.get() + 1)].clone();
            (confirmed(ask, &["one".into()]), asked.get())
        };
        assert_eq!(found([id("one"), None]), (id("one"), 1), "each rebalance asks once");
        assert_eq!(found([missing(), missing()]), (missing(), 2));
        assert_eq!(found([missing(), id("one")]), (None, 2), "the first broker had just started");
        assert_eq!(found([id("old"), id("one")]), (None, 2), "its metadata were outdated");
        assert_eq!(found([id("two"), id("two")]), (id("two"), 2));
        assert_eq!(found([missing(), None]), (None, 2));
    }

    #[test]
    fn of_errors_only_one_says_that_the_topic_is_missing() {
        assert_eq!(present(Some(Code::UnknownTopicOrPartition), 0, None), missing());
        let others = [Code::LeaderNotAvailable, Code::TopicAuthorizationFailed, Code::UnknownTopic];
        for code in others {
            assert_eq!(present(Some(code), 0, Some("one".into())), None, "{code}");
        }
        assert_eq!(present(None, 0, None), None, "no partitions and no error");
        assert_eq!(present(None, 1, Some("one".into())), id("one"));
        assert_eq!(present(None, 1, None), Some(PresentTopic::Unnamed));
    }
}
