//! Prunes the ledger, and compares its memory with that of the topic.

use std::time::Duration;

use jiff::Timestamp;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{info, warn};

use super::topics::TOPIC_LOOKUP_TIMEOUT;
use crate::adapters::{kafka, ledger};
use crate::clock::Clock;

const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);

/// Prune what was published longer than `retention` ago, every hour.
pub(super) async fn prune(
    ledger: ledger::SqlLedger,
    retention: Duration,
    kafka: kafka::KafkaSettings,
) {
    let mut is_compared = false;
    loop {
        is_compared = is_compared || compare_retention(&kafka, retention).await.is_some();
        let before = Clock::system().now().saturating_sub(retention).unwrap_or(Timestamp::MIN);
        match ledger.prune(before).await {
            Ok(0) => {}
            Ok(rows) => info!(rows, "pruned the ledger"),
            Err(error) => warn!(error = format!("{error:#}"), "ledger not pruned"),
        }
        sleep(PRUNE_INTERVAL).await;
    }
}

/// Warn if the topic keeps records for longer than the ledger remembers events. `None` where the
/// brokers do not say how long it keeps them.
async fn compare_retention(kafka: &kafka::KafkaSettings, retention: Duration) -> Option<()> {
    let topic = kafka.topics.escalations.as_str();
    let settings = kafka.clone();
    let probe = spawn_blocking(move || kafka::ClusterProbe::new(settings, TOPIC_LOOKUP_TIMEOUT));
    let limits = probe.await.ok()?.ok()?.topic_limits(&[topic]).await.ok()?;
    if let Some(detail) = limits.get(topic)?.outlives(retention) {
        warn!(detail, "the topic outlives the ledger's memory; raise ledger.retention_days");
    }
    Some(())
}
