//! Ten events beside a pile of events that cannot be answered now: how long do the ten wait?
//!
//! Each pile is one kind: people who wait for a group without agents, events whose calls always fail,
//! parked events, many events of one session, sessions whose calls hang. The worker is restarted once
//! beside its pile, and its admin port is asked all the time, as by an open page and a scraper. Large
//! piles of parked events are made in the ledger ([`crate::parked_rows`]).

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use handoff::domain::wire::outcome::OutcomeRecord;
use handoff::sim::desk::{Agent, ApiCommand, FaultSchedule, InjectedFault, StaffChange};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::admin::{self, AdminLoad};
use crate::contestant::{Contestant, Kind};
use crate::desk::Desk;
use crate::kafka::{Topics, now_us};
use crate::measure::logged_at_us;
use crate::numbers::{quantile, sorted};
use crate::parked_rows;
use crate::scenario::{LedgerKind, Pile, Run, Scenario};
use crate::support::kafka::{Record, read_to_end};
use crate::support::postgres;

const LIMIT: Duration = Duration::from_secs(120);
const OTHERS: usize = 10;
/// Intervals of the waiting room in which its calls are counted.
const INTERVALS: u32 = 4;

/// One run.
pub(crate) async fn run(
    pile: Pile,
    scenario: &Scenario,
    bootstrap: &str,
    scale: f64,
) -> Result<Run> {
    let mut run = Run::new(Kind::Handoff);
    let beside = BesidePile::prepare(pile, scenario, bootstrap, scale).await?;
    let mut worker = beside.worker(&[])?;
    let begun = Instant::now();
    beside.publish_pile(&mut worker).await?;
    run.figures.insert("pile_made_s", begun.elapsed().as_secs_f64());
    let waits = beside.answer_times("steady", &mut worker).await?;
    run.figures.insert("pile", beside.size as f64);
    run.figures.insert("admin_requests", beside.watcher.answered() as f64);
    run.figures.insert("others_p50_ms", quantile(&waits, 0.5));
    run.figures.insert("others_max_ms", quantile(&waits, 1.0));
    if matches!(pile, Pile::Room | Pile::Crowd(_)) {
        let before = beside.transfers().await?;
        sleep(beside.interval * INTERVALS).await;
        let calls = beside.transfers().await? - before;
        run.figures.insert("calls_per_interval", calls as f64 / f64::from(INTERVALS));
    }
    let before_restart = worker.memory()?.1;
    worker.stop().await?;
    let sent = beside.publish_others("restart").await;
    let mut worker = beside.worker(&[])?;
    let answers = beside.answers("restart", &mut worker).await?;
    let assigned = logged_at_us(&worker.log(), "partitions assigned").context("never assigned")?;
    let first = answers.values().min().context("no answer")?;
    ensure!(assigned > sent, "the worker starts after the others were published");
    run.figures.insert("assigned_to_first_ms", (first - assigned) as f64 / 1e3);
    run.figures.insert("peak_rss_mib", before_restart.max(worker.memory()?.1));
    worker.stop().await?;
    Ok(run)
}

/// The parts of a run.
struct BesidePile {
    pile: Pile,
    /// Its events.
    size: usize,
    /// Between two attempts of an event that waits for an agent.
    interval: Duration,
    /// For the page the service adds up all parked events, a million of them in some seconds.
    counting: Duration,
    topics: Topics,
    desk: Desk,
    /// Connected before anything is measured.
    producer: FutureProducer,
    settings: Vec<(&'static str, String)>,
    folder: TempDir,
    watcher: AdminLoad,
}

impl BesidePile {
    async fn prepare(pile: Pile, scenario: &Scenario, bootstrap: &str, scale: f64) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let ledger = match pile {
            Pile::Parked(LedgerKind::Postgres) | Pile::Crowd(LedgerKind::Postgres) => {
                postgres::schema().await
            }
            _ => format!("sqlite://{}", folder.path().join("ledger.db").display()),
        };
        let mut settings = scenario.settings();
        settings.push(("LEDGER__URL", ledger.clone()));
        settings.push(("DESK__QUOTA_PER_SECOND", "100".into()));
        let watcher = AdminLoad::start(&mut settings, admin::WATCHED);
        let beside = Self {
            pile,
            size: ((scenario.count as f64 * scale) as usize).max(5),
            interval: Duration::from_secs(if scale < 0.1 { 1 } else { 5 }),
            counting: Duration::from_secs(if scale < 0.1 { 1 } else { 30 }),
            topics: Topics::create(bootstrap, scenario.name, scenario.partitions).await,
            desk: Desk::start(scenario.latency, 0)?,
            producer: ClientConfig::new()
                .set("bootstrap.servers", bootstrap)
                .set("partitioner", "murmur2_random")
                .create()?,
            settings,
            folder,
            watcher,
        };
        std::fs::write(beside.folder.path().join("handoff.toml"), beside.routes())?;
        beside.prepare_desk().await?;
        if matches!(pile, Pile::Parked(_) | Pile::Crowd(_)) {
            beside.park_template().await?;
            let rows = parked_rows::copy(&ledger, beside.size, beside.topics.partitions).await?;
            ensure!(rows == beside.size as u64, "{rows} rows of {} are copied", beside.size);
            beside.topics.occupy(beside.size).await;
        }
        Ok(beside)
    }

    fn routes(&self) -> String {
        format!(
            "[[routes]]\nname = \"night\"\nwhen = {{ room = \"night\" }}\n\
             targets = [{{ group = 2480 }}]\ndefault_target = false\n\
             while_nobody_online = \"keep_trying\"\nretry_ms = [{}]\n",
            self.interval.as_millis()
        )
    }

    /// The staff, and what Desk answers to the sessions of the pile.
    async fn prepare_desk(&self) -> Result<()> {
        let night = Agent { group: Some(2480), online: false, ..Agent::new("night@example.com") };
        let staff = StaffChange::exactly(vec![Agent::new("day@example.com"), night]);
        self.desk.control("agents", &staff).await?;
        let fault = match self.pile {
            Pile::Retries => InjectedFault::error(141_002),
            Pile::Hanging => InjectedFault::hang(),
            Pile::Parked(_) => InjectedFault::error(60_014),
            Pile::Room | Pile::Crowd(_) | Pile::Flood => return Ok(()),
        };
        let sessions = match self.pile {
            Pile::Parked(_) => vec![parked_rows::TEMPLATE.to_owned()],
            _ => (0..self.size).map(|n| format!("pile-{n}")).collect(),
        };
        let faults = sessions.into_iter().map(|session| fault.clone().session(session).times(0));
        let schedule = FaultSchedule { faults: faults.collect(), ..FaultSchedule::default() };
        self.desk.control("schedule", &schedule).await
    }

    fn worker(&self, more: &[(&'static str, String)]) -> Result<Contestant> {
        let settings = [&self.settings[..], more].concat();
        let config = self.folder.path().join("handoff.toml");
        Contestant::start_with(Kind::Handoff, &self.topics, &self.desk, &settings, Some(&config))
    }

    /// Lets the service park one event as it parks each.
    async fn park_template(&self) -> Result<()> {
        // A parked event comes back after the run.
        let park =
            [("RETRY__QUICK_ATTEMPTS", "1".into()), ("RETRY__PARK_MS", "14400000".to_owned())];
        let mut worker = self.worker(&park)?;
        let fields = match self.pile {
            Pile::Crowd(_) => json!({"attributes": {"room": "night"}}),
            _ => json!({}),
        };
        self.publish([event(parked_rows::TEMPLATE, parked_rows::TEMPLATE, fields)]).await;
        let begun = Instant::now();
        while self.transfers().await? == 0 {
            worker.check()?;
            ensure!(begun.elapsed() < LIMIT, "no call in {LIMIT:?}");
            sleep(Duration::from_millis(50)).await;
        }
        sleep(Duration::from_millis(500)).await;
        worker.stop().await.map(drop)
    }

    /// Publishes the pile, if it is not in the ledger, and waits until it is one.
    async fn publish_pile(&self, worker: &mut Contestant) -> Result<()> {
        let ids = (0..self.size).map(|n| format!("pile-{n}"));
        match self.pile {
            Pile::Room => {
                let fields = json!({"attributes": {"room": "night"}});
                self.publish(ids.map(|id| event(&id, &id, fields.clone()))).await;
                self.wait_for_outcomes(self.size, worker).await?;
            }
            Pile::Retries => {
                self.publish(ids.map(|id| event(&id, &id, json!({})))).await;
                self.wait_for_first_attempts(worker).await?;
            }
            Pile::Hanging => self.publish(ids.map(|id| event(&id, &id, json!({})))).await,
            Pile::Flood => self.publish(ids.map(|id| event(&id, "flood", json!({})))).await,
            Pile::Parked(_) | Pile::Crowd(_) => sleep(self.counting).await,
        }
        // Calls hang, and old events are tried again.
        sleep(Duration::from_secs(2)).await;
        Ok(())
    }

    /// They go before those of the others, which are younger: as fast as the quota allows.
    async fn wait_for_first_attempts(&self, worker: &mut Contestant) -> Result<()> {
        let begun = Instant::now();
        loop {
            let called = self.desk.stats().await?.sessions;
            if called >= self.size as u64 {
                return Ok(());
            }
            worker.check()?;
            let size = self.size;
            ensure!(begun.elapsed() < LIMIT, "{called} of {size} called once in {LIMIT:?}");
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn wait_for_outcomes(&self, count: usize, worker: &mut Contestant) -> Result<()> {
        let (mut watch, begun) = (self.topics.watch(), Instant::now());
        loop {
            let found = watch.outcomes().await;
            if found >= count {
                return Ok(());
            }
            worker.check()?;
            ensure!(begun.elapsed() < LIMIT, "{found} of {count} outcomes in {LIMIT:?}");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Publishes ten events of other sessions and returns how long each waited, in milliseconds.
    async fn answer_times(&self, round: &str, worker: &mut Contestant) -> Result<Vec<f64>> {
        let sent = self.publish_others(round).await;
        let answers = self.answers(round, worker).await?;
        Ok(sorted(answers.values().map(|at| (at - sent) as f64 / 1e3)))
    }

    /// Returns the time of publishing in microseconds since 1970.
    async fn publish_others(&self, round: &str) -> i64 {
        let sent = now_us();
        let ids = (0..OTHERS).map(|n| format!("{round}-{n}"));
        self.publish(ids.map(|id| event(&id, &id, json!({})))).await;
        sent
    }

    /// When the broker took the answer of each of the ten, in microseconds since 1970.
    async fn answers(&self, round: &str, worker: &mut Contestant) -> Result<HashMap<String, i64>> {
        let begun = Instant::now();
        loop {
            let mut answers = HashMap::new();
            for record in read_to_end(&self.topics.bootstrap, &self.topics.of("out")).await {
                let outcome = OutcomeRecord::parse(record.value.as_deref().unwrap_or_default())?;
                let id = outcome.event_id.unwrap_or_default();
                if id.starts_with(&format!("{round}-")) {
                    answers.insert(id, record.timestamp.unwrap_or(0) * 1000 + 500);
                }
            }
            if answers.len() == OTHERS {
                return Ok(answers);
            }
            worker.check()?;
            let found = answers.len();
            ensure!(begun.elapsed() < LIMIT, "{found} of {OTHERS} others answered in {LIMIT:?}");
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn publish(&self, events: impl IntoIterator<Item = Record>) {
        let topic = self.topics.of("in");
        let send = |event: Record| {
            let mut record = FutureRecord::<Vec<u8>, Vec<u8>>::to(&topic);
            (record.key, record.payload) = (event.key.as_ref(), event.value.as_ref());
            let sent = self.producer.send_result(record).map_err(|(error, _)| error);
            sent.expect("room to send")
        };
        let deliveries: Vec<_> = events.into_iter().map(send).collect();
        for delivery in deliveries {
            let delivery = delivery.await.expect("the producer exists");
            delivery.map_err(|(error, _)| error).expect("Kafka takes the record");
        }
    }

    async fn transfers(&self) -> Result<u64> {
        Ok(self.desk.stats().await?.of(ApiCommand::Transfer).calls)
    }
}

fn event(id: &str, session: &str, mut fields: Value) -> Record {
    fields["id"] = id.into();
    fields["session_id"] = session.into();
    Record::new(session, fields.to_string())
}
