//! Chaos runs on real parts: kills, rolling restarts, pauses, outages, lost answers; then a check.
//!
//! A run is: a period without faults, a period with faults, the wait until everything is answered,
//! `handoff audit`, the check ([`checker`]), the report. `scripts/chaos` sets its length and seed;
//! without it the run is short. Report and logs of each run stay in its folder.

mod audit;
mod checker;
mod checker_tests;
mod desk;
mod duty;
mod duty_tests;
mod environment;
mod escalations;
mod evidence;
mod faults;
mod freshness;
mod injector;
mod input_topic;
mod piles;
mod report;
mod settings;
mod workers;

use std::collections::BTreeSet;
use std::time::Duration;

use handoff::sim::desk::{ApiCommand, DeskStats};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::support::kafka::high_watermarks;
use crate::support::stalls::Stalls;
use audit::{AuditResult, Tolerated};
use checker::{
    Evidence, ExpectedCounts, ExpectedResult, Findings, RecordKind, SentRecord, check,
    expected_counts,
};
use environment::Environment;
use escalations::{EscalationPublisher, RecordGenerator};
use faults::FaultCounts;
use freshness::{Disturbance, Freshness, freshness};
use injector::FaultInjector;
use settings::RunSettings;
use workers::{WorkerCounts, Workers};

/// Limit for answering everything after the last fault.
const RECOVERY_LIMIT: Duration = Duration::from_secs(150);
/// From the start of the workers until the events that arrived first are answered.
const START: Duration = Duration::from_secs(10);
/// How often is looked whether everything is answered.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How often an event is published after the faults, until everything is answered: so rarely that the
/// offset of the last one is committed before the next one.
const WITNESS_INTERVAL: Duration = Duration::from_secs(3);
/// Time in which a repeated answer would still be published.
const REPEAT_WINDOW: Duration = Duration::from_secs(4);

/// A finished run.
struct ChaosRun {
    settings: RunSettings,
    workers: WorkerCounts,
    faults: FaultCounts,
    /// For how long the whole machine stood still.
    stalled: Duration,
    /// Transfers per event without faults, and with them.
    calls_without_faults: f64,
    calls_with_faults: f64,
    stats: DeskStats,
    recovery: Duration,
    evidence: Evidence,
    freshness: Freshness,
    findings: Findings,
    audit: AuditResult,
}

impl ChaosRun {
    fn is_successful(&self) -> bool {
        // Without faults a call must not be repeated.
        let called_once = (self.calls_without_faults - 1.0).abs() < f64::EPSILON;
        let no_findings = self.findings.are_acceptable(self.times_paused()) && self.audit_agrees();
        let is_successful = no_findings && called_once && self.has_enough_faults();
        is_successful
            && self.has_enough_judged()
            && self.workers.unexpected_exits.is_empty()
            && self.stats.transferred_again == 0
    }

    fn audit_agrees(&self) -> bool {
        let expected = expected_counts(&self.evidence.sent_to_last_topic());
        let tolerates = Tolerated {
            repeats: self.times_paused() > 0,
            earlier_topics: self.evidence.topics.len() > 1,
        };
        self.audit.agrees(expected.outcomes, tolerates)
    }

    /// How often a process may have done late what another one had done. A short run shares the machine
    /// with other tests, and with other machines: a standstill of it pauses each process.
    fn times_paused(&self) -> usize {
        let stalls = if self.settings.judges_freshness() { 0 } else { self.stalled.as_secs() };
        self.workers.times_paused() + stalls as usize
    }

    /// A long run in which no event is judged for its answer time proves nothing either, if it has
    /// piles.
    fn has_enough_judged(&self) -> bool {
        let must_judge = self.settings.judges_freshness() && self.settings.has("pile");
        !must_judge || self.freshness.judged.len() > 100
    }

    /// A long run in which no worker was killed proves nothing.
    fn has_enough_faults(&self) -> bool {
        self.workers.kills > 0 || !self.settings.must_kill()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_random_faults_each_event_is_answered_once_and_correctly() {
    let run = run(RunSettings::from_environment()).await;
    let report = report::report(&run);
    println!("{report}");
    std::fs::write(run.settings.folder.join("report.txt"), &report).expect("the report is written");
    assert!(run.is_successful(), "see {}\n{report}", run.settings.folder.display());
}

async fn run(settings: RunSettings) -> ChaosRun {
    let stalls = Stalls::begin();
    let mut environment = Environment::start(&settings).await;
    let bootstrap = environment.broker.bootstrap().to_owned();
    let publisher =
        |of_piles| EscalationPublisher::new(&bootstrap, environment.input.clone(), of_piles);
    let mut faults = FaultInjector::new(&settings, publisher(true));
    let mut publisher = publisher(false);
    let mut generator = RecordGenerator::new(settings.seed);
    let mut workers =
        Workers::start(settings.workers, &settings.folder, |number| environment.variables(number));

    // The group forms.
    faults.disturbed_for(START);
    publisher.run(&mut generator, settings.rate, settings.without_faults).await;
    let sent_without_faults = publisher.sent().await.to_vec();
    wait_until_answered(&environment, &mut workers, &sent_without_faults).await;
    let calls_before = environment.desk.stats().await.of(ApiCommand::Transfer).calls;

    let ((), ()) = tokio::join!(
        publisher.run(&mut generator, settings.rate, settings.with_faults),
        faults.run(&mut environment, &mut workers, settings.with_faults),
    );
    let of_piles = faults.sent().await;
    let recovery = recover(&environment, &mut workers, &mut publisher, of_piles).await;
    let sent = [publisher.sent().await, of_piles].concat();
    workers.supervise(REPEAT_WINDOW).await;
    workers.stop().await;

    let stats = environment.desk.stats().await;
    let evidence = evidence::gather(&environment, sent, disturbances(&settings, &faults)).await;
    let unfinished = environment.unfinished_entries().await;
    let audit = audit::run(&environment).await;
    let files = [
        ("faults.txt", faults.log.join("\n")),
        ("unfinished.txt", unfinished),
        ("audit.json", audit.out.clone()),
        ("audit.log", audit.err.clone()),
    ];
    for (name, text) in files {
        std::fs::write(settings.folder.join(name), text).expect("a file is written");
    }
    let findings = check(&evidence);
    let events_with_faults = events_to_call(&evidence.sent) - events_to_call(&sent_without_faults);
    ChaosRun {
        workers: workers.counts,
        faults: faults.counts,
        stalled: stalls.total(),
        calls_without_faults: calls_before as f64 / events_to_call(&sent_without_faults) as f64,
        calls_with_faults: (stats.of(ApiCommand::Transfer).calls - calls_before) as f64
            / events_with_faults as f64,
        stats,
        recovery,
        freshness: freshness(&evidence),
        evidence,
        findings,
        audit,
        settings,
    }
}

/// Waits until everything that was sent is answered, at most for the limit.
async fn wait_until_answered(
    environment: &Environment,
    workers: &mut Workers,
    sent: &[SentRecord],
) {
    let started = Instant::now();
    let expected = expected_counts(sent);
    while started.elapsed() < RECOVERY_LIMIT {
        workers.supervise(POLL_INTERVAL).await;
        if has_answered(environment, &expected).await {
            break;
        }
    }
}

/// The same after the faults; returns the time taken.
///
/// A few events go on arriving meanwhile. Sessions that Desk always refuses look like a fault of the
/// whole account until another session succeeds: alone they would wait for their deadlines.
async fn recover(
    environment: &Environment,
    workers: &mut Workers,
    publisher: &mut EscalationPublisher,
    of_piles: &[SentRecord],
) -> Duration {
    let mut sent = [publisher.sent().await, of_piles].concat();
    let last = environment.input.number();
    sent.retain(|sent| sent.topic == last);
    let mut expected = expected_counts(&sent);
    let started = Instant::now();
    let mut witness_due = started;
    while started.elapsed() < RECOVERY_LIMIT {
        if Instant::now() >= witness_due {
            publisher.send(escalations::witness());
            expected.outcomes += 1;
            witness_due += WITNESS_INTERVAL;
        }
        workers.supervise(POLL_INTERVAL).await;
        if has_answered(environment, &expected).await {
            break;
        }
    }
    started.elapsed()
}

/// Waits until everything in the topic is committed and nothing is in work, at most for the limit;
/// returns the ends of its partitions. To be called while nothing is published.
async fn read_to_end(environment: &Environment, workers: &mut Workers) -> Vec<i64> {
    let started = Instant::now();
    loop {
        workers.supervise(POLL_INTERVAL).await;
        let offsets = evidence::offsets(environment).await;
        let is_read = offsets.iter().all(|(end, committed)| *committed == Some(*end))
            && environment.keys_in_work().await.is_empty();
        if is_read || started.elapsed() > RECOVERY_LIMIT {
            return offsets.into_iter().map(|(end, _)| end).collect();
        }
    }
}

/// Whether nothing is unfinished. The number of outcomes alone does not say it: some are interim ones.
async fn has_answered(environment: &Environment, expected: &ExpectedCounts) -> bool {
    for (topic, wanted) in [("out", expected.outcomes), ("dead", expected.dead_letters)] {
        let ends = high_watermarks(environment.broker.bootstrap(), &environment.topic(topic)).await;
        if (ends.iter().sum::<i64>() as usize) < wanted {
            return false;
        }
    }
    let offsets = evidence::offsets(environment).await;
    offsets.iter().all(|(end, committed)| *end == committed.unwrap_or_default())
        && environment.unpublished_keys().await.is_empty()
}

/// When events may wait: always in a short run.
fn disturbances(settings: &RunSettings, faults: &FaultInjector) -> Vec<Disturbance> {
    if settings.judges_freshness() {
        return faults.disturbances.clone();
    }
    vec![Disturbance { from: Timestamp::MIN, until: Timestamp::MAX }]
}

/// Number of events that need a call.
fn events_to_call(sent: &[SentRecord]) -> usize {
    let id = |sent: &'_ SentRecord| match &sent.kind {
        RecordKind::Event { id, expected: ExpectedResult::FromDesk, .. } => Some(id.clone()),
        _ => None,
    };
    sent.iter().filter_map(id).collect::<BTreeSet<_>>().len()
}
