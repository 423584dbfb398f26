//! Random faults: drawn from the seed, performed on the real parts, logged.
//!
//! Faults are injected one after the other, but their consequences overlap: a worker may still be
//! down or paused, or faults of Desk still pending, when the next one is injected.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use handoff::sim::desk::{ApiCommand, FaultSchedule, InjectedFault, LatencyRange};
use tokio::time::Instant;

use super::environment::Environment;
use super::settings::SESSION_TIMEOUT;
use super::workers::Workers;

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
        }
    }
}

/// Number of faults by target; those of workers are counted in `WorkerCounts`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FaultCounts {
    pub(super) broker: usize,
    pub(super) database: usize,
    pub(super) desk: usize,
}

/// Draws and performs the faults of a run.
pub(super) struct FaultInjector {
    rng: Rng,
    workers: usize,
    with_database: bool,
    pub(super) counts: FaultCounts,
    /// The faults with their times.
    pub(super) log: Vec<String>,
}

impl FaultInjector {
    pub(super) fn new(seed: u64, workers: usize, with_database: bool) -> Self {
        let rng = Rng::with_seed(seed ^ 0xfa17);
        Self { rng, workers, with_database, counts: FaultCounts::default(), log: Vec::new() }
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
                return workers.start_all();
            }
            let fault = self.draw();
            self.log_fault(&fault);
            self.perform(fault, environment, workers).await;
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the logs of the workers contain the time too")]
    fn log_fault(&mut self, fault: &Fault) {
        let line = format!("{:.3}  {fault}", jiff::Timestamp::now());
        println!("{line}");
        self.log.push(line);
    }

    fn draw(&mut self) -> Fault {
        let worker = self.rng.usize(..self.workers);
        // Half of them restart before their session times out in the group.
        let down = if self.rng.bool() { self.ms(0, 300) } else { self.ms(300, 9000) };
        match self.rng.u32(..100) {
            0..36 => Fault::Kill { worker, down },
            36..40 => Fault::KillAll { down: self.ms(0, 1500) },
            40..54 => Fault::RollingRestart,
            54..61 => Fault::Pause {
                worker,
                time: SESSION_TIMEOUT.as_millis() as u64 + self.ms(1500, 5000),
            },
            61..65 => {
                let down = self.ms(0, 6000);
                if self.rng.u32(..3) > 0 {
                    Fault::KillBroker { down }
                } else {
                    Fault::StopBroker { down }
                }
            }
            65..70 if self.with_database => Fault::StopDatabase { down: self.ms(0, 8000) },
            65..75 => Fault::DeskOutage { closes_port: self.rng.bool(), time: self.ms(500, 6000) },
            _ => self.desk_faults(),
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
        }
    }

    /// Waits; a worker may be killed meanwhile.
    async fn meanwhile(&mut self, workers: &mut Workers, ms: u64) {
        let (before, after) = (self.ms(0, ms), self.ms(0, ms));
        workers.supervise(Duration::from_millis(before)).await;
        if self.rng.u32(..3) == 0 {
            let (worker, down) = (self.rng.usize(..self.workers), self.between(0, 2000));
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
