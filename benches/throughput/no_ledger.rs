//! `handoff` with a ledger in memory that stores parked events only. It shows what the ledger costs.
//!
//! For the bench only: after a crash it would repeat calls.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use handoff::app::{Companions, Service};
use handoff::domain::ledger_entry::{Claim, ClaimResult, Park, PriorClaim, WriteResult};
use handoff::domain::record::Position;
use handoff::domain::wire::Message;
use handoff::ledger::{Ledger, Recovered};
use handoff::{config, telemetry};
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use crate::contestant::environment;

/// Stores parked events only.
#[derive(Default)]
struct NoLedger(Mutex<HashMap<Arc<str>, Park>>);

impl NoLedger {
    fn parked(&self) -> MutexGuard<'_, HashMap<Arc<str>, Park>> {
        self.0.lock()
    }
}

impl Ledger for NoLedger {
    fn is_unavailable(&self) -> bool {
        false
    }

    async fn claim(&self, claim: Claim) -> ClaimResult {
        match self.parked().remove(&claim.key) {
            Some(park) => ClaimResult::Resumed(PriorClaim {
                snapshot: Some(park.snapshot),
                first_seen: claim.first_seen,
                claimed_at: claim.at,
                parked_until: Some(park.until),
            }),
            None => ClaimResult::Fresh,
        }
    }

    async fn park(&self, key: Arc<str>, park: Park) -> WriteResult {
        self.parked().insert(key, park);
        WriteResult::Done
    }

    async fn settle(&self, _: Arc<str>, _: Arc<Message>, _: Timestamp) -> WriteResult {
        WriteResult::Done
    }

    async fn mark_published(&self, _: Arc<str>, _: Option<Position>) {}

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
