//! Whether the topic of this name is still the one that the offsets belong to.
//!
//! A topic that is deleted and created again starts at offset 0. librdkafka goes on at the old offset
//! if the new topic has that many records (`rdkafka_topic.c` says so), and no safe function of its API
//! returns the topic's id. But it logs each change of the id, in the debug
//! context [`DEBUG_CONTEXT`]. A test on a real broker holds the form of that line.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// The value of librdkafka's property `debug` that the identity needs.
pub(super) const DEBUG_CONTEXT: &str = "metadata";

/// The id of one topic, as far as the client has logged it. Brokers before Kafka 2.8 have none.
pub(super) struct TopicIdentity {
    change_prefix: String,
    id: Mutex<Option<String>>,
    changed: AtomicBool,
}

impl TopicIdentity {
    pub(super) fn new(topic: &str) -> Self {
        let change_prefix = format!("Topic {topic} changed id from ");
        Self { change_prefix, id: Mutex::default(), changed: AtomicBool::new(false) }
    }

    /// Read a line of librdkafka's log.
    pub(super) fn on_log(&self, line: &str) {
        let Some((_, ids)) = line.split_once(&self.change_prefix) else { return };
        let Some((_, new)) = ids.split_once(" to ") else { return };
        let is_zero = new.bytes().all(|byte| byte == b'A');
        if !is_zero && let Some(old) = self.id.lock().replace(new.to_owned()) {
            self.changed.fetch_or(old != new, Ordering::Relaxed);
        }
    }

    /// The id; `None`: unknown.
    pub(super) fn id(&self) -> Option<String> {
        self.id.lock().clone()
    }

    /// Whether the id has changed since the last call.
    pub(super) fn take_change(&self) -> bool {
        self.changed.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_id_of_this_topic_is_a_change() {
        let identity = TopicIdentity::new("in");
        let line = |topic: &str, from: &str, to: &str| {
            identity.on_log(&format!("[thrd:main]: Topic {topic} changed id from {from} to {to}"));
            identity.take_change()
        };
        let none = "AAAAAAAAAAAAAAAAAAAAAA";
        assert!(!line("in", none, "idOne"), "the first one");
        assert!(!line("out", "idOne", "idTwo"), "another topic");
        assert!(!line("in", "idOne", none), "it is being deleted");
        assert!(!line("in", none, "idOne"), "the same again");
        assert!(line("in", none, "idTwo"));
        assert_eq!(identity.id().as_deref(), Some("idTwo"));
    }
}
