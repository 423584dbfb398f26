//! What goes wrong: drawn from the seed, performed on the real parts, written down.
//!
//! One fault follows the other; what it leaves behind (a worker that is down or frozen, acts that Desk has not
//! used up) goes on meanwhile. This file never repairs more than it broke.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use handoff::sim::desk::{Act, Command, Script, Span};
use tokio::time::Instant;

use super::fleet::Fleet;
use super::plan::SESSION;
use super::scene::Scene;

/// One fault; times in milliseconds.
enum Fault {
    Kill { worker: usize, down: u64 },
    KillAll { down: u64 },
    RollingRestart,
    Freeze { worker: usize, time: u64 },
    Broker { down: u64, kill: bool },
    Database { down: u64 },
    DeskAway { refuse: bool, time: u64 },
    DeskActs(&'static str, Script),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { worker, down } => write!(f, "kill worker {worker}, down {down} ms"),
            Self::KillAll { down } => write!(f, "kill all workers, down {down} ms"),
            Self::RollingRestart => f.write_str("rolling restart"),
            Self::Freeze { worker, time } => write!(f, "freeze worker {worker} for {time} ms"),
            Self::Broker { down, kill: true } => write!(f, "kill the broker, down {down} ms"),
            Self::Broker { down, .. } => write!(f, "stop the broker, down {down} ms"),
            Self::Database { down } => write!(f, "stop the database, down {down} ms"),
            Self::DeskAway { refuse: true, time } => write!(f, "Desk refuses for {time} ms"),
            Self::DeskAway { time, .. } => write!(f, "Desk hangs up for {time} ms"),
            Self::DeskActs(name, script) => {
                let questions = if script.acts.len() > 1 { ", questions too" } else { "" };
                write!(f, "Desk: {} x {name}{questions}", script.acts[0].times)
            }
        }
    }
}

/// How often what was broken.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Broken {
    pub(super) broker: usize,
    pub(super) database: usize,
    pub(super) desk: usize,
}

/// The faults of a run.
pub(super) struct Faults {
    rng: Rng,
    workers: usize,
    with_database: bool,
    pub(super) broken: Broken,
    /// What was done when.
    pub(super) chronicle: Vec<String>,
}

impl Faults {
    pub(super) fn new(seed: u64, workers: usize, with_database: bool) -> Self {
        let rng = Rng::with_seed(seed ^ 0xfa17);
        Self { rng, workers, with_database, broken: Broken::default(), chronicle: Vec::new() }
    }

    /// Break things for so long, then leave everything whole.
    pub(super) async fn run(&mut self, scene: &mut Scene, fleet: &mut Fleet, time: Duration) {
        let until = Instant::now() + time;
        loop {
            let pause = self.between(400, 2500);
            fleet.pass(pause).await;
            if Instant::now() >= until {
                return fleet.all_up();
            }
            let fault = self.draw();
            self.note(&fault);
            self.perform(fault, scene, fleet).await;
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the logs of the workers bear the time too")]
    fn note(&mut self, fault: &Fault) {
        let line = format!("{:.3}  {fault}", jiff::Timestamp::now());
        println!("{line}");
        self.chronicle.push(line);
    }

    fn draw(&mut self) -> Fault {
        let worker = self.rng.usize(..self.workers);
        // Some come back at once, some only when the group has given them up.
        let down = if self.rng.bool() { self.ms(0, 300) } else { self.ms(300, 9000) };
        match self.rng.u32(..100) {
            0..36 => Fault::Kill { worker, down },
            36..40 => Fault::KillAll { down: self.ms(0, 1500) },
            40..54 => Fault::RollingRestart,
            54..61 => {
                Fault::Freeze { worker, time: SESSION.as_millis() as u64 + self.ms(1500, 5000) }
            }
            61..65 => Fault::Broker { down: self.ms(0, 6000), kill: self.rng.u32(..3) > 0 },
            65..70 if self.with_database => Fault::Database { down: self.ms(0, 8000) },
            65..75 => Fault::DeskAway { refuse: self.rng.bool(), time: self.ms(500, 6000) },
            _ => self.acts(),
        }
    }

    fn acts(&mut self) -> Fault {
        let times = self.rng.u32(3..25);
        let transfers: [(&'static str, Act); 12] = [
            ("hangs", Act::hang()),
            ("hangs, with effect", Act::hang().with_effect()),
            ("lost answers", Act::lost_answer()),
            ("lost calls", Act::close()),
            ("141002", Act::error(141_002)),
            ("141002, with effect", Act::error(141_002).with_effect()),
            ("60008, with effect", Act::error(60_008).with_effect()),
            ("502", Act::status(502)),
            ("502, with effect", Act::status(502).with_effect()),
            ("60007", Act::error(60_007)),
            ("late effect, lost answer", late()),
            ("a foreign page", Act::garbage("<html>down for maintenance</html>")),
        ];
        let (name, act) = transfers[self.rng.usize(..transfers.len())].clone();
        let mut acts = vec![act.times(times)];
        if self.rng.u32(..3) == 0 {
            // What would end the doubt is hindered too.
            let questions = [Act::hang(), Act::status(502), Act::error(60_014), Act::close()];
            let question = questions[self.rng.usize(..questions.len())].clone();
            acts.push(question.commands(&[Command::State]).times(times));
        }
        Fault::DeskActs(name, Script { acts, ..Script::default() })
    }

    async fn perform(&mut self, fault: Fault, scene: &mut Scene, fleet: &mut Fleet) {
        match fault {
            Fault::Kill { worker, down } => fleet.kill(worker, Duration::from_millis(down)).await,
            Fault::KillAll { down } => fleet.kill_all(Duration::from_millis(down)).await,
            Fault::RollingRestart => fleet.rolling_restart().await,
            Fault::Freeze { worker, time } => fleet.freeze(worker, Duration::from_millis(time)),
            Fault::Broker { down, kill } => {
                self.broken.broker += 1;
                if kill {
                    scene.broker.kill().await
                } else {
                    scene.broker.stop().await
                }
                self.meanwhile(fleet, down).await;
                scene.broker.start_again().await;
            }
            Fault::Database { down } => {
                self.broken.database += 1;
                let database = scene.database.as_ref().expect("drawn only where there is one");
                database.stop().await;
                self.meanwhile(fleet, down).await;
                database.start_again().await;
            }
            Fault::DeskAway { refuse, time } => {
                self.broken.desk += 1;
                scene.desk.outage(refuse, Duration::from_millis(time)).await;
            }
            Fault::DeskActs(_, script) => {
                self.broken.desk += 1;
                scene.desk.script(&script).await;
            }
        }
    }

    /// While something is down, a worker may crash too.
    async fn meanwhile(&mut self, fleet: &mut Fleet, ms: u64) {
        let (before, after) = (self.ms(0, ms), self.ms(0, ms));
        fleet.pass(Duration::from_millis(before)).await;
        if self.rng.u32(..3) == 0 {
            let (worker, down) = (self.rng.usize(..self.workers), self.between(0, 2000));
            fleet.kill(worker, down).await;
        }
        fleet.pass(Duration::from_millis(after)).await;
    }

    fn ms(&mut self, least: u64, most: u64) -> u64 {
        self.rng.u64(least..=most)
    }

    fn between(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.ms(least, most))
    }
}

/// It happens when the client may have given up already, and before Desk's own limit.
fn late() -> Act {
    Act::lost_answer().delayed(Span::between(200, 1300), Span::default())
}
