//! `handoff` with a ledger in memory that stores parked events only. It shows what the ledger costs.
//!
//! For the bench only: after a crash it would repeat calls.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use handoff::app::{Companions, Service};
use handoff::domain::ledger_entry::{Claim, ClaimResult, Parking, PriorClaim};
use handoff::domain::record::Position;
use handoff::domain::wire::outcome::Message;
use handoff::ledger::{Ledger, Recovered};
use handoff::{config, telemetry};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::contestant::environment;

/// Stores parked events only.
#[derive(Default)]
struct NoLedger(Mutex<HashMap<Arc<str>, Parking>>);

impl NoLedger {
    fn parked(&self) -> parking_lot::MutexGuard<'_, HashMap<Arc<str>, Parking>> {
        self.0.lock()
    }
}

impl Ledger for NoLedger {
    fn is_unavailable(&self) -> bool {
        false
    }

    async fn claim(&self, claim: Claim) -> ClaimResult {
        match self.parked().remove(&claim.key) {
            Some(parking) => ClaimResult::Resumed(PriorClaim {
                memory: Some(parking.memory),
                first_seen: claim.first_seen,
                claimed_at: claim.at,
                parked_until: Some(parking.until),
            }),
            None => ClaimResult::Fresh,
        }
    }

    async fn park(&self, key: Arc<str>, parking: Parking) -> bool {
        self.parked().insert(key, parking);
        true
    }

    async fn settle(&self, _: Arc<str>, _: Arc<Message>, _: Timestamp) -> bool {
        true
    }

    async fn published(&self, _: Arc<str>, _: Option<Position>) {}

    async fn recover(&self, _: Arc<str>, _: Vec<i32>) -> Recovered {
        Recovered::default()
    }
}

/// Run until SIGTERM.
pub(crate) async fn run() -> Result<()> {
    let config = config::load(None, environment())?;
    telemetry::start_log(&config.log)?;
    let shutdown = CancellationToken::new();
    let service = Service::build(config)?;
    let running =
        service.run_with_ledger(NoLedger::default(), Companions::default(), shutdown.clone());
    tokio::pin!(running);
    let ended = tokio::select! {
        ended = &mut running => return ended,
        signal = terminated() => signal,
    };
    ended?;
    shutdown.cancel();
    running.await
}

/// Wait for SIGTERM.
pub(crate) async fn terminated() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    signal(SignalKind::terminate())?.recv().await;
    Ok(())
}
