//! A Tencent Cloud Desk to try things on: strict like the real one, truthful, and told to fail.
//!
//! It answers `transfer_to_human`, `get_session_state` and `end_session` over HTTP on one port,
//! demands a valid UserSig, and knows which session is with whom. Scripts make it fail in every
//! way that a real service fails; counters say afterwards what happened. The controls are methods
//! of [`Desk`] and, on the same port, the routes under `/sim/`:
//!
//! | route | body | what it does |
//! |---|---|---|
//! | `POST /sim/script` | [`Script`] | adds acts and shifts, sets limit and latency |
//! | `POST /sim/agents` | [`Staffing`] | changes the staff |
//! | `POST /sim/sessions` | [`SessionChange`] | puts a session into a state |
//! | `POST /sim/outage` | `{"on": true}` | cuts all lines, or lets calls in again |
//! | `POST /sim/reset` | none | forgets sessions, scripts and counts |
//! | `GET /sim/stats` | | [`Stats`] |
//! | `GET /sim/sessions/{id}` | | [`SessionReport`] |
//!
//! It is a tool for trials and never a stand-in for Desk in production.

mod agents;
mod book;
mod control;
mod counters;
mod floor;
mod http;
mod line;
mod script;
mod session;
mod stats;
mod strict;

use parking_lot::Mutex;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::Context;
use fastrand::Rng;
use secrecy::SecretString;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::usersig::Identity;

pub use agents::{Agent, Staffing, Switch};
pub use line::Outage;
pub use script::{Act, Answer, Script, Shift, Span};
pub use session::{SessionChange, SessionReport, State};
pub use stats::{CallRecord, Command, CommandStats, SecondCount, SeenRequest, Stats};

use agents::Roster;
use book::{Book, Cue};
use counters::{Counters, lock};
use floor::{Floor, HouseRules};
use line::{Entrance, Line, Lines};
use session::Sessions;
use strict::Door;

/// The key that this Desk demands when it was given none. It guards nothing.
pub const DEMO_KEY: &str = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e";

/// How a simulated Desk is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whom it lets in.
    pub admin: Identity,
    /// The key that signs.
    pub key: SecretString,
    /// Sessions that nobody announced are with the chatbot; otherwise they do not exist.
    pub auto_sessions: bool,
    /// A transferred session waits for its agent to accept, which happens by a control only.
    pub agents_must_accept: bool,
    /// Unknown commands get HTTP 404 in place of code 60009.
    pub unknown_command_is_404: bool,
    /// The latency of every call.
    pub latency: Span,
    /// Calls per command in any one second, above which 60007 is answered; 0 for no limit.
    pub limit_per_second: u32,
    /// The staff; empty: whoever is asked for is there.
    pub agents: Vec<Agent>,
    /// Makes latencies and chances repeatable.
    pub seed: u64,
    /// How many of the last requests are kept.
    pub requests_kept: usize,
    /// How many calls the log of each session keeps.
    pub calls_kept_per_session: usize,
    /// An assigned session is with the chatbot again at once, so that it can be transferred as
    /// often as anybody likes: for load, not for truth.
    pub sessions_return: bool,
    /// How many sessions are remembered.
    pub max_sessions: usize,
    /// Its wall clock, in Unix seconds, against which signatures expire.
    pub clock: fn() -> i64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            admin: Identity { sdkappid: 1_400_000_000, identifier: "administrator".to_owned() },
            key: SecretString::from(DEMO_KEY),
            auto_sessions: true,
            agents_must_accept: false,
            unknown_command_is_404: false,
            latency: Span::default(),
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

/// A running simulated Desk; clones are handles to the same one, and the last one ends it.
#[derive(Clone)]
pub struct Desk {
    house: Arc<House>,
    server: Arc<Server>,
}

/// What the handlers of the calls share.
struct House {
    floor: Floor,
    book: Book,
    door: Door,
    lines: Arc<Lines>,
    /// Effects and controls that outlive the call that caused them.
    tasks: TaskTracker,
    clock: fn() -> i64,
    seed: u64,
    latency: Mutex<Span>,
    options: Options,
}

/// The task that serves, and what ends it.
struct Server {
    address: SocketAddr,
    closing: CancellationToken,
    lines: Arc<Lines>,
    task: tokio::sync::Mutex<JoinSet<std::io::Result<()>>>,
}

impl Desk {
    /// Serves on this listener until [`Desk::stop`] or until the last handle is gone. Needs a
    /// running tokio runtime.
    pub fn start(listener: TcpListener, options: Options) -> anyhow::Result<Self> {
        listener.set_nonblocking(true).context("failed to prepare the listener")?;
        let listener = tokio::net::TcpListener::from_std(listener)
            .context("failed to hand the listener to the runtime")?;
        let address = listener.local_addr().context("failed to read the listener's address")?;
        let lines = Arc::new(Lines::new());
        let house = Arc::new(House::new(options, Arc::clone(&lines)));
        let counting = Arc::downgrade(&house);
        let entrance = Entrance::new(listener, Arc::clone(&lines), move || {
            if let Some(house) = counting.upgrade() {
                house.floor.counters.connections.fetch_add(1, Relaxed);
            }
        })
        .context("failed to prepare the entrance")?;
        let closing = CancellationToken::new();
        let service =
            http::router(Arc::clone(&house)).into_make_service_with_connect_info::<Line>();
        let closed = closing.clone().cancelled_owned();
        let mut task = JoinSet::new();
        task.spawn(axum::serve(entrance, service).with_graceful_shutdown(closed).into_future());
        let task = tokio::sync::Mutex::new(task);
        Ok(Self { house, server: Arc::new(Server { address, closing, lines, task }) })
    }

    /// Serves on a free port of this machine.
    pub fn start_local(options: Options) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("failed to bind a local port")?;
        Self::start(listener, options)
    }

    /// Where it listens, as `http://address:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// Whom it lets in, and with which key.
    pub fn credentials(&self) -> (Identity, SecretString) {
        (self.house.options.admin.clone(), self.house.options.key.clone())
    }

    /// Adds acts and shifts, and sets the limit and the latency where they are given.
    pub fn script(&self, script: impl Into<Script>) {
        self.house.script(&script.into());
    }

    /// Changes the staff.
    pub fn staff(&self, staffing: &Staffing) {
        self.house.floor.staff(staffing);
    }

    /// Replaces the staff.
    pub fn set_agents(&self, agents: Vec<Agent>) {
        self.staff(&Staffing::exactly(agents));
    }

    /// Puts a session into a state, whatever it was in.
    pub fn put_session(&self, id: impl Into<String>, state: State) {
        self.change_session(&SessionChange { session_id: id.into(), state, agent_id: None });
    }

    /// Puts a session into a state and with an agent, whatever it was in.
    pub fn change_session(&self, change: &SessionChange) {
        self.house.floor.put(change);
    }

    /// What is known of a session; `None` when no call named it.
    pub fn session(&self, id: &str) -> Option<SessionReport> {
        self.house.floor.sessions.report(id)
    }

    /// Everything counted so far.
    pub fn stats(&self) -> Stats {
        self.house.stats()
    }

    /// Goes out of reach, or comes back.
    pub fn outage(&self, outage: Outage) {
        self.house.lines.set(outage);
    }

    /// Forgets sessions, scripts and counts; the staff is again that of the start.
    pub fn reset(&self) {
        self.house.reset();
    }

    /// Cuts every line and ends; the counts can still be read.
    pub async fn stop(&self) {
        self.server.end();
        self.house.tasks.close();
        let mut task = self.server.task.lock().await;
        while task.join_next().await.is_some() {}
    }
}

impl Server {
    fn end(&self) {
        self.closing.cancel();
        self.lines.cut_all();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

impl House {
    fn new(options: Options, lines: Arc<Lines>) -> Self {
        let rules = HouseRules {
            auto_sessions: options.auto_sessions,
            agents_must_accept: options.agents_must_accept,
            calls_kept_per_session: options.calls_kept_per_session,
            sessions_return: options.sessions_return,
        };
        let counters = Counters::new(options.limit_per_second, options.requests_kept);
        let floor = Floor::new(Sessions::new(options.max_sessions), counters, rules);
        floor.open_anew(Roster::new(&options.agents));
        let door = Door {
            admin: options.admin.clone(),
            key: options.key.clone(),
            unknown_command_is_404: options.unknown_command_is_404,
            last_good: Mutex::default(),
        };
        Self {
            floor,
            book: Book::default(),
            door,
            lines,
            tasks: TaskTracker::new(),
            clock: options.clock,
            seed: options.seed,
            latency: Mutex::new(options.latency),
            options,
        }
    }

    fn script(&self, script: &Script) {
        let counters = &self.floor.counters;
        if let Some(limit) = script.limit_per_second {
            counters.limit_per_second.store(limit, Relaxed);
        }
        if let Some(latency) = script.latency {
            *lock(&self.latency) = latency;
        }
        let transfers = counters.transfers_asked.load(Relaxed);
        let cue = Cue { session: "", command: Command::Other, transfers, now: Instant::now() };
        self.book.add(script, &cue);
    }

    fn stats(&self) -> Stats {
        let (sessions, forgotten_sessions) = self.floor.sessions.counts();
        Stats { sessions, forgotten_sessions, ..self.floor.counters.stats(Instant::now()) }
    }

    fn reset(&self) {
        self.book.clear();
        self.floor.open_anew(Roster::new(&self.options.agents));
        self.floor.counters.clear(Instant::now());
        self.floor.counters.limit_per_second.store(self.options.limit_per_second, Relaxed);
        *lock(&self.latency) = self.options.latency;
    }

    fn latency(&self) -> Span {
        *lock(&self.latency)
    }

    /// The same call of the same trial draws the same numbers.
    fn rng(&self, seq: u64) -> Rng {
        Rng::with_seed(self.seed ^ seq.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the simulated Desk is an outside system: it has its own clock"
)]
fn unix_now() -> i64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}
