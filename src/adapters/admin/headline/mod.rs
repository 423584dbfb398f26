//! The one line: the worst problem of this moment, since when, what it costs, what to do, and how long
//! is left.
//!
//! Pure. A text contains no ages, so that it changes only when something happens. Each line is
//! explained in docs/operations.md, "The line at the top"; a test compares the anchors.

mod kafka_fault;

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use self::kafka_fault::fault;
use super::obstacles::Obstacle;
use crate::activity::{IntakePause, OutcomeCounts};
use crate::domain::signal::ShutReason;
use crate::domain::wire::outcome::Status;
use crate::gate::{GateShut, GateStage, GateStatus};
use crate::health::FaultKind;

/// Answers fail if more than this many of the last ten minutes failed, and more than
/// [`FAILING_PART`] of them.
const FAILING_COUNT: u64 = 5;
const FAILING_PART: f64 = 0.05;
/// Nobody is there for a route if that is the end of so many of its events of the last hour, and of
/// this part of them.
const NOBODY_COUNT: u64 = 5;
const NOBODY_PART: f64 = 0.2;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum HeadlineLevel {
    Well,
    Warning,
    Critical,
}

/// What the line is made from.
#[derive(Debug, Clone)]
pub(super) struct Situation {
    pub(super) now: Timestamp,
    pub(super) started_at: Timestamp,
    pub(super) stalled: Option<String>,
    pub(super) obstacles: Vec<Obstacle>,
    pub(super) gate: GateStatus,
    pub(super) pause: Option<IntakePause>,
    pub(super) is_full: bool,
    pub(super) reload_failed: bool,
    /// Unfinished events.
    pub(super) open: u64,
    pub(super) unacknowledged: u64,
    pub(super) first_deadline_at: Option<Timestamp>,
    pub(super) last_answer_at: Option<Timestamp>,
    /// Records that are not read yet, as far as it is known.
    pub(super) lag: Option<u64>,
    pub(super) hour: OutcomeCounts,
    pub(super) ten_minutes: OutcomeCounts,
    /// The routes of the last hour with their outcomes.
    pub(super) routes: Vec<(Option<String>, OutcomeCounts)>,
}

/// The line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Headline {
    pub(super) level: HeadlineLevel,
    pub(super) what: String,
    pub(super) since: Option<Timestamp>,
    pub(super) cost: Option<String>,
    pub(super) repair: Option<String>,
    pub(super) next_probe_at: Option<Timestamp>,
    pub(super) first_deadline_at: Option<Timestamp>,
    pub(super) waiting: u64,
    pub(super) last_answer_at: Option<Timestamp>,
    pub(super) runbook: Option<&'static str>,
    pub(super) also: Vec<String>,
}

/// One problem.
struct HeadlineProblem {
    level: HeadlineLevel,
    what: String,
    since: Option<Timestamp>,
    cost: String,
    repair: String,
    runbook: &'static str,
}

impl Headline {
    /// The worst of what is wrong.
    pub(super) fn of(situation: &Situation) -> Self {
        let mut troubles = situation.troubles();
        // Stable: of the same level the first goes first, which is the order of `/ready`.
        troubles.sort_by_key(|trouble| trouble.level != HeadlineLevel::Critical);
        let Situation { first_deadline_at, open, last_answer_at, .. } = situation;
        let well = Self {
            level: HeadlineLevel::Well,
            what: "all well".into(),
            since: None,
            cost: None,
            repair: None,
            next_probe_at: None,
            first_deadline_at: *first_deadline_at,
            waiting: *open,
            last_answer_at: *last_answer_at,
            runbook: None,
            also: vec![],
        };
        let mut troubles = troubles.into_iter();
        let Some(worst) = troubles.next() else { return well };
        let is_held = situation.gate.stage.is_held();
        Self {
            level: worst.level,
            what: worst.what,
            since: worst.since,
            cost: Some(worst.cost),
            repair: Some(worst.repair).filter(|repair| !repair.is_empty()),
            next_probe_at: situation.next_probe_at().filter(|_| is_held),
            runbook: Some(worst.runbook),
            also: troubles.map(|trouble| trouble.what).collect(),
            ..well
        }
    }
}

impl Situation {
    /// When the gate tries again.
    pub(super) fn next_probe_at(&self) -> Option<Timestamp> {
        self.gate.next_probe_in.and_then(|wait| self.now.saturating_add(wait).ok())
    }

    fn ago(&self, duration: Duration) -> Option<Timestamp> {
        self.now.saturating_sub(duration).ok()
    }

    fn troubles(&self) -> Vec<HeadlineProblem> {
        let mut troubles = Vec::new();
        troubles.extend(self.stalled.as_deref().map(|why| self.stall(why)));
        troubles.extend(self.obstacles.iter().map(|obstacle| self.obstacle(obstacle)));
        troubles.extend(self.failing());
        troubles.extend(self.pause.as_ref().map(|pause| self.paused(pause)));
        troubles.extend(self.limited());
        troubles.extend(self.full());
        troubles.extend(self.reload_failed.then(|| HeadlineProblem {
            level: HeadlineLevel::Warning,
            what: "the configuration file has a version that cannot be used".into(),
            since: None,
            cost: "nothing yet: the version before it stays in use".into(),
            repair: "repair the line that the log names".into(),
            runbook: "#the-configuration-was-not-reloaded",
        }));
        troubles.extend(self.dead_letters());
        troubles.extend(self.nobody_online());
        troubles
    }

    /// What waits, for a line about something that stops all of it.
    fn waiting(&self, then: &str) -> String {
        match self.open {
            0 => match self.lag {
                Some(lag) => format!("{lag} records wait in Kafka; {then}"),
                None => format!("what waits in Kafka is not known; {then}"),
            },
            1 => format!("1 escalation waits, and {then}"),
            open => format!("{open} escalations wait, and {then}"),
        }
    }

    fn stall(&self, why: &str) -> HeadlineProblem {
        HeadlineProblem {
            level: HeadlineLevel::Critical,
            what: format!("the service has stalled: {why}"),
            since: None,
            cost: self.waiting("may get no answer"),
            repair: "restart this instance; nothing is lost".into(),
            runbook: "#the-service-has-stalled",
        }
    }

    fn obstacle(&self, obstacle: &Obstacle) -> HeadlineProblem {
        let critical = |what: String, since, cost: &str, repair: &str, runbook| HeadlineProblem {
            level: HeadlineLevel::Critical,
            what,
            since,
            cost: self.waiting(cost),
            repair: repair.to_owned(),
            runbook,
        };
        match obstacle {
            Obstacle::NotStarted(problem) => critical(
                format!("the service has not started: {problem}"),
                Some(self.started_at),
                "new ones are not read",
                "repair what the line names; the service goes on by itself",
                "#the-service-has-not-started",
            ),
            Obstacle::Fault(active) => {
                let (runbook, cost) = fault(active.kind);
                let cost = match active.kind {
                    FaultKind::Unacknowledged => self.undelivered(),
                    _ => self.waiting(cost),
                };
                HeadlineProblem {
                    level: HeadlineLevel::Critical,
                    what: active.fault.cause.clone(),
                    since: self.ago(active.lasts),
                    cost,
                    repair: active.fault.remedy.clone(),
                    runbook,
                }
            }
            Obstacle::NotJoined => HeadlineProblem {
                level: HeadlineLevel::Warning,
                what: "not a member of the consumer group yet".into(),
                since: Some(self.started_at),
                cost: "this instance reads nothing yet".into(),
                repair: "wait; if it lasts for a minute, look at the group's other members".into(),
                runbook: "#not-a-member-of-the-group",
            },
            Obstacle::CutOff { silence, .. } => critical(
                "the group coordinator does not answer: neither calling nor publishing".into(),
                self.ago(*silence),
                "another instance may answer them",
                "restore the network to the brokers",
                "#the-group-coordinator-is-silent",
            ),
            Obstacle::LedgerAway(outage) => critical(
                format!("the ledger is unavailable: {}", outage.error),
                self.ago(outage.lasts),
                "nothing is called or answered",
                "repair what the line names; the service goes on by itself",
                "#the-ledger-is-unavailable",
            ),
            Obstacle::Blocked(what) => critical(
                what.clone(),
                None,
                "those whose entries cannot be read get no answer",
                "repair the rows that the log names, or run the version that wrote them",
                "#events-are-blocked",
            ),
            Obstacle::GateShut { shut, lasts } => self.gate_shut(shut, *lasts),
        }
    }

    fn gate_shut(&self, shut: &GateShut, lasts: Duration) -> HeadlineProblem {
        let (why, runbook) = match shut.reason {
            ShutReason::Misconfigured => {
                ("Desk refuses every call", "#the-gate-is-shut-misconfigured")
            }
            ShutReason::Unreachable => ("Desk does not answer", "#the-gate-is-shut-unreachable"),
        };
        HeadlineProblem {
            level: HeadlineLevel::Critical,
            what: format!("the gate is shut: {why}"),
            since: self.ago(lasts),
            cost: self.waiting("nobody is assigned to them"),
            repair: shut.repair.clone(),
            runbook,
        }
    }

    fn undelivered(&self) -> String {
        match self.unacknowledged {
            1 => "1 outcome is decided, and its bot does not learn it".into(),
            count => format!("{count} outcomes are decided, and their bots do not learn them"),
        }
    }

    fn failing(&self) -> Option<HeadlineProblem> {
        let failed = self.ten_minutes.of(Status::Failed) + self.ten_minutes.of(Status::Expired);
        let all = self.ten_minutes.all();
        let is_failing = failed > FAILING_COUNT && failed as f64 > all as f64 * FAILING_PART;
        is_failing.then(|| HeadlineProblem {
            level: HeadlineLevel::Critical,
            what: "answers fail: failed or expired".into(),
            since: None,
            cost: format!("{failed} of {all} escalations of the last ten minutes"),
            repair: "look at the reasons of the last outcomes".into(),
            runbook: "#answers-fail",
        })
    }

    fn paused(&self, pause: &IntakePause) -> HeadlineProblem {
        HeadlineProblem {
            level: HeadlineLevel::Warning,
            what: format!("the intake is paused by {}", pause.by),
            since: Some(pause.at),
            cost: "nothing new is read here; what passes its deadline meanwhile ends as expired"
                .into(),
            repair: "resume the intake; a restart ends the pause, too".into(),
            runbook: "#the-intake-is-paused",
        }
    }

    fn limited(&self) -> Option<HeadlineProblem> {
        let since = self.gate.held_for.and_then(|held| self.ago(held));
        let warning = |what: String, cost: &str, repair: &str, runbook| HeadlineProblem {
            level: HeadlineLevel::Warning,
            what,
            since,
            cost: cost.to_owned(),
            repair: repair.to_owned(),
            runbook,
        };
        match &self.gate.stage {
            GateStage::Open | GateStage::Shut(_) => None,
            GateStage::Suspected(shut) => Some(warning(
                "Desk has refused a session for a reason that usually concerns all".into(),
                "calls are held until another session was asked",
                &shut.repair,
                "#a-refusal-is-being-verified",
            )),
            GateStage::Throttled => Some(warning(
                "Desk says \"too fast\": fewer calls than the quota allows".into(),
                "answers come later",
                "lower desk.quota_per_second, or ask Tencent for more",
                "#desk-throttles",
            )),
            GateStage::SlowStart => Some(warning(
                "the gate has opened again; calls grow step by step".into(),
                "answers come later, for some seconds",
                "",
                "#slow-start-after-an-outage",
            )),
        }
    }

    fn full(&self) -> Option<HeadlineProblem> {
        self.is_full.then(|| HeadlineProblem {
            level: HeadlineLevel::Warning,
            what: "memory holds as many escalations as it may; new ones wait in Kafka".into(),
            since: None,
            cost: self.waiting("those behind them come later"),
            repair: "look for what they wait for; else more instances, or intake.max_events".into(),
            runbook: "#memory-is-full",
        })
    }

    fn dead_letters(&self) -> Option<HeadlineProblem> {
        let count = self.hour.dead_letters;
        (count > 0).then(|| HeadlineProblem {
            level: HeadlineLevel::Warning,
            what: match count {
                1 => "1 dead letter in the last hour".into(),
                count => format!("{count} dead letters in the last hour"),
            },
            since: None,
            cost: "nobody can be told about these records".into(),
            repair: "correct their publisher, then handoff dead-letters replay".into(),
            runbook: "#dead-letters",
        })
    }

    fn nobody_online(&self) -> Option<HeadlineProblem> {
        let is_empty = |counts: &OutcomeCounts| {
            let nobody = counts.of(Status::NoAgentOnline);
            nobody >= NOBODY_COUNT && nobody as f64 >= counts.all() as f64 * NOBODY_PART
        };
        let routes = self.routes.iter().filter(|(_, counts)| is_empty(counts));
        let (name, counts) = routes.max_by_key(|(_, counts)| counts.of(Status::NoAgentOnline))?;
        let nobody = counts.of(Status::NoAgentOnline);
        let route = match name {
            Some(name) => format!("on the route {name}"),
            None => "for escalations without a route".into(),
        };
        Some(HeadlineProblem {
            level: HeadlineLevel::Warning,
            what: format!("often nobody is online {route}"),
            since: None,
            cost: format!("{nobody} of {} of the last hour found nobody", counts.all()),
            repair: "tell the support floor; other targets, or hours, for the route".into(),
            runbook: "#nobody-is-online",
        })
    }
}

#[cfg(test)]
mod tests;
