//! Chaos on real parts: kills, rolling restarts, freezes, outages, lost answers; then the judge.
//!
//! `scripts/chaos` sets the length and the seed; by itself the test is short. A run is: a faultless time, a time
//! with faults, the wait until all is answered, `handoff audit`, the judgement, the report.
//! A failing run is never explained away: its seed, its report and all logs stay in its folder.

mod audit;
mod desk;
mod evidence;
mod faults;
mod fleet;
mod judge;
mod judge_tests;
mod plan;
mod report;
mod scene;
mod stream;

use std::collections::BTreeSet;
use std::time::Duration;

use handoff::sim::desk::{Command, Stats};
use tokio::time::{Instant, sleep};

use crate::support::kafka::high_watermarks;
use audit::Audit;
use faults::{Broken, Faults};
use fleet::{Fleet, Toll};
use judge::{Evidence, Fate, Findings, Kind, Sent, expected, judge};
use plan::Plan;
use scene::Scene;
use stream::{Publisher, Script};

/// After the last fault everything must be answered within this.
const RECOVERY: Duration = Duration::from_secs(150);
/// Whoever would publish something twice has done it by then.
const AFTERMATH: Duration = Duration::from_secs(4);

/// A run and what came out of it.
struct Run {
    plan: Plan,
    toll: Toll,
    broken: Broken,
    /// Transfers per event without faults, and with them.
    calm_calls: f64,
    stormy_calls: f64,
    stats: Stats,
    settled: Duration,
    evidence: Evidence,
    findings: Findings,
    audit: Audit,
}

impl Run {
    fn is_well(&self) -> bool {
        let called_once = (self.calm_calls - 1.0).abs() < f64::EPSILON;
        let is_well = self.findings.is_well(self.toll.freezes > 0) && self.audit_is_well();
        let is_well = is_well && called_once && self.something_broke();
        is_well && self.toll.odd_ends.is_empty() && self.stats.transferred_again == 0
    }

    fn audit_is_well(&self) -> bool {
        let (events, _) = expected(&self.evidence.sent);
        self.audit.is_well(events, self.toll.freezes > 0)
    }

    /// A run that was long enough and in which no worker was killed proves nothing.
    fn something_broke(&self) -> bool {
        self.toll.kills > 0 || !self.plan.must_kill()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_each_event_is_answered_once_and_truly() {
    let run = run(Plan::from_environment()).await;
    let report = report::report(&run);
    println!("{report}");
    std::fs::write(run.plan.folder.join("report.txt"), &report).expect("the report is written");
    assert!(run.is_well(), "see {}\n{report}", run.plan.folder.display());
}

async fn run(plan: Plan) -> Run {
    let mut scene = Scene::set(&plan).await;
    let bootstrap = scene.broker.bootstrap().to_owned();
    let mut publisher = Publisher::new(&bootstrap, scene.topic("in"), Script::new(plan.seed));
    let mut fleet = Fleet::start(plan.workers, &plan.folder, |number| scene.env(number));

    publisher.run(plan.rate, plan.calm).await;
    let calm = publisher.sent().await.to_vec();
    answered(&scene, &mut fleet, &calm).await;
    let before = scene.desk.stats().await.of(Command::Transfer).calls;

    let mut faults = Faults::new(plan.seed, plan.workers, scene.database.is_some());
    let (_, ()) = tokio::join!(
        publisher.run(plan.rate, plan.stormy),
        faults.run(&mut scene, &mut fleet, plan.stormy),
    );
    let sent = publisher.sent().await.to_vec();
    let settled = answered(&scene, &mut fleet, &sent).await;
    fleet.pass(AFTERMATH).await;
    fleet.stop().await;

    let stats = scene.desk.stats().await;
    let evidence = evidence::gather(&scene, sent).await;
    let unfinished = scene.recover().await;
    let audit = audit::run(&scene).await;
    let files = [
        ("faults.txt", faults.chronicle.join("\n")),
        ("unfinished.txt", unfinished),
        ("audit.json", audit.out.clone()),
        ("audit.log", audit.err.clone()),
    ];
    for (name, text) in files {
        std::fs::write(plan.folder.join(name), text).expect("a file is written");
    }
    let findings = judge(&evidence);
    let stormy = to_be_asked(&evidence.sent) - to_be_asked(&calm);
    Run {
        toll: fleet.toll,
        broken: faults.broken,
        calm_calls: before as f64 / to_be_asked(&calm) as f64,
        stormy_calls: (stats.of(Command::Transfer).calls - before) as f64 / stormy as f64,
        stats,
        settled,
        evidence,
        findings,
        audit,
        plan,
    }
}

/// Wait until everything that was sent is answered, or the patience ends; how long it took.
async fn answered(scene: &Scene, fleet: &mut Fleet, sent: &[Sent]) -> Duration {
    let begun = Instant::now();
    let (answers, letters) = expected(sent);
    while begun.elapsed() < RECOVERY {
        fleet.pass(Duration::from_millis(500)).await;
        let mut missing = 0;
        for (topic, wanted) in [("out", answers), ("dead", letters)] {
            let ends = high_watermarks(scene.broker.bootstrap(), &scene.topic(topic)).await;
            missing += wanted.saturating_sub(ends.iter().sum::<i64>() as usize);
        }
        if missing == 0 {
            break;
        }
    }
    sleep(Duration::from_millis(500)).await;
    begun.elapsed()
}

/// Events that need a call.
fn to_be_asked(sent: &[Sent]) -> usize {
    let id = |sent: &'_ Sent| match &sent.kind {
        Kind::Event { id, fate: Fate::Asked, .. } => Some(id.clone()),
        _ => None,
    };
    sent.iter().filter_map(id).collect::<BTreeSet<_>>().len()
}
