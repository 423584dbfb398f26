//! Injects random faults: drawn from the seed, performed on the real parts, logged.
//!
//! Faults are injected one after the other, but their consequences overlap: a worker may still be
//! down or paused, or faults of Desk still pending, when the next one is injected. Each says how long
//! events may wait because of it; those that must delay no other event begin when no earlier one
//! does, and are followed by none for some time.

use std::time::Duration;

use fastrand::Rng;
use handoff::sim::desk::{ApiCommand, FaultSchedule, InjectedFault, LatencyRange, StaffChange};
use jiff::Timestamp;
use tokio::time::Instant;

use super::checker::SentRecord;
use super::environment::{APPEND_TIME, Environment};
use super::escalations::{EscalationPublisher, GeneratedRecord, burst};
use super::faults::{ConnectedTo, FREEZE, Fault, FaultCounts, Refusal};
use super::freshness::Disturbance;
use super::piles::Pile;
use super::settings::{LedgerKind, RunSettings, SESSION_TIMEOUT};
use super::workers::Workers;

/// How long a pile is observed before the next fault.
const PILE_TIME: Duration = Duration::from_secs(12);
/// A pile that is spread over that time arrives in so many parts.
const PILE_PARTS: u32 = 24;

/// Longer than any event is in work that is neither parked nor answered.
const LEFT_IN_WORK: Duration = Duration::from_secs(15);

/// Draws and performs the faults of a run.
pub(super) struct FaultInjector {
    rng: Rng,
    settings: RunSettings,
    with_database: bool,
    publisher: EscalationPublisher,
    bursts: usize,
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
            bursts: 0,
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
            if fault.needs_calm() && self.settings.judges_freshness() {
                self.wait_for_calm(workers).await;
            }
            self.log_fault(&fault);
            let from = now();
            let is_calm = self.disturbances.iter().all(|earlier| earlier.until < from);
            let aftermath = if is_calm { fault.aftermath_in_calm() } else { fault.aftermath() };
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

    /// A fault of the kinds that this run has.
    fn draw(&mut self) -> Fault {
        loop {
            let fault = self.draw_any();
            if self.settings.has(fault.kind()) {
                return fault;
            }
        }
    }

    fn draw_any(&mut self) -> Fault {
        let worker = self.rng.usize(..self.settings.workers);
        let is_long = self.settings.judges_freshness();
        // Half of them restart before their session times out in the group.
        let down = if self.rng.bool() { self.ms(0, 300) } else { self.ms(300, 9000) };
        match self.rng.u32(..117) {
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
                // Workers in calm use the rate of the records and little more.
                let limit = self.settings.rate as u32 + self.rng.u32(20..100);
                Fault::Throttle { limit, time: self.ms(500, 8000) }
            }
            83..87 => Fault::StallLog { worker, time: self.ms(2000, 20_000) },
            87..91 => {
                let by = if self.rng.bool() { Refusal::Size } else { Refusal::Timestamp };
                let time = self.ms(10_000, 40_000);
                Fault::RefuseOutcomes { by, time: if is_long { time } else { time / 10 } }
            }
            91..94 if is_long => Fault::Freeze { worker },
            94..98 if self.with_database => {
                let late = self.ms(0, 8000);
                Fault::RotatePassword { late: if self.rng.bool() { late } else { 0 } }
            }
            98..102 if self.with_database && self.rng.bool() => {
                Fault::DropConnections { of: ConnectedTo::Database }
            }
            98..102 => Fault::DropConnections { of: ConnectedTo::Broker },
            114..117 if is_long => Fault::MakeTopicAgain {
                times: self.rng.u32(1..=2),
                kills: self.settings.has("kill") && self.rng.bool(),
            },
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
            Fault::Freeze { worker } => workers.freeze(worker, FREEZE),
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
            Fault::RefuseOutcomes { by, time } => {
                self.counts.refusals += 1;
                environment.set_up_output_topics(by.topic_settings()).await;
                self.wait(workers, time / 2, time / 2).await;
                environment.set_up_output_topics(&[APPEND_TIME]).await;
            }
            Fault::StopDatabase { down } => {
                self.counts.database += 1;
                let database = environment.database.as_ref().expect("drawn only if there is one");
                database.stop().await;
                self.meanwhile(workers, down).await;
                database.start_again().await;
            }
            Fault::RotatePassword { late } => {
                self.rotate_password(late, environment, workers).await;
            }
            Fault::DropConnections { of } => {
                self.counts.dropped_connections += 1;
                environment.drop_connections(of);
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
            Fault::MakeTopicAgain { times, kills } => {
                self.make_topic_again(times, kills, environment, workers).await;
            }
            Fault::Pile(pile) => {
                self.counts.piles += 1;
                if let Some(schedule) = pile.schedule(self.counts.piles) {
                    environment.desk.schedule(&schedule).await;
                }
                self.publish_pile(pile.records(self.counts.piles), pile.is_spread(), workers).await;
            }
        }
    }

    async fn rotate_password(
        &mut self,
        late: u64,
        environment: &Environment,
        workers: &mut Workers,
    ) {
        self.counts.passwords += 1;
        let password = format!("password-{}", self.counts.passwords);
        if late == 0 {
            environment.write_password(&password);
        }
        environment.change_password(&password).await;
        self.wait(workers, late / 2, late / 2).await;
        environment.write_password(&password);
    }

    /// Deletes the input topic while a burst of events is being read, and creates it again. Then
    /// everything in the last topic must be read.
    async fn make_topic_again(
        &mut self,
        times: u32,
        kills: bool,
        environment: &Environment,
        workers: &mut Workers,
    ) {
        let input = environment.input.clone();
        for _ in 0..times {
            self.counts.topics += 1;
            self.send_burst();
            workers.supervise(self.between(0, 1500)).await;
            let closed = input.close().await;
            let kills_first = kills && self.rng.bool();
            if kills_first {
                workers.kill_all(self.between(0, 3000)).await;
            }
            input.make_again(kills).await;
            drop(closed);
            self.send_burst();
            if kills && !kills_first {
                workers.supervise(self.between(0, 3000)).await;
                workers.kill_all(self.between(0, 3000)).await;
            }
            workers.supervise(self.between(0, 8000)).await;
        }
        let _closed = input.close().await;
        if kills {
            workers.supervise(LEFT_IN_WORK).await;
            input.abandon(environment.keys_in_work().await);
        }
        input.require_below(super::read_to_end(environment, workers).await);
    }

    fn send_burst(&mut self) {
        self.bursts += 1;
        let events = self.ms(50, 800);
        burst(self.bursts, events).for_each(|record| self.publisher.send(record));
    }

    /// Publishes a pile at once, or spread over the time in which it is observed.
    async fn publish_pile(
        &mut self,
        records: Vec<GeneratedRecord>,
        is_spread: bool,
        workers: &mut Workers,
    ) {
        let parts = if is_spread { PILE_PARTS } else { 1 };
        let size = records.len().div_ceil(parts as usize);
        for part in records.chunks(size) {
            part.iter().for_each(|record| self.publisher.send(record.clone()));
            self.observe(workers, PILE_TIME / parts).await;
        }
    }

    /// No other fault for this time, so that each event is judged that is published meanwhile.
    async fn observe(&self, workers: &mut Workers, time: Duration) {
        if self.settings.judges_freshness() {
            workers.supervise(time).await;
        }
    }

    /// Waits for a time from 0 to twice this; a worker may be killed meanwhile.
    async fn meanwhile(&mut self, workers: &mut Workers, ms: u64) {
        let (before, after) = (self.ms(0, ms), self.ms(0, ms));
        self.wait(workers, before, after).await;
    }

    /// Waits for both times; a worker may be killed between them.
    async fn wait(&mut self, workers: &mut Workers, before: u64, after: u64) {
        workers.supervise(Duration::from_millis(before)).await;
        if self.settings.has("kill") && self.rng.u32(..3) == 0 {
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
