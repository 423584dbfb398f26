//! The admin port, and what it sees of the service.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Service;
use crate::adapters::admin::{self, About, View};
use crate::adapters::{kafka, ledger};
use crate::clock::Clock;
use crate::config::Config;

/// Why the ledger is unavailable, if it is.
type OutageCheck = Arc<dyn Fn() -> Option<ledger::LedgerOutage> + Send + Sync>;

/// Bind the admin port; `None` where the configuration has none.
pub async fn listen(config: &Config) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = config.admin_listen else { return Ok(None) };
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("failed to listen on admin.listen {address}: choose another port, or \"\" for none")
    })?;
    Ok(Some(listener))
}

impl Service {
    /// What the admin port sees.
    pub(super) fn view(&self, outage: OutageCheck) -> View {
        View {
            settings: self.admin.clone(),
            about: about(&self.kafka),
            health: self.health.clone(),
            gate: self.gate.clone(),
            activity: self.activity.clone(),
            metrics: self.metrics.clone(),
            rules: self.intake.rules.clone(),
            policy: self.policy.clone(),
            outage,
            ledger: self.ledger.url.clone(),
            clock: Clock::system(),
        }
    }
}

/// What `/status` says about the service itself.
fn about(kafka: &kafka::KafkaSettings) -> About {
    let topics = &kafka.topics;
    let of = |properties: &BTreeMap<String, String>| properties.get("group.instance.id").cloned();
    let instance = of(&kafka.consumer_properties).or_else(|| of(&kafka.properties));
    // In a container it is the name of the pod.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    About {
        instance: instance.unwrap_or_else(|| host.trim().to_owned()),
        group_id: kafka.group_id.clone(),
        topic: topics.escalations.as_str().into(),
        outcome_topic: topics.outcomes.clone(),
        dead_letter_topic: topics.dead_letters.clone(),
    }
}

/// Serve the admin port until `stop`.
pub(super) async fn serve_admin(listener: TcpListener, view: View, stop: CancellationToken) {
    if let Err(error) = admin::serve(listener, view, stop).await {
        warn!(%error, "admin port ended");
    }
}
