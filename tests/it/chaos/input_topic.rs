//! The topic of the escalations, which is deleted and created again while the workers run.
//!
//! What of a deleted topic no worker has read is gone with it. So nothing is published while a topic is
//! deleted: it is known of each record in which topic of this name it was, and which ones had been
//! answered before. [`duty`](super::duty) says what that means for the checker.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::producer::{FutureProducer, Producer as _};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::duty::TopicLife;
use super::environment::{APPEND_TIME, PARTITIONS};
use crate::support::kafka::recreate_topic_with;

/// How long the broker may take to acknowledge everything.
const FLUSH_LIMIT: Duration = Duration::from_secs(60);

/// The topic; shared by those who publish to it and by who deletes it.
pub(super) struct InputTopic {
    pub(super) name: String,
    bootstrap: String,
    /// Read by who publishes, written by who needs that nobody does.
    publishing: RwLock<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The topics of this name so far; the last one is there.
    lives: Vec<TopicLife>,
    /// Those who publish to the last one.
    clients: Vec<FutureProducer>,
    /// Ledger entries that were in work when their worker was killed and their topic deleted.
    abandoned: BTreeSet<String>,
}

impl InputTopic {
    pub(super) fn new(bootstrap: &str, name: String) -> Self {
        let state = State { lives: vec![TopicLife::default()], ..State::default() };
        Self {
            name,
            bootstrap: bootstrap.to_owned(),
            publishing: RwLock::default(),
            state: Mutex::new(state),
        }
    }

    /// The number of the topic that is there.
    pub(super) fn number(&self) -> usize {
        self.state.lock().lives.len() - 1
    }

    pub(super) fn lives(&self) -> Vec<TopicLife> {
        self.state.lock().lives.clone()
    }

    /// A client that publishes to the topic that is there.
    pub(super) fn add_client(&self, client: &FutureProducer) {
        self.state.lock().clients.push(client.clone());
    }

    /// While this exists, the topic is not deleted.
    pub(super) async fn publish(&self) -> RwLockReadGuard<'_, ()> {
        self.publishing.read().await
    }

    /// The same, without waiting.
    pub(super) fn try_publish(&self) -> Option<RwLockReadGuard<'_, ()>> {
        self.publishing.try_read().ok()
    }

    /// Waits until all records are acknowledged. While the result exists, no more are published.
    pub(super) async fn close(&self) -> RwLockWriteGuard<'_, ()> {
        let closed = self.publishing.write().await;
        let clients = self.state.lock().clients.clone();
        let flush = move || clients.iter().try_for_each(|client| client.flush(FLUSH_LIMIT));
        let flushed = tokio::task::spawn_blocking(flush).await.expect("it does not panic");
        flushed.expect("all records are acknowledged");
        closed
    }

    /// Deletes the topic and creates it again. To be called while it is closed.
    pub(super) async fn make_again(&self, killed: bool) {
        recreate_topic_with(&self.bootstrap, &self.name, PARTITIONS, &[APPEND_TIME]).await;
        let mut state = self.state.lock();
        state.lives.last_mut().expect("there is one").killed = killed;
        state.lives.push(TopicLife::default());
        state.clients.clear();
    }

    /// Everything below these offsets has been read, so all of it must be answered.
    pub(super) fn require_below(&self, offsets: Vec<i64>) {
        self.state.lock().lives.last_mut().expect("there is one").required_below = offsets;
    }

    /// Nobody will go on with these ledger entries.
    pub(super) fn abandon(&self, keys: impl IntoIterator<Item = String>) {
        self.state.lock().abandoned.extend(keys);
    }

    pub(super) fn is_abandoned(&self, key: &str) -> bool {
        self.state.lock().abandoned.contains(key)
    }
}
