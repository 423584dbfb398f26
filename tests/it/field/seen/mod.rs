//! Honest about itself, as one table: each fault with which events cannot be answered is named by
//! `/ready`, the headline, a metric, an alert and a log line within 30 s, and all are well again within
//! 30 s of the repair.
//!
//! The details of each fault are tested beside this file; here it is only made, and looked at from all
//! sides.

mod faults;

use std::path::Path;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use self::faults::Broken;
use crate::support::kafka::{Record, produce, read_to_end};
use crate::support::worker::{ask_admin, escalation};

const LIMIT: Duration = Duration::from_secs(30);
const NOT_READY: &str = "not ready: events cannot be answered";
const GATE_SHUT: &str = "gate shut: no call can succeed";

/// Where a fault is seen.
struct Signs {
    fault: &'static str,
    /// Part of the body of `/ready`.
    ready: &'static str,
    /// Part of what the headline of `/status` says is wrong.
    headline: &'static str,
    /// Lines of `/metrics`.
    metrics: &'static [&'static str],
    /// The alert over the first of them.
    alert: &'static str,
    log: &'static str,
    start: fn() -> LocalBoxFuture<'static, Broken>,
}

const TABLE: &[Signs] = &[
    Signs {
        fault: "Desk down",
        ready: "unreachable",
        headline: "the gate is shut: Desk does not answer",
        metrics: &["handoff_gate_shut{reason=\"unreachable\"} 1", "handoff_ready 0"],
        alert: "HandoffGateShut",
        log: GATE_SHUT,
        start: || Box::pin(faults::desk_down()),
    },
    Signs {
        fault: "Desk misconfigured",
        ready: "70009",
        headline: "the gate is shut: Desk refuses every call",
        metrics: &["handoff_gate_shut{reason=\"misconfigured\"} 1", "handoff_ready 0"],
        alert: "HandoffGateShut",
        log: GATE_SHUT,
        start: || Box::pin(faults::desk_misconfigured()),
    },
    Signs {
        fault: "all brokers gone",
        ready: "no broker answers",
        headline: "no broker answers",
        metrics: &["handoff_ready 0"],
        alert: "HandoffNotReady",
        log: NOT_READY,
        start: || Box::pin(faults::brokers_gone()),
    },
    Signs {
        fault: "outcome topic refuses (min.insync.replicas)",
        ready: "min.insync.replicas",
        headline: "min.insync.replicas",
        metrics: &["handoff_ready 0"],
        alert: "HandoffNotReady",
        log: NOT_READY,
        start: || Box::pin(faults::outcomes_refused()),
    },
    Signs {
        fault: "outcome topic unreadable",
        ready: "cannot be looked up",
        headline: "cannot be looked up",
        metrics: &["handoff_ready 0"],
        alert: "HandoffNotReady",
        log: NOT_READY,
        start: || Box::pin(faults::outcomes_unreadable()),
    },
    Signs {
        fault: "ledger away",
        ready: "the ledger is unavailable",
        headline: "the ledger is unavailable",
        metrics: &["handoff_ready 0", "handoff_ledger_up 0"],
        alert: "HandoffNotReady",
        log: "ledger unavailable; all work waits for it",
        start: || Box::pin(faults::ledger_away()),
    },
    Signs {
        fault: "ledger unreadable",
        ready: "their ledger entries cannot be read",
        headline: "their ledger entries cannot be read",
        metrics: &["handoff_ready 0"],
        alert: "HandoffNotReady",
        log: "blocked: the ledger entry of an event cannot be read",
        start: || Box::pin(faults::ledger_unreadable()),
    },
    Signs {
        fault: "group lost",
        ready: "no partition is assigned",
        headline: "no partition is assigned",
        metrics: &["handoff_ready 0"],
        alert: "HandoffNotReady",
        log: NOT_READY,
        start: || Box::pin(faults::group_lost()),
    },
    Signs {
        fault: "consumer fatal",
        ready: "group.instance.id has not left the group",
        headline: "the Kafka consumer failed",
        metrics: &["handoff_ready 0"],
        alert: "HandoffNotReady",
        log: "Kafka consumer failed for good, replacing it",
        start: || Box::pin(faults::consumer_fatal()),
    },
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn every_fault_is_named_everywhere_and_its_repair_too() {
    let mut faults = Vec::new();
    println!("| fault | `/ready` 503 after | well again after | headline |");
    for signs in TABLE {
        let broken = (signs.start)().await;
        match judged(signs, broken).await {
            Ok(row) => println!("{row}"),
            Err(error) => {
                println!("| {} | FAILED: {error} |", signs.fault);
                faults.push(format!("{}: {error}", signs.fault));
            }
        }
    }
    assert_eq!(faults, [""; 0]);
}

/// Looks at a fault from all sides, repairs it, and looks again; a row of the table.
async fn judged(signs: &Signs, broken: Broken) -> Result<String, String> {
    let Broken { world, worker, port, input, output, repair } = broken;
    let seen = within_limit("a sign is missing", async || {
        signs.are_seen(port).await?;
        if worker.log().contains(signs.log) { Ok(()) } else { Err(format!("log: {}", signs.log)) }
    });
    let seen = seen.await;
    let headline = headline(port).await["what"].as_str().unwrap_or_default().to_owned();
    let parts = repair.await;
    // A session that has not been asked yet.
    let id = format!("after-{}", signs.fault);
    let record = Record::new(&*id, escalation(&id, &id).to_string());
    produce(&world.bootstrap, &input, [record]).await;
    let well = within_limit("it is not well again", async || {
        signs.are_gone(port).await?;
        let outcomes = read_to_end(&world.bootstrap, &output).await;
        let is_answered =
            outcomes.iter().any(|record| record.key.as_deref() == Some(id.as_bytes()));
        if is_answered { Ok(()) } else { Err("no answer".into()) }
    });
    let well = well.await;
    if seen.is_err() || well.is_err() {
        println!("{}", worker.log());
    }
    worker.terminate().await;
    drop(parts);
    let (seen, well) = match (seen, well) {
        (Ok(seen), Ok(well)) => (seen.as_secs_f64(), well.as_secs_f64()),
        (seen, well) => {
            let errors: Vec<_> = [seen.err(), well.err()].into_iter().flatten().collect();
            return Err(errors.join("; "));
        }
    };
    Ok(format!("| {} | {seen:.1} s | {well:.1} s | {headline} |", signs.fault))
}

impl Signs {
    async fn are_seen(&self, port: u16) -> Result<(), String> {
        let (status, ready) = ask_admin(port, "ready").await;
        if status != 503 || !ready.contains(self.ready) {
            return Err(format!("/ready: {status} {ready}"));
        }
        let metrics = ask_admin(port, "metrics").await.1;
        let has = |sample: &&&str| metrics.lines().any(|line| line == **sample);
        if let Some(missing) = self.metrics.iter().find(|sample| !has(sample)) {
            return Err(format!("/metrics lacks {missing}"));
        }
        let headline = headline(port).await;
        let is_named = headline["what"].as_str().is_some_and(|what| what.contains(self.headline));
        if is_named && headline["level"] == "critical" {
            return Ok(());
        }
        Err(format!("/status: {headline}"))
    }

    async fn are_gone(&self, port: u16) -> Result<(), String> {
        let (status, ready) = ask_admin(port, "ready").await;
        if status != 200 {
            return Err(format!("/ready: {status} {ready}"));
        }
        let metrics = ask_admin(port, "metrics").await.1;
        let has = |sample: &&&str| metrics.lines().any(|line| line == **sample);
        if let Some(left) = self.metrics.iter().find(has) {
            return Err(format!("/metrics still has {left}"));
        }
        let headline = headline(port).await;
        if headline["level"] == "well" { Ok(()) } else { Err(format!("/status: {headline}")) }
    }
}

async fn headline(port: u16) -> Value {
    let status = ask_admin(port, "status").await.1;
    let mut status: Value = serde_json::from_str(&status).expect("JSON");
    status["headline"].take()
}

/// Waits until this holds; the error of the last look is the reason why not.
async fn within_limit(
    what: &str,
    mut holds: impl AsyncFnMut() -> Result<(), String>,
) -> Result<Duration, String> {
    let begun = Instant::now();
    loop {
        let Err(reason) = holds().await else { return Ok(begun.elapsed()) };
        if begun.elapsed() > LIMIT {
            return Err(format!("{what} after {LIMIT:?}: {reason}"));
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Each alert is over the metric beside it, and docs/operations.md says what to do about it.
#[test]
fn each_alert_of_the_table_exists_and_is_about_its_metric() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(folder.join(path)).expect("the file exists");
    let rules = read("deploy/prometheus/handoff.rules.yml");
    let guide = read("docs/operations.md");
    for Signs { fault, metrics, alert, .. } in TABLE {
        let name = format!("{alert}\n");
        let mut blocks = rules.split("- alert: ").filter(|block| block.starts_with(&name));
        let rule = blocks.next().unwrap_or_else(|| panic!("{fault}: there is no alert {alert}"));
        let metric = metrics[0].split(['{', ' ']).next().unwrap_or_default();
        assert!(rule.contains(metric), "{alert} is not about {metric}: {rule}");
        assert!(guide.contains(alert), "docs/operations.md lacks {alert}");
    }
}
