//! A simulated Tencent Cloud Desk: as strict as the real one, and able to fail on request.
//!
//! It serves `transfer_to_human`, `get_session_state` and `end_session` over HTTP on one port,
//! requires a valid UserSig, and keeps the state of each session. A [`FaultSchedule`] makes it fail
//! as a real service does; [`DeskStats`] tell afterwards what happened. Each control exists as a
//! method of [`SimulatedDesk`] and as a route on the same port:
//!
//! | route | body | effect |
//! |---|---|---|
//! | `POST /sim/schedule` | [`FaultSchedule`] | adds faults and staff changes, sets limit and latency |
//! | `POST /sim/agents` | [`StaffChange`] | changes the staff |
//! | `POST /sim/sessions` | [`SessionChange`] | puts a session into a state |
//! | `POST /sim/outage` | `{"on": true}` | cuts all connections, or ends the outage |
//! | `POST /sim/reset` | none | removes sessions, faults and counts |
//! | `GET /sim/stats` | | [`DeskStats`] |
//! | `GET /sim/sessions/{id}` | | [`SessionReport`] |
//!
//! Start reading at `http`, which handles a call, and `contact_centre`, which has the rules.

mod agents;
mod connection;
mod contact_centre;
mod control;
mod counters;
mod http;
mod odd_body;
mod pending;
mod schedule;
mod sessions;
mod stats;
mod validation;

use parking_lot::Mutex;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::Context;
use fastrand::Rng;
use secrecy::SecretString;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::domain::usersig::Identity;
use crate::task::spawn_owned;

pub use agents::{Agent, AgentUpdate, StaffChange};
pub use connection::ConnectionOutage;
pub use odd_body::OddForm;
pub use schedule::{
    FaultSchedule, InjectedAnswer, InjectedFault, LatencyRange, ScheduledStaffChange,
};
pub use sessions::{SessionChange, SessionReport, SimulatedState};
pub use stats::{ApiCommand, CallRecord, CommandStats, DeskStats, SecondCount, SeenRequest};

use agents::Roster;
use connection::{Connection, Connections, OutageListener};
use contact_centre::{CentreRules, ContactCentre};
use counters::Counters;
use pending::{CallContext, PendingFaults};
use sessions::{SessionCounts, SessionStore};
use validation::{Authentication, Validator};

/// The secret key if the settings give no other. It is public and protects nothing.
pub const DEMO_KEY: &str = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e";

/// The set-up of a simulated Desk.
#[derive(Debug, Clone)]
pub struct SimulatedDeskSettings {
    /// The account that calls must be signed for.
    pub admin: Identity,
    /// The secret key that signatures are verified with.
    pub key: SecretString,
    /// Whether an unknown session is with the chatbot; otherwise it does not exist.
    pub auto_sessions: bool,
    /// Whether a transferred session waits until a control says that its agent accepted it.
    pub agents_must_accept: bool,
    /// Whether unknown commands get HTTP 404 instead of code 60009.
    pub unknown_command_is_404: bool,
    /// The latency of every call.
    pub latency: LatencyRange,
    /// Calls per command in any one second, above which 60007 is returned; 0 for no limit.
    pub limit_per_second: u32,
    /// The staff; empty: every requested agent exists and is online.
    pub agents: Vec<Agent>,
    /// Seed of latencies and fault probabilities.
    pub seed: u64,
    /// Number of recent requests in the statistics.
    pub requests_kept: usize,
    /// Number of calls in the log of each session.
    pub calls_kept_per_session: usize,
    /// Whether an assigned session returns to the chatbot at once, so that load tests can transfer
    /// it any number of times.
    pub sessions_return: bool,
    /// Number of sessions stored.
    pub max_sessions: usize,
    /// The wall clock for the expiry of signatures, in Unix seconds.
    pub clock: fn() -> i64,
}

impl Default for SimulatedDeskSettings {
    fn default() -> Self {
        Self {
            admin: Identity { sdkappid: 1_400_000_000, identifier: "administrator".to_owned() },
            key: SecretString::from(DEMO_KEY),
            auto_sessions: true,
            agents_must_accept: false,
            unknown_command_is_404: false,
            latency: LatencyRange::default(),
            limit_per_second: 0,
            agents: Vec::new(),
            seed: 0,
            requests_kept: 64,
            calls_kept_per_session: 32,
            sessions_return: false,
            max_sessions: 1_000_000,
            clock: unix_now,
        }
    }
}

/// A running simulated Desk. Clones are handles to the same one; it stops with the last handle.
#[derive(Clone)]
pub struct SimulatedDesk {
    state: Arc<DeskState>,
    server: Arc<DeskServer>,
}

/// What the handlers of all calls share.
struct DeskState {
    contact_centre: ContactCentre,
    pending: PendingFaults,
    validator: Validator,
    connections: Arc<Connections>,
    /// Effects and controls that outlive the call that caused them.
    tasks: TaskTracker,
    clock: fn() -> i64,
    latency: Mutex<LatencyRange>,
    settings: SimulatedDeskSettings,
}

/// The HTTP server's task and the means to stop it.
struct DeskServer {
    address: SocketAddr,
    shutdown: CancellationToken,
    connections: Arc<Connections>,
    /// `None` once it has been awaited.
    task: tokio::sync::Mutex<Option<AbortOnDropHandle<std::io::Result<()>>>>,
}

impl SimulatedDesk {
    /// Serves on this listener until [`SimulatedDesk::stop`] or until the last handle is dropped.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start(listener: TcpListener, settings: SimulatedDeskSettings) -> anyhow::Result<Self> {
        listener.set_nonblocking(true).context("failed to prepare the listener")?;
        let listener = tokio::net::TcpListener::from_std(listener)
            .context("failed to register the listener with the runtime")?;
        let address = listener.local_addr().context("failed to read the listener's address")?;
        let connections = Arc::new(Connections::new());
        let state = Arc::new(DeskState::new(settings, Arc::clone(&connections)));
        // Weak: the server must not keep the state alive after the last handle is gone.
        let counted = Arc::downgrade(&state);
        let on_accept = move || {
            if let Some(state) = counted.upgrade() {
                state.contact_centre.counters.connections.fetch_add(1, Relaxed);
            }
        };
        let listener = OutageListener::new(listener, Arc::clone(&connections), on_accept)
            .context("failed to prepare the listener")?;
        let shutdown = CancellationToken::new();
        let service =
            http::router(Arc::clone(&state)).into_make_service_with_connect_info::<Connection>();
        let stopped = shutdown.clone().cancelled_owned();
        let server = axum::serve(listener, service).with_graceful_shutdown(stopped);
        let task = tokio::sync::Mutex::new(Some(spawn_owned(server.into_future())));
        Ok(Self { state, server: Arc::new(DeskServer { address, shutdown, connections, task }) })
    }

    /// Serves on a free port of 127.0.0.1.
    pub fn start_local(settings: SimulatedDeskSettings) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("failed to bind a local port")?;
        Self::start(listener, settings)
    }

    /// The base URL, as `http://address:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// The account and the secret key that calls must be signed with.
    pub fn credentials(&self) -> (Identity, SecretString) {
        (self.state.settings.admin.clone(), self.state.settings.key.clone())
    }

    /// Adds faults and staff changes, and sets the limit and the latency if they are given.
    pub fn schedule(&self, schedule: impl Into<FaultSchedule>) {
        self.state.schedule(&schedule.into());
    }

    /// Removes the faults and staff changes that no call has met yet.
    pub fn clear_faults(&self) {
        self.state.pending.clear();
    }

    /// Changes the staff.
    pub fn change_staff(&self, change: &StaffChange) {
        self.state.contact_centre.change_staff(change);
    }

    /// Puts a session into a state, without an agent.
    pub fn set_session_state(&self, id: impl Into<String>, state: SimulatedState) {
        self.change_session(&SessionChange { session_id: id.into(), state, agent_id: None });
    }

    /// Puts a session into a state and with an agent.
    pub fn change_session(&self, change: &SessionChange) {
        self.state.contact_centre.change_session(change);
    }

    /// The report of a session; `None` if no call named it.
    pub fn session(&self, id: &str) -> Option<SessionReport> {
        self.state.contact_centre.sessions.report(id)
    }

    /// The counts since the start or the last reset.
    pub fn stats(&self) -> DeskStats {
        self.state.stats()
    }

    /// Starts or ends an outage.
    pub fn set_outage(&self, outage: ConnectionOutage) {
        self.state.connections.set(outage);
    }

    /// Removes sessions, faults and counts, and restores staff, limit and latency of the settings.
    pub fn reset(&self) {
        self.state.reset();
    }

    /// Cuts all connections and stops the server; the statistics remain readable.
    pub async fn stop(&self) {
        self.server.begin_shutdown();
        self.state.tasks.close();
        // Locked while it waits, so that a second caller waits too.
        let mut task = self.server.task.lock().await;
        if let Some(task) = task.take() {
            drop(task.await);
        }
    }
}

impl DeskServer {
    fn begin_shutdown(&self) {
        self.shutdown.cancel();
        self.connections.cut_all();
    }
}

impl Drop for DeskServer {
    fn drop(&mut self) {
        self.begin_shutdown();
    }
}

impl DeskState {
    fn new(settings: SimulatedDeskSettings, connections: Arc<Connections>) -> Self {
        let rules = CentreRules {
            auto_sessions: settings.auto_sessions,
            agents_must_accept: settings.agents_must_accept,
            calls_kept_per_session: settings.calls_kept_per_session,
            sessions_return: settings.sessions_return,
        };
        let counters = Counters::new(settings.limit_per_second, settings.requests_kept);
        let contact_centre =
            ContactCentre::new(SessionStore::new(settings.max_sessions), counters, rules);
        contact_centre.reset(Roster::new(&settings.agents));
        let validator = Validator {
            authentication: Authentication::new(settings.admin.clone(), settings.key.clone()),
            unknown_command_is_404: settings.unknown_command_is_404,
        };
        Self {
            contact_centre,
            pending: PendingFaults::new(),
            validator,
            connections,
            tasks: TaskTracker::new(),
            clock: settings.clock,
            latency: Mutex::new(settings.latency),
            settings,
        }
    }

    fn schedule(&self, schedule: &FaultSchedule) {
        let counters = &self.contact_centre.counters;
        if let Some(limit) = schedule.limit_per_second {
            counters.limit_per_second.store(limit, Relaxed);
        }
        if let Some(latency) = schedule.latency {
            *self.latency.lock() = latency;
        }
        let (command, now) = (ApiCommand::Other, Instant::now());
        let transfers = counters.transfers_asked.load(Relaxed);
        self.pending.add(schedule, &CallContext { session: "", command, transfers, now });
    }

    fn stats(&self) -> DeskStats {
        let SessionCounts { stored, removed } = self.contact_centre.sessions.counts();
        let counted = self.contact_centre.counters.stats(Instant::now());
        DeskStats { sessions: stored, forgotten_sessions: removed, ..counted }
    }

    fn reset(&self) {
        self.pending.clear();
        self.contact_centre.reset(Roster::new(&self.settings.agents));
        let counters = &self.contact_centre.counters;
        counters.clear(Instant::now());
        counters.limit_per_second.store(self.settings.limit_per_second, Relaxed);
        *self.latency.lock() = self.settings.latency;
    }

    fn latency(&self) -> LatencyRange {
        *self.latency.lock()
    }

    /// Seeded by the number of the call, so that a run with the same calls draws the same numbers.
    fn rng(&self, seq: u64) -> Rng {
        Rng::with_seed(self.settings.seed ^ seq.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the simulated Desk stands for an external system, which has a clock of its own"
)]
fn unix_now() -> i64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}
