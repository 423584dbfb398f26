//! Whether the topic of this name is still the one that the offsets belong to.
//!
//! A topic that is deleted and created again starts at offset 0. librdkafka goes on at the old offset
//! if the new topic has that many records (`rdkafka_topic.c` says so), and no safe function of its API
//! returns the topic's id. But it logs each change of the id, in the debug
//! context [`DEBUG_CONTEXT`]. A test on a real broker holds the form of that line.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use tokio::time::Instant;

/// The value of librdkafka's property `debug` that the identity needs, and `lost_brokers`.
const DEBUG_CONTEXT: &str = "metadata";

/// Let a client log what it learns about topics and brokers, besides what its own `debug` asks for.
pub(super) fn log_metadata(config: &mut ClientConfig) {
    let debug = config.get("debug").map(|contexts| format!("{contexts},{DEBUG_CONTEXT}"));
    config.set("debug", debug.as_deref().unwrap_or(DEBUG_CONTEXT));
    config.set_log_level(RDKafkaLogLevel::Debug);
}

/// An id that has been the same for this long is believed. A broker with outdated metadata may name
/// a deleted topic; reading fails with its id, so the client asks again within a second.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// The id of one topic, as far as the client has logged it. Brokers before Kafka 2.8 have none.
pub(super) struct TopicIdentity {
    change_prefix: String,
    seen: Mutex<Option<SeenId>>,
}

struct SeenId {
    /// Of the topic that this client has known first.
    first: Arc<str>,
    id: Arc<str>,
    since: Instant,
}

impl TopicIdentity {
    pub(super) fn new(topic: &str) -> Self {
        Self { change_prefix: format!("Topic {topic} changed id from "), seen: Mutex::default() }
    }

    /// Read a line of librdkafka's log.
    pub(super) fn on_log(&self, line: &str) {
        let Some((_, ids)) = line.split_once(&self.change_prefix) else { return };
        let Some((_, new)) = ids.split_once(" to ") else { return };
        let is_zero = new.bytes().all(|byte| byte == b'A');
        let mut seen = self.seen.lock();
        if !is_zero && seen.as_ref().is_none_or(|seen| *seen.id != *new) {
            let id: Arc<str> = new.into();
            let first = seen.as_ref().map_or_else(|| id.clone(), |seen| seen.first.clone());
            *seen = Some(SeenId { first, id, since: Instant::now() });
        }
    }

    /// The id that was seen last; `None`: unknown.
    pub(super) fn id(&self) -> Option<Arc<str>> {
        self.seen.lock().as_ref().map(|seen| seen.id.clone())
    }

    /// Whether the client has known another topic of this name before.
    pub(super) fn has_changed(&self) -> bool {
        self.seen.lock().as_ref().is_some_and(|seen| seen.id != seen.first)
    }

    /// The id, if it has not changed for a while.
    pub(super) fn settled_id(&self) -> Option<Arc<str>> {
        let seen = self.seen.lock();
        let settled = seen.as_ref().filter(|seen| seen.since.elapsed() >= SETTLED_AFTER)?;
        Some(settled.id.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &str = "AAAAAAAAAAAAAAAAAAAAAA";

    fn log(identity: &TopicIdentity, topic: &str, from: &str, to: &str) {
        identity.on_log(&format!("[thrd:main]: Topic {topic} changed id from {from} to {to}"));
    }

    #[tokio::test(start_paused = true)]
    async fn only_another_id_of_this_topic_is_a_change() {
        let identity = TopicIdentity::new("in");
        assert_eq!(identity.id(), None);
        log(&identity, "in", NONE, "idOne");
        log(&identity, "out", "idOne", "idTwo");
        log(&identity, "in", "idOne", NONE);
        assert_eq!(identity.id().as_deref(), Some("idOne"), "another topic; it is being deleted");
        tokio::time::advance(SETTLED_AFTER).await;
        log(&identity, "in", NONE, "idOne");
        assert_eq!(identity.settled_id().as_deref(), Some("idOne"), "the same again");
        assert!(!identity.has_changed());
        log(&identity, "in", NONE, "idTwo");
        assert_eq!(identity.id().as_deref(), Some("idTwo"));
        assert!(identity.has_changed());
    }

    #[tokio::test(start_paused = true)]
    async fn an_id_that_changes_back_and_forth_is_not_settled() {
        let identity = TopicIdentity::new("in");
        log(&identity, "in", NONE, "new");
        tokio::time::advance(SETTLED_AFTER).await;
        for _ in 0..10 {
            log(&identity, "in", "new", "old");
            tokio::time::advance(SETTLED_AFTER / 2).await;
            assert_eq!(identity.settled_id(), None);
            log(&identity, "in", "old", "new");
            tokio::time::advance(SETTLED_AFTER / 2).await;
            assert_eq!(identity.settled_id(), None);
        }
        tokio::time::advance(SETTLED_AFTER / 2).await;
        assert_eq!(identity.settled_id().as_deref(), Some("new"));
    }
}
