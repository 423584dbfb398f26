//! An embedded Kafka broker, for a demo and for speed on one machine.
//!
//! It is librdkafka's own simulation: it keeps everything in memory (per partition at most 5 MiB,
//! then the oldest goes), listens on a free port of 127.0.0.1, and makes topics only at its start.
//! Clients should use `group.protocol=consumer`: the older protocol takes seconds to join here.
//! It is no Kafka: what is tried on it never proves anything about a real cluster.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

const BETWEEN_ORDERS: Duration = Duration::from_millis(5);

/// A running broker; dropping it ends it.
pub struct Broker {
    bootstrap_servers: String,
    /// Its end wakes the thread up.
    living: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Broker {
    /// A broker with these topics, each with so many partitions.
    pub fn start(topics: &[(&str, i32)]) -> anyhow::Result<Self> {
        let topics: Vec<_> =
            topics.iter().map(|(name, partitions)| ((*name).to_owned(), *partitions)).collect();
        let (ready, started) = sync_channel(1);
        let (living, ended) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("embedded-broker".into())
            .spawn(move || live(&topics, &ready, &ended))
            .context("failed to start the embedded broker's thread")?;
        let bootstrap_servers =
            started.recv().context("the embedded broker ended at its start")??;
        Ok(Self { bootstrap_servers, living: Some(living), thread: Some(thread) })
    }

    /// Where it listens, as `host:port`.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.living.take());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the embedded broker panicked");
        }
    }
}

/// The cluster can neither be sent to nor shared with another thread: it lives on its own.
fn live(
    topics: &[(String, i32)],
    ready: &SyncSender<anyhow::Result<String>>,
    ended: &Receiver<()>,
) {
    let cluster = open(topics);
    let started = match &cluster {
        Ok(cluster) => Ok(cluster.bootstrap_servers()),
        Err(error) => Err(anyhow!("{error:#}")),
    };
    if ready.send(started).is_ok() && cluster.is_ok() {
        // Nothing is ever sent; the sender's end is the sign.
        ended.recv().unwrap_or_default();
    }
}

fn open(topics: &[(String, i32)]) -> anyhow::Result<MockCluster<'static, DefaultProducerContext>> {
    let cluster = MockCluster::new(1).context("failed to start the embedded broker")?;
    for (name, partitions) in topics {
        // An order that follows the last one too closely is noticed a whole second later.
        std::thread::sleep(BETWEEN_ORDERS);
        cluster
            .create_topic(name, *partitions, 1)
            .with_context(|| format!("failed to make the topic {name}"))?;
    }
    Ok(cluster)
}
