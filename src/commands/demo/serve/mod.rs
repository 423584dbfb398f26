//! `handoff demo --serve`: the service keeps running in a simulated world, for people who look at its
//! admin port.
//!
//! `phases` has what happens when, `stream` the records, `conversations` what customers do then, and
//! [`ServedFixture`] the world in which it happens. The service is the real one: what `/status` and
//! `/metrics` say is true of that world.

mod conversations;
mod counts;
mod fixture;
mod formats;
mod phases;
mod stream;

use std::future::pending;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use fastrand::Rng;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::counts::ServedCounts;
use self::fixture::ServedFixture;
use self::phases::{Phase, phases};
use super::service::{AdminPort, DemoService};
use crate::app::Service;
use crate::clock::Clock;
use crate::commands::Failure;
use crate::commands::lines::StdoutLines;
use crate::telemetry;

/// Where the service listens by default, and where `handoff top` looks for it.
const USUAL_PORT: u16 = 9464;
/// How often customers may leave.
const CONVERSATION_STEP: Duration = Duration::from_millis(500);

/// The arguments of the demo that concern this form of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServeOptions {
    /// `None`: until a signal.
    pub(super) duration: Option<Duration>,
    /// `None`: the usual port, or a free one if that is taken.
    pub(super) listen: Option<SocketAddr>,
    pub(super) seed: u64,
    pub(super) verbose: bool,
}

/// Runs until the time is over or until `shutdown`.
pub(super) async fn run(options: ServeOptions, shutdown: CancellationToken) -> Result<(), Failure> {
    let end = options.duration.and_then(|duration| Instant::now().checked_add(duration));
    let listener = bind(options.listen).await.map_err(Failure::Unavailable)?;
    let admin = listener.local_addr().map_err(|error| Failure::Bug(error.into()))?;
    let (fixture, loaded) = ServedFixture::start(admin, options.seed).map_err(Failure::Bug)?;
    if options.verbose {
        telemetry::start_log(&loaded.config.log).map_err(Failure::Bug)?;
    }
    let service = Service::build(loaded.config).map_err(Failure::Bug)?;
    let service = service.reloading(Some(loaded.reloader));
    let mut service = DemoService::start(service, listener).map_err(Failure::Bug)?;
    let mut world = ServedWorld {
        fixture,
        admin: service.admin(),
        rng: Rng::with_seed(options.seed.rotate_left(32)),
        lines: StdoutLines::new(),
    };
    world.introduce(admin)?;
    let time_is_up = async {
        match end {
            Some(end) => sleep_until(end).await,
            None => pending().await,
        }
    };
    tokio::select! {
        failed = world.run() => return Err(failed),
        error = service.ended() => return Err(Failure::Bug(error)),
        () = time_is_up => {}
        () = shutdown.cancelled() => {}
    }
    let counts = world.counts().await.map_err(Failure::Bug)?;
    service.stop().await.map_err(Failure::Bug)?;
    world.fixture.stop().await.map_err(Failure::Bug)?;
    world.lines.put(&format!("stopped: {counts}"))
}

async fn bind(listen: Option<SocketAddr>) -> anyhow::Result<TcpListener> {
    let address = listen.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, USUAL_PORT).into());
    let bound = match TcpListener::bind(address).await {
        Err(error) if listen.is_none() && error.kind() == ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
        }
        bound => bound,
    };
    bound.with_context(|| format!("failed to listen on {address}"))
}

/// The simulated world, and what is printed about it.
struct ServedWorld {
    fixture: ServedFixture,
    admin: AdminPort,
    /// Draws the times between escalations.
    rng: Rng,
    lines: StdoutLines,
}

impl ServedWorld {
    fn introduce(&mut self, admin: SocketAddr) -> Result<(), Failure> {
        self.lines.put(&format!("http://{admin}/"))?;
        let config = self.fixture.config_file();
        self.lines.put(&format!(
            "The real service with an embedded Kafka broker and a simulated Desk, all in this process. \
             It keeps\nrunning until Ctrl-C; nothing is left behind. Meanwhile other commands work, too:\n\n    \
             handoff --config {} outcomes --follow\n",
            config.display()
        ))
    }

    /// Lets things happen, until something fails.
    async fn run(&mut self) -> Failure {
        match self.run_phases().await {
            Ok(never) => match never {},
            Err(failure) => failure,
        }
    }

    async fn run_phases(&mut self) -> Result<std::convert::Infallible, Failure> {
        self.admin.wait_until_ready().await.map_err(Failure::Bug)?;
        self.fixture.warm_up().await;
        let begin = Instant::now();
        let mut phases = phases();
        let (mut phase_at, mut phase) = phases.next().context("no phases").map_err(Failure::Bug)?;
        let (mut escalation_at, mut conversation_at) = (begin, begin);
        let mut per_second = phase.per_second;
        loop {
            let due = (begin + phase_at).min(escalation_at).min(conversation_at);
            sleep_until(due).await;
            let now = Instant::now();
            if due == begin + phase_at {
                per_second = phase.per_second;
                self.begin_phase(phase, phase_at).await?;
                (phase_at, phase) = phases.next().context("no phases").map_err(Failure::Bug)?;
            } else if due == escalation_at {
                self.fixture.publish_next(Clock::system().now()).await.map_err(Failure::Bug)?;
                escalation_at = now + self.pause(per_second);
            } else {
                self.fixture.advance_conversations();
                conversation_at = now + CONVERSATION_STEP;
            }
        }
    }

    async fn begin_phase(&mut self, phase: Phase, at: Duration) -> Result<(), Failure> {
        let counts = self.counts().await.map_err(Failure::Bug)?;
        self.fixture.change(phase.change).await.map_err(Failure::Bug)?;
        let (minutes, seconds) = (at.as_secs() / 60, at.as_secs() % 60);
        self.lines.put(&format!("{minutes:>3}:{seconds:02}  {:<58}{counts}", phase.text))
    }

    /// The time until the next escalation, for arrivals that know nothing of each other.
    fn pause(&mut self, per_second: f64) -> Duration {
        Duration::from_secs_f64(-(1.0 - self.rng.f64()).ln() / per_second)
    }

    async fn counts(&self) -> anyhow::Result<ServedCounts> {
        Ok(ServedCounts::read(&self.admin.metrics().await?))
    }
}
