//! `handoff` with a ledger in memory that stores parked events only; no deadline is near there. It shows what the ledger costs.
//!
//! For the bench only: after a crash it would repeat calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use handoff::app::{Companions, Service};
use handoff::domain::ledger_entry::{
    Claim, ClaimResult, EntryState, Park, PriorClaim, RecoveredEntry, Settle, StoredIdentities,
    WaitsFor, WakeSession, WriteResult,
};
use handoff::domain::record::Position;
use handoff::ledger::{
    CountQuery, DueEntries, DueQuery, Ledger, ParkedCount, ParkedGroup, RecordRange, Recovered,
    StoredEntries, WaitingQuery,
};
use handoff::{config, telemetry};
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::contestant::environment;

/// That of an escalation without `expires_at`.
const TIME_TO_LIVE: Duration = Duration::from_secs(600);

/// Stores parked events only.
#[derive(Default)]
struct NoLedger(Mutex<HashMap<Arc<str>, Park>>);

impl NoLedger {
    fn parked(&self) -> MutexGuard<'_, HashMap<Arc<str>, Park>> {
        self.0.lock()
    }

    fn stored(&self, partitions: &[i32], wanted: impl Fn(&Park) -> bool) -> Vec<RecoveredEntry> {
        let entry = |(key, park): (&Arc<str>, &Park)| {
            let record = park.record.clone().filter(|_| wanted(park))?;
            let first_seen = record.timestamp.unwrap_or(park.until);
            let Park { until, waits_for, .. } = park.clone();
            let state = EntryState::Parked { until, waits_for };
            let value: Value = serde_json::from_slice(record.value.as_deref()?).ok()?;
            Some(RecoveredEntry {
                key: key.clone(),
                session_id: value["session_id"].as_str().map(Arc::from),
                record,
                first_seen,
                deadline: Some(first_seen + TIME_TO_LIVE),
                state,
                version: 0,
            })
        };
        let mut found: Vec<_> = self.parked().iter().filter_map(entry).collect();
        found.retain(|entry| partitions.contains(&entry.record.position.partition));
        found
    }
}

fn limited(mut entries: Vec<RecoveredEntry>, limit: usize) -> StoredEntries {
    entries.sort_by_key(|entry| entry.first_seen);
    entries.truncate(limit);
    StoredEntries { entries, unreadable: Vec::new() }
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
                is_early: false,
                given_up: None,
            }),
            None => ClaimResult::Fresh,
        }
    }

    async fn park(&self, key: Arc<str>, park: Park) -> WriteResult {
        self.parked().insert(key, park);
        WriteResult::Done
    }

    async fn forgot(&self, _: Arc<str>, _: Timestamp) -> bool {
        false
    }

    async fn settle(&self, _: Arc<str>, _: Settle) -> WriteResult {
        WriteResult::Done
    }

    async fn identities(&self, _: RecordRange) -> StoredIdentities {
        StoredIdentities::default()
    }

    async fn wake_session(&self, _: WakeSession) {}

    async fn is_session_parked(&self, _: Arc<str>, _: Position, _: Vec<i64>) -> bool {
        false
    }

    async fn is_behind_unpublished(&self, _: Arc<str>, _: Position, _: i64) -> bool {
        false
    }

    async fn mark_published(&self, _: Arc<str>, _: Option<Position>) {}

    async fn recover(&self, _: Arc<str>, _: Vec<i32>) -> Recovered {
        Recovered::default()
    }

    async fn count_parked(&self, _: CountQuery) -> Vec<ParkedCount> {
        Vec::new()
    }

    async fn unfinished(&self, _: Arc<str>, _: Vec<i32>) -> StoredEntries {
        StoredEntries::default()
    }

    async fn parked_groups(&self, _: Arc<str>, _: Vec<i32>) -> Vec<ParkedGroup> {
        Vec::new()
    }

    async fn due(&self, query: DueQuery) -> DueEntries {
        let DueQuery { partitions, now, due_limit, .. } = query;
        let has_time = |park: &Park| matches!(park.waits_for, WaitsFor::Time | WaitsFor::Session);
        let partitions: Vec<_> = partitions.iter().map(|one| one.partition).collect();
        let due = self.stored(&partitions, |park| has_time(park) && park.until <= now);
        let parked = self.parked();
        let times = parked.values().filter(|park| has_time(park)).map(|park| park.until);
        let next_due = times.filter(|time| *time > now).min();
        DueEntries { due: limited(due, due_limit), next_due, ..DueEntries::default() }
    }

    async fn waiting(&self, query: WaitingQuery) -> StoredEntries {
        let room = WaitsFor::Agent(query.room);
        limited(self.stored(&query.partitions, |park| park.waits_for == room), query.limit)
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
