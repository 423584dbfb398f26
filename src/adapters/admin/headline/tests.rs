//! Each fault and its line.

use std::collections::BTreeSet;

use super::*;
use crate::adapters::ledger::LedgerOutage;
use crate::gate::GateShut;
use crate::health::{ActiveFault, Fault};

fn now() -> Timestamp {
    "2026-11-30T03:00:00Z".parse().unwrap()
}

fn minutes_ago(minutes: i64) -> Timestamp {
    now() - jiff::SignedDuration::from_mins(minutes)
}

fn calm() -> Situation {
    Situation {
        now: now(),
        started_at: minutes_ago(90),
        stalled: None,
        obstacles: vec![],
        gate: gate(GateStage::Open),
        pause: None,
        is_full: false,
        reload_failed: false,
        open: 2,
        unacknowledged: 3,
        first_deadline_at: Some(now() + jiff::SignedDuration::from_mins(3)),
        last_answer_at: Some(minutes_ago(12)),
        lag: None,
        hour: OutcomeCounts::default(),
        ten_minutes: OutcomeCounts::default(),
        routes: vec![],
    }
}

fn gate(stage: GateStage) -> GateStatus {
    let is_open = stage == GateStage::Open;
    GateStatus {
        stage,
        held_for: (!is_open).then_some(Duration::from_secs(60)),
        next_probe_in: (!is_open).then_some(Duration::from_secs(41)),
        calls_per_second: None,
        concurrency: 64,
    }
}

fn shut(reason: ShutReason) -> GateShut {
    GateShut { reason, repair: "repair it".into() }
}

fn counts(status: Status, count: u64, of: u64) -> OutcomeCounts {
    let mut counts = OutcomeCounts::default();
    counts.by_status[Status::Assigned as usize] = of - count;
    counts.by_status[status as usize] += count;
    counts
}

fn with_obstacle(obstacle: Obstacle) -> Situation {
    Situation { obstacles: vec![obstacle], ..calm() }
}

fn fault_of(kind: FaultKind) -> Obstacle {
    let fault = Fault { cause: "no broker answers".into(), remedy: "start it".into() };
    Obstacle::Fault(ActiveFault { kind, lasts: Duration::from_secs(120), fault })
}

/// A situation, the level and the text of its line, and its anchor.
type Row = (Situation, HeadlineLevel, &'static str, &'static str);

/// Each fault and its line.
fn table() -> Vec<Row> {
    let faults = FaultKind::ALL.into_iter().map(|kind| {
        (with_obstacle(fault_of(kind)), HeadlineLevel::Critical, "no broker answers", fault(kind).0)
    });
    obstacles().into_iter().chain(others()).chain(faults).collect()
}

fn obstacles() -> Vec<Row> {
    use HeadlineLevel::{Critical, Warning};
    let outage = LedgerOutage { lasts: Duration::from_secs(60), error: "disk full".into() };
    let misconfigured = shut(ShutReason::Misconfigured);
    let lasts = Duration::from_secs(720);
    let silence = Duration::from_secs(31);
    vec![
        (
            Situation { stalled: Some("no poll".into()), ..calm() },
            Critical,
            "the service has stalled: no poll",
            "#the-service-has-stalled",
        ),
        (
            with_obstacle(Obstacle::NotStarted("no topic".into())),
            Critical,
            "the service has not started: no topic",
            "#the-service-has-not-started",
        ),
        (
            with_obstacle(Obstacle::NotJoined),
            Warning,
            "not a member of the consumer group yet",
            "#not-a-member-of-the-group",
        ),
        (
            with_obstacle(Obstacle::CutOff { silence, text: String::new() }),
            Critical,
            "the group coordinator does not answer: neither calling nor publishing",
            "#the-group-coordinator-is-silent",
        ),
        (
            with_obstacle(Obstacle::LedgerAway(outage)),
            Critical,
            "the ledger is unavailable: disk full",
            "#the-ledger-is-unavailable",
        ),
        (
            with_obstacle(Obstacle::Blocked("2 events are blocked".into())),
            Critical,
            "2 events are blocked",
            "#events-are-blocked",
        ),
        (
            with_obstacle(Obstacle::GateShut { shut: misconfigured, lasts }),
            Critical,
            "the gate is shut: Desk refuses every call",
            "#the-gate-is-shut-misconfigured",
        ),
        (
            with_obstacle(Obstacle::GateShut { shut: shut(ShutReason::Unreachable), lasts }),
            Critical,
            "the gate is shut: Desk does not answer",
            "#the-gate-is-shut-unreachable",
        ),
    ]
}

fn others() -> Vec<Row> {
    use HeadlineLevel::{Critical, Warning};
    let suspected = GateStage::Suspected(shut(ShutReason::Misconfigured));
    let pause = IntakePause { at: minutes_ago(1), by: "ann".into() };
    let malformed = OutcomeCounts { dead_letters: 3, ..OutcomeCounts::default() };
    let nobody = counts(Status::NoAgentOnline, 5, 20);
    vec![
        (
            Situation { ten_minutes: counts(Status::Failed, 6, 100), ..calm() },
            Critical,
            "answers fail: failed or expired",
            "#answers-fail",
        ),
        (
            Situation { pause: Some(pause), ..calm() },
            Warning,
            "the intake is paused by ann",
            "#the-intake-is-paused",
        ),
        (
            Situation { gate: gate(suspected), ..calm() },
            Warning,
            "Desk has refused a session for a reason that usually concerns all",
            "#a-refusal-is-being-verified",
        ),
        (
            Situation { gate: gate(GateStage::Throttled), ..calm() },
            Warning,
            "Desk says \"too fast\": fewer calls than the quota allows",
            "#desk-throttles",
        ),
        (
            Situation { gate: gate(GateStage::SlowStart), ..calm() },
            Warning,
            "the gate has opened again; calls grow step by step",
            "#slow-start-after-an-outage",
        ),
        (
            Situation { is_full: true, ..calm() },
            Warning,
            "memory holds as many escalations as it may; new ones wait in Kafka",
            "#memory-is-full",
        ),
        (
            Situation { reload_failed: true, ..calm() },
            Warning,
            "the configuration file has a version that cannot be used",
            "#the-configuration-was-not-reloaded",
        ),
        (
            Situation { hour: malformed, ..calm() },
            Warning,
            "3 dead letters in the last hour",
            "#dead-letters",
        ),
        (
            Situation { routes: vec![(Some("vip".into()), nobody)], ..calm() },
            Warning,
            "often nobody is online on the route vip",
            "#nobody-is-online",
        ),
    ]
}

#[test]
fn each_fault_has_its_line() {
    for (situation, level, what, runbook) in table() {
        let line = Headline::of(&situation);
        assert_eq!((line.level, line.what.as_str()), (level, what));
        assert_eq!(line.runbook, Some(runbook), "{what}");
        assert!(line.cost.is_some_and(|cost| !cost.is_empty()), "{what}");
        assert!(line.also.is_empty(), "{what}: {:?}", line.also);
    }
}

#[test]
fn the_line_says_since_when_what_it_costs_and_how_long_is_left() {
    let stage = GateStage::Shut(shut(ShutReason::Misconfigured));
    let obstacle = Obstacle::GateShut {
        shut: shut(ShutReason::Misconfigured),
        lasts: Duration::from_secs(720),
    };
    let situation = Situation { gate: gate(stage), ..with_obstacle(obstacle) };
    let line = Headline::of(&situation);
    assert_eq!(line.since, Some(minutes_ago(12)));
    assert_eq!(line.cost.as_deref(), Some("2 escalations wait, and nobody is assigned to them"));
    assert_eq!(line.repair.as_deref(), Some("repair it"));
    assert_eq!(line.next_probe_at, Some(now() + jiff::SignedDuration::from_secs(41)));
    assert_eq!(line.first_deadline_at, situation.first_deadline_at);
    let line = Headline::of(&with_obstacle(fault_of(FaultKind::Unacknowledged)));
    let cost = "3 outcomes are decided, and their bots do not learn them";
    assert_eq!(line.cost.as_deref(), Some(cost));
    let line =
        Headline::of(&Situation { open: 0, ..with_obstacle(fault_of(FaultKind::BrokersSilent)) });
    assert_eq!(
        line.cost.as_deref(),
        Some("what waits in Kafka is not known; none is read or answered")
    );
}

#[test]
fn nothing_wrong_is_all_well() {
    let line = Headline::of(&calm());
    assert_eq!((line.level, line.what.as_str()), (HeadlineLevel::Well, "all well"));
    assert_eq!((line.cost, line.repair, line.runbook), (None, None, None));
    assert_eq!(line.last_answer_at, Some(minutes_ago(12)));
    let few = Situation { ten_minutes: counts(Status::Failed, 5, 5), ..calm() };
    assert_eq!(Headline::of(&few).level, HeadlineLevel::Well, "five failures may be five mistakes");
    let rare = Situation { ten_minutes: counts(Status::Failed, 6, 1_000), ..calm() };
    assert_eq!(Headline::of(&rare).level, HeadlineLevel::Well);
}

#[test]
fn the_worst_problem_is_the_line_and_the_others_follow() {
    let hour = OutcomeCounts { dead_letters: 1, ..OutcomeCounts::default() };
    let obstacles =
        vec![Obstacle::NotJoined, fault_of(FaultKind::LookupFailed), Obstacle::Blocked("b".into())];
    let line = Headline::of(&Situation { obstacles, hour, ..calm() });
    assert_eq!(line.what, "no broker answers", "a warning comes after what is critical");
    let also = ["b", "not a member of the consumer group yet", "1 dead letter in the last hour"];
    assert_eq!(line.also, also);
}

#[test]
fn each_line_is_explained_in_the_guide() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let anchors: BTreeSet<_> = table().into_iter().map(|(_, _, _, runbook)| runbook).collect();
    for anchor in &anchors {
        let mark = format!("<a id=\"{}\"></a>", &anchor[1..]);
        assert_eq!(guide.matches(&mark).count(), 1, "docs/operations.md: {mark}");
    }
}
