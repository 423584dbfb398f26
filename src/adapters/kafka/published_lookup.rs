//! Finds out whether a message has been published already, by reading its topic.
//!
//! Needed after a crash between the broker's acknowledgement and its entry in the ledger, after a
//! process pause, and before a message is sent again that may have arrived. The topic is read from
//! the time the message was stored to the end the topic has now; only then is it absent. The next
//! lookup of the message goes on from there. Requests that arrive together share one reading. Without
//! a broker the lookup waits; without the leader of a partition only the messages that may be there do.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use jiff::Timestamp;
use parking_lot::Mutex;
use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::KafkaSettings;
use super::range_reader::{Boundary, Leaderless, TopicFollower};
use super::remedy::{TopicUse, remedy};
use crate::clock::millis;
use crate::domain::record::{Position, Record};
use crate::domain::wire::{Channel, Message};
use crate::health::{Fault, FaultKind, Health};
use crate::telemetry::log_throttle::{LogThrottle, warn_throttled};

/// How far the clocks of brokers and workers may differ.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(300);
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// After a refusal, which lasts until somebody repairs its cause.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// Failures that may pass are a fault after this time. `/ready` has to say so within 30 s.
const FAULT_AFTER: Duration = Duration::from_secs(20);

/// Where a lookup begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LookupStart {
    /// The message was enqueued or stored at this time, and is not in its topic before.
    At(Timestamp),
    /// An earlier lookup has read each partition up to this offset.
    After(Arc<BTreeMap<i32, i64>>),
}

impl LookupStart {
    /// Not after the present time: the clock may have been set back since the message was stored, and is
    /// then published with an earlier time.
    pub(super) fn not_after(self, now: Timestamp) -> Self {
        match self {
            Self::At(since) => Self::At(since.min(now)),
            after @ Self::After(_) => after,
        }
    }
}

/// What a lookup has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LookupResult {
    /// Where the message is; `None`: it is not visible.
    pub(super) position: Option<Position>,
    /// Whether the topic has more than one replica, which can hide an appended record.
    pub(super) has_replicas: bool,
    /// Up to which offset each partition was read; `None`: some have no leader.
    pub(super) read_to: Option<Arc<BTreeMap<i32, i64>>>,
}

/// The lookup; one per producer.
pub(super) struct PublishedLookup {
    health: Arc<Health>,
    throttle: LogThrottle,
    outcomes: ChannelLookup,
    dead_letters: ChannelLookup,
}

/// The lookup in one of the topics. One that cannot be read delays no message of the other.
#[derive(Default)]
struct ChannelLookup {
    failing: Mutex<Option<FailingLookup>>,
    /// Lookups that somebody waits for.
    open: Mutex<usize>,
    waiting: Mutex<Vec<LookupRequest>>,
    /// Held while the topic is read, so that there is one reading at a time.
    reading: tokio::sync::Mutex<()>,
}

struct FailingLookup {
    since: Instant,
    /// `None`: it may pass soon.
    fault: Option<Fault>,
}

struct LookupRequest {
    /// The message in all its forms: whole, and truncated as far as the topic may have required.
    forms: Vec<Message>,
    start: LookupStart,
    /// Where it can be, if at all; `None`: anywhere.
    partition: Option<i32>,
    reply: oneshot::Sender<LookupResult>,
}

impl PublishedLookup {
    pub(super) fn new(health: Arc<Health>) -> Self {
        Self {
            health,
            throttle: LogThrottle::default(),
            outcomes: ChannelLookup::default(),
            dead_letters: ChannelLookup::default(),
        }
    }

    fn of(&self, channel: Channel) -> &ChannelLookup {
        match channel {
            Channel::Outcomes => &self.outcomes,
            Channel::DeadLetters => &self.dead_letters,
        }
    }

    /// Look for exactly this message in its topic, where it is known in which partition it can be
    /// there only.
    pub(super) async fn find(
        &self,
        settings: &KafkaSettings,
        message: &Message,
        start: &LookupStart,
        partition: Option<i32>,
    ) -> LookupResult {
        let _open = OpenLookup::begin(self, message.channel);
        let lookup = self.of(message.channel);
        loop {
            let (reply, replied) = oneshot::channel();
            let (forms, start) = (forms(message), start.clone());
            lookup.waiting.lock().push(LookupRequest { forms, start, partition, reply });
            let reading = lookup.reading.lock().await;
            // All requests that have arrived by now. Empty where another task has just served ours.
            let requests = std::mem::take(&mut *lookup.waiting.lock());
            if !requests.is_empty() {
                let mut settings = settings.clone();
                // What we have published is there while the transaction of another publisher is open.
                let isolation = ("isolation.level".into(), "read_uncommitted".into());
                settings.consumer_properties.extend([isolation]);
                let topic = settings.topics.of(message.channel).to_owned();
                let asked = topic.clone();
                let read = spawn_blocking(move || {
                    read_topic(&settings, &asked, &requests).map(|found| (requests, found))
                });
                match read.await {
                    Ok(Ok((requests, found))) => match reply_to_all(requests, found) {
                        None => self.end_fault(lookup),
                        // Those without a reply ask again.
                        Some(error) => {
                            self.on_failure(lookup, &topic, &error);
                        }
                    },
                    // The requests were dropped; each of their tasks asks again.
                    Ok(Err(error)) => sleep(self.on_failure(lookup, &topic, &error)).await,
                    Err(_) => sleep(RETRY_PAUSE).await,
                }
            }
            drop(reading);
            // An error means that the reading failed or that its task was cancelled.
            if let Ok(found) = replied.await {
                return found;
            }
            sleep(RETRY_PAUSE).await;
        }
    }
}

impl PublishedLookup {
    fn end_fault(&self, lookup: &ChannelLookup) {
        *lookup.failing.lock() = None;
        self.show_faults();
    }

    /// Of two topics that cannot be read the one counts that has failed for longer.
    fn show_faults(&self) {
        let fault = |lookup: &ChannelLookup| {
            let failing = lookup.failing.lock();
            failing.as_ref().and_then(|failing| Some((failing.since, failing.fault.clone()?)))
        };
        let faults = [fault(&self.outcomes), fault(&self.dead_letters)];
        match faults.into_iter().flatten().min_by_key(|(since, _)| *since) {
            Some((since, fault)) => {
                self.health.faults().report(FaultKind::LookupFailed, since, fault);
            }
            None => self.health.faults().clear(FaultKind::LookupFailed),
        }
    }

    /// Report a failure where it will last or has lasted. Returns how long to pause.
    fn on_failure(&self, lookup: &ChannelLookup, topic: &str, error: &anyhow::Error) -> Duration {
        let refusal = error.downcast_ref::<Code>().filter(|code| is_refusal(**code));
        let remedy = refusal.and_then(|code| remedy(*code, &TopicUse::Read(topic)));
        let lasts = {
            let mut failing = lookup.failing.lock();
            let failing =
                failing.get_or_insert_with(|| FailingLookup { since: Instant::now(), fault: None });
            let lasts = refusal.is_some() || failing.since.elapsed() > FAULT_AFTER;
            failing.fault = lasts.then(|| Fault {
                cause: format!(
                    "answers that may be published already cannot be looked up: {error:#}"
                ),
                remedy: remedy.unwrap_or_default(),
            });
            lasts
        };
        self.show_faults();
        if !lasts {
            let error = format!("{error:#}");
            let throttle = &self.throttle;
            warn_throttled!(throttle, error, "failed to look up published messages, trying again");
        }
        if refusal.is_some() { REFUSED_PAUSE } else { RETRY_PAUSE }
    }
}

/// A lookup that somebody waits for. Without one a failure blocks nobody: the last one that ends, also
/// because its partition was revoked, ends the fault.
struct OpenLookup<'l> {
    all: &'l PublishedLookup,
    channel: Channel,
}

impl<'l> OpenLookup<'l> {
    fn begin(all: &'l PublishedLookup, channel: Channel) -> Self {
        *all.of(channel).open.lock() += 1;
        Self { all, channel }
    }
}

impl Drop for OpenLookup<'_> {
    fn drop(&mut self) {
        let lookup = self.all.of(self.channel);
        let mut open = lookup.open.lock();
        *open -= 1;
        if *open == 0 {
            self.all.end_fault(lookup);
        }
    }
}

/// Asking again does not help before somebody has repaired something.
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopic
    )
}

/// For each request what became of its message, or why that is not known.
type LookupResults = Vec<anyhow::Result<LookupResult>>;

/// An error concerns all requests.
fn read_topic(
    settings: &KafkaSettings,
    topic: &str,
    requests: &[LookupRequest],
) -> anyhow::Result<LookupResults> {
    let by_key = by_key(requests);
    let mut positions = vec![None; requests.len()];
    let starts = starts(requests.iter().map(|request| &request.start));
    let (began, mut records) = (Instant::now(), 0_u64);
    let mut follower =
        TopicFollower::open(settings, topic, &starts, REQUEST_LIMIT, Leaderless::Skip)?;
    while !follower.is_at_end() {
        let Some(record) = follower.next(POLL)? else { continue };
        records += 1;
        for index in by_key.get(&record.key.as_deref()).into_iter().flatten() {
            if requests[*index].matches(&record) {
                positions[*index].get_or_insert_with(|| record.position.clone());
            }
        }
    }
    let (messages, elapsed_ms) = (requests.len(), millis(began.elapsed()));
    debug!(kafka.topic = topic, messages, records, elapsed_ms, "read a topic for messages");
    let (leaderless, has_replicas) = (follower.leaderless(), follower.has_replicas());
    let read_to = leaderless.is_empty().then(|| Arc::new(follower.opened_at_end().clone()));
    let result = |(request, position): (&LookupRequest, Option<Position>)| {
        let is_unread = |partition| leaderless.contains(&partition);
        let may_be_unread = request.partition.map_or(read_to.is_none(), is_unread);
        if position.is_none() && may_be_unread {
            return Err(anyhow!("its partitions {leaderless:?} have no leader"));
        }
        Ok(LookupResult { position, has_replicas, read_to: read_to.clone() })
    };
    Ok(requests.iter().zip(positions).map(result).collect())
}

/// Which requests a record with this key may answer: hundreds of messages may be looked for among tens
/// of thousands. A dead letter that was truncated has lost its key.
fn by_key(requests: &[LookupRequest]) -> HashMap<Option<&[u8]>, Vec<usize>> {
    let mut by_key: HashMap<_, Vec<usize>> = HashMap::new();
    for (index, request) in requests.iter().enumerate() {
        for form in &request.forms {
            let of_key = by_key.entry(form.key.as_deref()).or_default();
            if of_key.last() != Some(&index) {
                of_key.push(index);
            }
        }
    }
    by_key
}

/// The boundaries of these lookups; the earliest one counts.
fn starts<'s>(starts: impl Iterator<Item = &'s LookupStart>) -> Vec<Boundary> {
    let mut since: Option<Timestamp> = None;
    let mut read_to: Option<BTreeMap<i32, i64>> = None;
    for start in starts {
        match (start, &mut read_to) {
            (LookupStart::At(time), _) => since = Some(since.map_or(*time, |s| s.min(*time))),
            (LookupStart::After(offsets), None) => read_to = Some((**offsets).clone()),
            // A partition that one of them has not seen is read from its start.
            (LookupStart::After(offsets), Some(read_to)) => {
                read_to.retain(|partition, _| offsets.contains_key(partition));
                for (partition, offset) in read_to {
                    *offset = offsets[partition].min(*offset);
                }
            }
        }
    }
    let since = since
        .map(|since| Boundary::At(since.saturating_sub(MAX_CLOCK_SKEW).unwrap_or(Timestamp::MIN)));
    since.into_iter().chain(read_to.map(Boundary::After)).collect()
}

/// Returns why some have no reply.
fn reply_to_all(requests: Vec<LookupRequest>, results: LookupResults) -> Option<anyhow::Error> {
    let mut failed = None;
    for (request, result) in requests.into_iter().zip(results) {
        match result {
            // Fails where the requesting task was cancelled.
            Ok(found) => drop(request.reply.send(found)),
            Err(error) => failed = Some(error),
        }
    }
    failed
}

/// The message and every truncated form that it may have been published in.
fn forms(message: &Message) -> Vec<Message> {
    let mut forms = vec![message.clone()];
    let mut truncated = message.clone();
    while truncated.truncate() {
        forms.push(truncated.clone());
    }
    forms
}

impl LookupRequest {
    fn matches(&self, record: &Record) -> bool {
        self.forms.iter().any(|form| {
            record.key == form.key && record.value == form.value && record.headers == form.headers
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::wire::headers;

    fn after(offsets: &[(i32, i64)]) -> LookupStart {
        LookupStart::After(Arc::new(offsets.iter().copied().collect()))
    }

    #[test]
    fn a_lookup_begins_in_the_past_although_the_clock_was_set_back() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(LookupStart::At(at(5000)).not_after(at(1400)), LookupStart::At(at(1400)));
        assert_eq!(LookupStart::At(at(1000)).not_after(at(1400)), LookupStart::At(at(1000)));
        assert_eq!(after(&[(0, 7)]).not_after(at(0)), after(&[(0, 7)]));
    }

    #[test]
    fn a_record_answers_a_request_under_the_key_of_each_form() {
        let headers = [headers::ERROR_CLASS, headers::ERROR].map(|name| (name.to_owned(), None));
        let request = |key: &[u8]| {
            let (key, value) = (Some(key.to_vec()), Some(b"value".to_vec()));
            let message =
                Message { channel: Channel::DeadLetters, key, value, headers: headers.to_vec() };
            let start = LookupStart::At(Timestamp::UNIX_EPOCH);
            let reply = oneshot::channel().0;
            LookupRequest { forms: forms(&message), start, partition: None, reply }
        };
        let requests = [request(b"small"), request(&[b'k'; 300]), request(b"small")];
        let by_key = by_key(&requests);
        assert_eq!(by_key[&Some(&b"small"[..])], [0, 2]);
        assert_eq!(by_key[&Some(&[b'k'; 300][..])], [1]);
        assert_eq!(by_key[&None], [1], "it loses a large key");
    }

    #[test]
    fn lookups_that_share_a_reading_begin_where_the_first_of_them_does() {
        let at = |second| LookupStart::At(Timestamp::from_second(second).unwrap());
        let all = [at(1000), after(&[(0, 7), (1, 9), (2, 1)]), at(900), after(&[(0, 8), (1, 4)])];
        let expected = [
            Boundary::At(Timestamp::from_second(600).unwrap()),
            Boundary::After([(0, 7), (1, 4)].into()),
        ];
        assert_eq!(starts(all.iter()), expected, "a new partition is read from its start");
        assert_eq!(starts([after(&[])].iter()), [Boundary::After(BTreeMap::new())]);
    }
}
