//! Finds out whether a message has been published already, by reading its topic.
//!
//! Needed after a crash between the broker's acknowledgement and its entry in the ledger, after a
//! process pause, and before a message is sent again that may have arrived. The topic is read from
//! the time the message was stored to the end the topic has now; only then is it absent. Requests
//! that arrive together share one reading. Without a broker the lookup waits.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::KafkaSettings;
use super::range_reader::{Boundary, TopicFollower};
use super::remedy::{TopicUse, remedy};
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

/// What a lookup has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LookupResult {
    /// Where the message is; `None`: it is not visible.
    pub(super) position: Option<Position>,
    /// Whether the topic has more than one replica, which can hide an appended record.
    pub(super) has_replicas: bool,
}

/// The lookup; one per producer.
pub(super) struct PublishedLookup {
    health: Arc<Health>,
    throttle: LogThrottle,
    failing_since: Mutex<Option<Instant>>,
    /// Lookups that somebody waits for.
    open: Mutex<usize>,
    waiting: Mutex<Vec<LookupRequest>>,
    /// Held while a topic is read, so that there is one reading at a time.
    reading: tokio::sync::Mutex<()>,
}

struct LookupRequest {
    channel: Channel,
    /// The message in all its forms: whole, and truncated as far as the topic may have required.
    forms: Vec<Message>,
    since: Timestamp,
    reply: oneshot::Sender<LookupResult>,
}

impl PublishedLookup {
    pub(super) fn new(health: Arc<Health>) -> Self {
        Self {
            health,
            throttle: LogThrottle::default(),
            failing_since: Mutex::default(),
            open: Mutex::default(),
            waiting: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        }
    }

    /// Look for exactly this message in its topic, from `since` on.
    pub(super) async fn find(
        &self,
        settings: &KafkaSettings,
        message: &Message,
        since: Timestamp,
    ) -> LookupResult {
        let _open = OpenLookup::begin(self);
        loop {
            let (reply, replied) = oneshot::channel();
            let request =
                LookupRequest { channel: message.channel, forms: forms(message), since, reply };
            self.waiting.lock().push(request);
            let reading = self.reading.lock().await;
            // All requests that have arrived by now. Empty where another task has just served ours.
            let requests = std::mem::take(&mut *self.waiting.lock());
            if !requests.is_empty() {
                let settings = settings.clone();
                let read = spawn_blocking(move || {
                    read_topics(&settings, &requests).map(|found| (requests, found))
                });
                match read.await {
                    Ok(Ok((requests, found))) => {
                        self.end_fault();
                        reply_to_all(requests, found);
                    }
                    // The requests were dropped; each of their tasks asks again.
                    Ok(Err(failure)) => sleep(self.on_failure(&failure)).await,
                    Err(_) => sleep(RETRY_PAUSE).await,
                }
            }
            drop(reading);
            // An error means that the reading failed or that its task was cancelled.
            if let Ok(found) = replied.await {
                return found;
            }
        }
    }
}

impl PublishedLookup {
    fn end_fault(&self) {
        *self.failing_since.lock() = None;
        self.health.faults().clear(FaultKind::LookupFailed);
    }

    /// Report a failure where it will last or has lasted. Returns how long to pause.
    fn on_failure(&self, failure: &LookupFailure) -> Duration {
        let LookupFailure { topic, error } = failure;
        let refusal = error.downcast_ref::<Code>().filter(|code| is_refusal(**code));
        let remedy = refusal.and_then(|code| remedy(*code, &TopicUse::Read(topic)));
        let since = *self.failing_since.lock().get_or_insert_with(Instant::now);
        if refusal.is_some() || since.elapsed() > FAULT_AFTER {
            let cause =
                format!("answers that may be published already cannot be looked up: {error:#}");
            let remedy = remedy.unwrap_or_default();
            self.health.faults().report(FaultKind::LookupFailed, since, Fault { cause, remedy });
        } else {
            let error = format!("{error:#}");
            let throttle = &self.throttle;
            warn_throttled!(throttle, error, "failed to look up published messages, trying again");
        }
        if refusal.is_some() { REFUSED_PAUSE } else { RETRY_PAUSE }
    }
}

/// A lookup that somebody waits for. Without one a failure blocks nobody: the last one that ends, also
/// because its partition was revoked, ends the fault.
struct OpenLookup<'l>(&'l PublishedLookup);

impl<'l> OpenLookup<'l> {
    fn begin(lookup: &'l PublishedLookup) -> Self {
        *lookup.open.lock() += 1;
        Self(lookup)
    }
}

impl Drop for OpenLookup<'_> {
    fn drop(&mut self) {
        let mut open = self.0.open.lock();
        *open -= 1;
        if *open == 0 {
            self.0.end_fault();
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

/// Why a topic could not be read.
struct LookupFailure {
    topic: String,
    error: anyhow::Error,
}

/// For each request what became of its message.
fn read_topics(
    settings: &KafkaSettings,
    requests: &[LookupRequest],
) -> Result<Vec<LookupResult>, LookupFailure> {
    let mut results = vec![LookupResult { position: None, has_replicas: true }; requests.len()];
    for channel in [Channel::Outcomes, Channel::DeadLetters] {
        let of_channel = requests.iter().filter(|request| request.channel == channel);
        let Some(since) = of_channel.map(|request| request.since).min() else { continue };
        let start = Boundary::At(since.saturating_sub(MAX_CLOCK_SKEW).unwrap_or(Timestamp::MIN));
        let topic = settings.topics.of(channel);
        let failure = |error| LookupFailure { topic: topic.to_owned(), error };
        let mut follower =
            TopicFollower::open(settings, topic, &start, REQUEST_LIMIT).map_err(failure)?;
        let of_channel = |pair: &(&LookupRequest, &mut LookupResult)| pair.0.channel == channel;
        for (_, result) in requests.iter().zip(&mut results).filter(of_channel) {
            result.has_replicas = follower.has_replicas();
        }
        while !follower.is_at_end() {
            let Some(record) = follower.next(POLL).map_err(failure)? else { continue };
            for (request, result) in requests.iter().zip(&mut results).filter(of_channel) {
                if request.matches(&record) {
                    result.position.get_or_insert_with(|| record.position.clone());
                }
            }
        }
    }
    Ok(results)
}

fn reply_to_all(requests: Vec<LookupRequest>, results: Vec<LookupResult>) {
    for (request, result) in requests.into_iter().zip(results) {
        // Fails where the requesting task was cancelled.
        drop(request.reply.send(result));
    }
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
