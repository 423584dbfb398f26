//! The admin port, for probes and people: docs/operations.md, "The admin port".
//!
//! - `/health`, `/ready`, `/metrics` ([`probes`]): for machines, open to all who reach the port.
//! - `/status`: everything at a glance ([`document`], filled by [`collect`]), built at most once a second for all who ask
//!   ([`snapshot`]); `/live`: the same whenever it changes ([`live`]).
//! - `/events` and `/events/ID`: unfinished events, and the whole history of one ([`events`], [`event_history`]).
//! - `/explain`: what would be done with a record ([`explain`]).
//! - `/`: the page ([`page`]).
//! - the actions of an operator ([`actions`]).
//!
//! [`connections`] closes those whose client is gone. [`obstacles`] finds out what is wrong, [`headline`]
//! says the worst of it in one line. [`security`] decides who may ask for what.

mod actions;
mod collect;
mod connections;
mod document;
mod event_history;
mod events;
mod explain;
mod headline;
mod ids;
mod live;
mod obstacles;
mod page;
mod parked;
mod parked_totals;
mod probes;
mod reply;
mod security;
mod shared_reader;
mod snapshot;
mod steady_times;
#[cfg(test)]
mod tests;
mod unfinished_sums;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::connections::{UNREAD_LIMIT, bounded};
use self::ids::Ids;
use self::live::Listeners;
use self::parked_totals::ParkedTotals;
use self::security::Guard;
use self::shared_reader::SharedReader;
use self::snapshot::Snapshots;
use super::ledger::{LedgerOutage, LedgerUrl};
use crate::activity::Activity;
use crate::clock::Clock;
use crate::deliver::{SharedPolicy, SharedRules};
use crate::gate::Gate;
use crate::health::Health;
use crate::telemetry::Metrics;

/// Who may see what.
#[derive(Debug, Clone, Default)]
pub struct AdminSettings {
    /// Names by which the port may be called, besides `localhost` and its address.
    pub hosts: Vec<String>,
    /// Whether session ids and agents are shown in full.
    pub show_ids: bool,
    /// The file with the bearer token.
    pub token_file: Option<PathBuf>,
}

/// What `/status` says about the service itself.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) instance: String,
    pub(crate) group_id: String,
    pub(crate) topic: Arc<str>,
    pub(crate) outcome_topic: String,
    pub(crate) dead_letter_topic: String,
}

/// What the routes read.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) settings: AdminSettings,
    pub(crate) about: About,
    /// Progress and blocked partitions.
    pub(crate) health: Arc<Health>,
    /// Admission control towards Desk.
    pub(crate) gate: Arc<Gate>,
    /// What is being done and was done lately.
    pub(crate) activity: Arc<Activity>,
    /// All metrics.
    pub(crate) metrics: Arc<Metrics>,
    /// How records are decoded, and the rules of every course.
    pub(crate) rules: SharedRules,
    pub(crate) policy: SharedPolicy,
    /// Why the ledger is unavailable, if it is.
    pub(crate) outage: Arc<dyn Fn() -> Option<LedgerOutage> + Send + Sync>,
    /// Where the ledger is.
    pub(crate) ledger: LedgerUrl,
    /// The wall clock.
    pub(crate) clock: Clock,
}

/// What the routes share.
#[derive(Clone)]
struct Admin {
    view: Arc<View>,
    snapshots: Arc<Snapshots>,
    guard: Arc<Guard>,
    ids: Arc<Ids>,
    ledger: Arc<SharedReader>,
    totals: Arc<ParkedTotals>,
    listeners: Listeners,
    /// Ends the streams of `/live`.
    stop: CancellationToken,
}

/// Serve the routes until `stop`.
pub(crate) async fn serve(
    listener: TcpListener,
    view: View,
    stop: CancellationToken,
) -> std::io::Result<()> {
    serve_within(UNREAD_LIMIT, listener, view, stop).await
}

async fn serve_within(
    unread_limit: Duration,
    listener: TcpListener,
    view: View,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let routes = routes(listener.local_addr()?, view, stop.clone());
    let listener = bounded(listener, unread_limit);
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn routes(address: SocketAddr, view: View, stop: CancellationToken) -> Router {
    let view = Arc::new(view);
    let guard = Arc::new(Guard::new(address, &view.settings));
    let ids = Arc::new(Ids::new(view.settings.show_ids));
    let ledger = Arc::new(SharedReader::new(view.ledger.clone()));
    let totals = Arc::new(ParkedTotals::new(view.clone(), ledger.clone()));
    let snapshots = Snapshots::new(view.clone(), ids.clone(), ledger.clone(), totals.clone());
    let snapshots = Arc::new(snapshots);
    // A record of the topic, which may be larger than what the service reads.
    let max_record = view.rules.current().max_bytes.saturating_add(1);
    let listeners = Listeners::default();
    let admin = Admin { view, snapshots, guard, ids, ledger, totals, listeners, stop };
    let readable = Router::new()
        .route("/status", get(snapshot::status))
        .route("/live", get(live::live))
        .route("/events", get(events::list))
        .route("/events/{*id}", get(event_history::event_history).post(actions::on_event))
        .route("/intake/{action}", post(actions::on_intake))
        .route("/explain", post(explain::explain))
        .layer(DefaultBodyLimit::max(max_record))
        .layer(middleware::from_fn_with_state(admin.clone(), security::require_reader));
    let people = Router::new()
        .route("/", get(page::index))
        .route("/page.css", get(page::style))
        .route("/page.js", get(page::script))
        .merge(readable)
        .layer(middleware::from_fn_with_state(admin.clone(), security::require_host));
    Router::new()
        .route("/health", get(probes::health))
        .route("/ready", get(probes::ready))
        .route("/metrics", get(probes::metrics))
        .merge(people)
        .layer(middleware::map_response(security::add_headers))
        .with_state(admin)
}
