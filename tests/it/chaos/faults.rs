//! Random faults: drawn from the seed, performed on the real parts, logged.
//!
//! Faults are injected one after the other, but their consequences overlap: a worker may still be
//! down or paused, or faults of Desk still pending, when the next one is injected. Each says how long
//! events may wait because of it; those that must delay no other event begin when no earlier one
//! does, and are followed by none for some time.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use handoff::sim::desk::{ApiCommand, FaultSchedule, InjectedFault, LatencyRange, StaffChange};
use jiff::Timestamp;
use tokio::time::Instant;

use super::checker::SentRecord;
use super::environment::Environment;
use super::escalations::EscalationPublisher;
use super::freshness::Disturbance;
use super::piles::Pile;
use super::settings::{LedgerKind, RunSettings, SESSION_TIMEOUT};
use super::workers::Workers;

/// Until the partitions of a worker that is down are served again, and the records that arrived
/// meanwhile are answered: the group's rebalance, calls in doubt, slow start.
const RECOVERY: Duration = Duration::from_secs(10);
/// The same where only some calls failed.
const DESK_RECOVERY: Duration = Duration::from_secs(5);
/// How long a pile is observed before the next fault.
const PILE_TIME: Duration = Duration::from_secs(12);

/// A fault; times in milliseconds.
enum Fault {
    Kill { worker: usize, down: u64 },
    KillAll { down: u64 },
    RollingRestart,
    Pause { worker: usize, time: u64 },
    StopBroker { down: u64 },
    KillBroker { down: u64 },
    StopDatabase { down: u64 },
    DeskOutage { closes_port: bool, time: u64 },
    DeskFaults(&'static str, FaultSchedule),
    Throttle { limit: u32, time: u64 },
    StallLog { worker: usize, time: u64 },
    Pile(Pile),
}

impl Fault {
    /// How long after it events may still wait because of it; `None`: it must delay no event that
    /// Desk answers.
    fn aftermath(&self) -> Option<Duration> {
        // The group notices a killed member after its session time-out.
        let of_kill = |down: u64| Duration::from_millis(down).max(SESSION_TIMEOUT) + RECOVERY;
        match self {
            Self::Kill { down, .. } | Self::KillAll { down } => Some(of_kill(*down)),
            // A worker may be killed meanwhile.
            Self::StopBroker { .. } | Self::KillBroker { .. } | Self::StopDatabase { .. } => {
                Some(of_kill(0))
            }
            Self::Pause { time, .. } | Self::DeskOutage { time, .. } => {
                Some(Duration::from_millis(*time) + RECOVERY)
            }
            Self::RollingRestart | Self::Throttle { .. } => Some(RECOVERY),
            Self::DeskFaults(..) => Some(DESK_RECOVERY),
            Self::StallLog { .. } | Self::Pile(_) => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { worker, down } => write!(f, "kill worker {worker}, down {down} ms"),
            Self::KillAll { down } => write!(f, "kill all workers, down {down} ms"),
            Self::RollingRestart => f.write_str("rolling restart"),
            Self::Pause { worker, time } => write!(f, "pause worker {worker} for {time} ms"),
            Self::KillBroker { down } => write!(f, "kill the broker, down {down} ms"),
            Self::StopBroker { down } => write!(f, "stop the broker, down {down} ms"),
            Self::StopDatabase { down } => write!(f, "stop the database, down {down} ms"),
            Self::DeskOutage { closes_port: true, time } => {
                write!(f, "Desk closes its port for {time} ms")
            }
            Self::DeskOutage { time, .. } => write!(f, "Desk cuts connections for {time} ms"),
            Self::DeskFaults(name, schedule) => {
                let queries = if schedule.faults.len() > 1 { ", state queries too" } else { "" };
                write!(f, "Desk: {} x {name}{queries}", schedule.faults[0].times)
            }
            Self::Throttle { limit, time } => {
                write!(f, "Desk allows {limit} calls per second for {time} ms")
            }
            Self::StallLog { worker, time } => {
                write!(f, "nobody reads the log of worker {worker} for {time} ms")
            }
            Self::Pile(pile) => write!(f, "{pile}"),
        }
    }
}

/// Number of faults by target; those of workers are counted in `WorkerCounts`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FaultCounts {
    pub(super) broker: usize,
    pub(super) database: usize,
    pub(super) desk: usize,
    pub(super) piles: usize,
}

/// Draws and performs the faults of a run.
pub(super) struct FaultInjector {
    rng: Rng,
    settings: RunSettings,
    with_database: bool,
    publisher: EscalationPublisher,
    pub(super) counts: FaultCounts,
    pub(super) disturbances: Vec<Disturbance>,
    /// The faults with their times.
    pub(super) log: Vec<String>,
}

impl FaultInjector {
    /// Piles are published by `publisher`.
    pub(super) fn new(settings: &RunSettings, publisher: EscalationPublisher) -> Self {
        Self {
            rng: Rng::with_seed(settings.seed ^ 0xfa17),
            settings: settings.clone(),
            with_database: settings.ledger == LedgerKind::Postgres,
            publisher,
            counts: FaultCounts::default(),
            disturbances: Vec::new(),
            log: Vec::new(),
        }
    }

    /// The records of the piles, once all are acknowledged.
    pub(super) async fn sent(&mut self) -> &[SentRecord] {
        self.publisher.sent().await
    }

    /// Reports that events may wait from now on, for this time.
    pub(super) fn disturbed_for(&mut self, time: Duration) {
        self.disturbances.push(Disturbance { from: now(), until: now() + time });
    }

    /// Injects faults for this long, then starts all workers that are down.
    pub(super) async fn run(
        &mut self,
        environment: &mut Environment,
        workers: &mut Workers,
        time: Duration,
    ) {
        let until = Instant::now() + time;
        loop {
            let pause = self.between(400, 2500);
            workers.supervise(pause).await;
            if Instant::now() >= until {
                environment.desk.change_staff(&StaffChange::everyone(true)).await;
                return workers.start_all();
            }
            let fault = self.draw();
            let is_silent = matches!(fault, Fault::Pile(_) | Fault::StallLog { .. });
            if is_silent && self.settings.judges_freshness() {
                self.wait_for_calm(workers).await;
            }
            self.log_fault(&fault);
            let (from, aftermath) = (now(), fault.aftermath());
            self.perform(fault, environment, workers).await;
            self.disturbances
                .extend(aftermath.map(|time| Disturbance { from, until: now() + time }));
        }
    }

    /// Waits until no earlier fault explains that an event waits, so that this one cannot hide.
    async fn wait_for_calm(&mut self, workers: &mut Workers) {
        let last = self.disturbances.iter().map(|time| time.until).max();
        let rest = last.map_or(Duration::ZERO, |last| last.duration_since(now()).unsigned_abs());
        if last > Some(now()) {
            workers.supervise(rest).await;
        }
    }

    fn log_fault(&mut self, fault: &Fault) {
        let line = format!("{:.3}  {fault}", now());
        println!("{line}");
        self.log.push(line);
    }

    fn draw(&mut self) -> Fault {
        let worker = self.rng.usize(..self.settings.workers);
        // Half of them restart before their session times out in the group.
        let down = if self.rng.bool() { self.ms(0, 300) } else { self.ms(300, 9000) };
        match self.rng.u32(..100) {
            0..28 => Fault::Kill { worker, down },
            28..31 => Fault::KillAll { down: self.ms(0, 1500) },
            31..42 => Fault::RollingRestart,
            42..47 => Fault::Pause {
                worker,
                time: SESSION_TIMEOUT.as_millis() as u64 + self.ms(1500, 5000),
            },
            47..51 => {
                let down = self.ms(0, 6000);
                if self.rng.u32(..3) > 0 {
                    Fault::KillBroker { down }
                } else {
                    Fault::StopBroker { down }
                }
            }
            51..56 if self.with_database => Fault::StopDatabase { down: self.ms(0, 8000) },
            51..61 => Fault::DeskOutage { closes_port: self.rng.bool(), time: self.ms(500, 6000) },
            61..79 => self.desk_faults(),
            79..83 => {
                // A worker in calm uses the rate of the records and little more.
                let limit = self.settings.rate as u32 + self.rng.u32(20..100);
                Fault::Throttle { limit, time: self.ms(500, 8000) }
            }
            83..87 => Fault::StallLog { worker, time: self.ms(2000, 20_000) },
            _ => Fault::Pile(Pile::draw(&mut self.rng, self.settings.pile_size())),
        }
    }

    fn desk_faults(&mut self) -> Fault {
        let times = self.rng.u32(3..25);
        let transfers: [(&'static str, InjectedFault); 12] = [
            ("hangs", InjectedFault::hang()),
            ("hangs, with effect", InjectedFault::hang().with_effect()),
            ("lost answers", InjectedFault::lost_answer()),
            ("lost calls", InjectedFault::close()),
            ("141002", InjectedFault::error(141_002)),
            ("141002, with effect", InjectedFault::error(141_002).with_effect()),
            ("60008, with effect", InjectedFault::error(60_008).with_effect()),
            ("502", InjectedFault::status(502)),
            ("502, with effect", InjectedFault::status(502).with_effect()),
            ("60007", InjectedFault::error(60_007)),
            ("late effect, lost answer", late_effect()),
            ("HTML page", InjectedFault::garbage("<html>down for maintenance</html>")),
        ];
        let (name, fault) = transfers[self.rng.usize(..transfers.len())].clone();
        let mut faults = vec![fault.times(times)];
        if self.rng.u32(..3) == 0 {
            // Also disturb the state query that would resolve the doubt.
            let queries = [
                InjectedFault::hang(),
                InjectedFault::status(502),
                InjectedFault::error(60_014),
                InjectedFault::close(),
            ];
            let query = queries[self.rng.usize(..queries.len())].clone();
            faults.push(query.commands(&[ApiCommand::State]).times(times));
        }
        Fault::DeskFaults(name, FaultSchedule { faults, ..FaultSchedule::default() })
    }

    async fn perform(
        &mut self,
        fault: Fault,
        environment: &mut Environment,
        workers: &mut Workers,
    ) {
        match fault {
            Fault::Kill { worker, down } => workers.kill(worker, Duration::from_millis(down)).await,
            Fault::KillAll { down } => workers.kill_all(Duration::from_millis(down)).await,
            Fault::RollingRestart => workers.rolling_restart().await,
            Fault::Pause { worker, time } => workers.pause(worker, Duration::from_millis(time)),
            Fault::StopBroker { down } => {
                self.counts.broker += 1;
                environment.broker.stop().await;
                self.meanwhile(workers, down).await;
                environment.broker.start_again().await;
            }
            Fault::KillBroker { down } => {
                self.counts.broker += 1;
                environment.broker.kill().await;
                self.meanwhile(workers, down).await;
                environment.broker.start_again().await;
            }
            Fault::StopDatabase { down } => {
                self.counts.database += 1;
                let database = environment.database.as_ref().expect("drawn only if there is one");
                database.stop().await;
                self.meanwhile(workers, down).await;
                database.start_again().await;
            }
            Fault::DeskOutage { closes_port, time } => {
                self.counts.desk += 1;
                environment.desk.outage(closes_port, Duration::from_millis(time)).await;
            }
            Fault::DeskFaults(_, schedule) => {
                self.counts.desk += 1;
                environment.desk.schedule(&schedule).await;
            }
            Fault::Throttle { limit, time } => {
                self.counts.desk += 1;
                environment.desk.schedule(&limited_to(limit)).await;
                workers.supervise(Duration::from_millis(time)).await;
                environment.desk.schedule(&limited_to(0)).await;
            }
            Fault::StallLog { worker, time } => {
                let time = Duration::from_millis(time);
                workers.stall_log(worker, time);
                self.observe(workers, time).await;
            }
            Fault::Pile(pile) => {
                self.counts.piles += 1;
                if let Some(schedule) = pile.schedule(self.counts.piles) {
                    environment.desk.schedule(&schedule).await;
                }
                for record in pile.records(self.counts.piles) {
                    self.publisher.send(record);
                }
                self.observe(workers, PILE_TIME).await;
            }
        }
    }

    /// No other fault for this time, so that each event is judged that is published meanwhile.
    async fn observe(&self, workers: &mut Workers, time: Duration) {
        if self.settings.judges_freshness() {
            workers.supervise(time).await;
        }
    }

    /// Waits; a worker may be killed meanwhile.
    async fn meanwhile(&mut self, workers: &mut Workers, ms: u64) {
        let (before, after) = (self.ms(0, ms), self.ms(0, ms));
        workers.supervise(Duration::from_millis(before)).await;
        if self.rng.u32(..3) == 0 {
            let (worker, down) = (self.rng.usize(..self.settings.workers), self.between(0, 2000));
            workers.kill(worker, down).await;
        }
        workers.supervise(Duration::from_millis(after)).await;
    }

    fn ms(&mut self, least: u64, most: u64) -> u64 {
        self.rng.u64(least..=most)
    }

    fn between(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.ms(least, most))
    }
}

/// Takes effect when the client may have timed out, but within Desk's own limit.
fn late_effect() -> InjectedFault {
    InjectedFault::lost_answer().delayed(LatencyRange::between(200, 1300), LatencyRange::default())
}

fn limited_to(calls_per_second: u32) -> FaultSchedule {
    FaultSchedule { limit_per_second: Some(calls_per_second), ..FaultSchedule::default() }
}

#[expect(clippy::disallowed_methods, reason = "compared with the clocks of broker and workers")]
fn now() -> Timestamp {
    Timestamp::now()
}
