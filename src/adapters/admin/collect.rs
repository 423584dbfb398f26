//! Collects the document of `/status` from what the service counts anyway.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::View;
use super::document::{
    CallTimes, DeadLetterJson, DecisionTimes, DeskCalls, FORMAT, GateJson, HistoryJson, LastHour,
    LastOutcome, NowCounts, ParkedJson, PartitionJson, RoomJson, RouteStatus, ServiceStatus,
    StatusDocument, UnfinishedJson,
};
use super::headline::{Headline, Situation};
use super::ids::Ids;
use super::obstacles::Obstacle;
use super::parked::{GateView, ParkedRow, row_of_event};
use super::reply::ExactNumber;
use super::steady_times::SteadyTimes;
use super::unfinished_sums::{ParkedSums, UnfinishedSums};
use crate::activity::{
    AssignedPartitions, History, RecentDeadLetter, RecentOutcome, RouteHour, STEP_S, Totals,
    UnfinishedEvent,
};
use crate::adapters::ledger::{LedgerUrl, ParkedWait};
use crate::domain::wire::outcome::Status;
use crate::gate::{GateStage, GateStatus};
use crate::health::RoomStatus;
use crate::telemetry::{REVISION, VERSION};

/// Unfinished events that are shown.
pub(super) const MAX_EVENTS: usize = 100;
/// Outcomes that are shown.
const MAX_OUTCOMES: usize = 50;
/// Routes that are shown.
const MAX_ROUTES: usize = 199;
/// The word for an intake that has stopped by itself.
const BACKPRESSURE: &str = "backpressure";

/// The sections whose numbers are those of this instance.
const SECTIONS: [&str; 10] = [
    "now",
    "last_hour",
    "desk",
    "history",
    "routes",
    "rooms",
    "partitions",
    "unfinished_events",
    "last_outcomes",
    "dead_letters",
];

/// What was read in the ledger.
#[derive(Clone, Copy)]
pub(super) struct LedgerPart<'a> {
    /// The parked events with the earliest deadlines.
    pub(super) urgent: &'a [ParkedRow],
    /// All parked events, added up.
    pub(super) waits: &'a [ParkedWait],
}

/// What the document is made from.
pub(super) struct Collector<'a> {
    view: &'a View,
    ids: &'a Ids,
    /// The most urgent events of the ledger.
    parked: Vec<&'a ParkedRow>,
    now: Timestamp,
    gate: GateStatus,
    totals: Totals,
    hours: Vec<RouteHour>,
    unfinished: Vec<Arc<UnfinishedEvent>>,
    sums: UnfinishedSums,
    assigned: AssignedPartitions,
}

impl<'a> Collector<'a> {
    pub(super) fn new(
        view: &'a View,
        ids: &'a Ids,
        ledger: &'a LedgerPart<'a>,
        now: Timestamp,
    ) -> Self {
        let LedgerPart { urgent, waits } = *ledger;
        let (gate, activity) = (view.gate.status(), &view.activity);
        let unfinished = activity.unfinished_events().all();
        // One that was read from the ledger and is being worked on is in both.
        let known: HashSet<_> = unfinished.iter().map(|event| event.id.as_ref()).collect();
        let is_new = |entry: &&ParkedRow| !known.contains(entry.id.as_ref());
        let parked: Vec<_> = urgent.iter().filter(is_new).collect();
        let counted = view.metrics.parked();
        let sums = ParkedSums { counted, waits };
        let sums = UnfinishedSums::of(&unfinished, &sums, gate.stage.is_held());
        let (totals, hours) = (activity.totals(MAX_OUTCOMES), activity.routes());
        let assigned = activity.assigned();
        Self { view, ids, parked, now, gate, totals, hours, unfinished, sums, assigned }
    }

    /// The document; `steady` has the times of the one before.
    pub(super) fn document(self, steady: &mut SteadyTimes) -> StatusDocument {
        let partitions = self.partitions();
        let counts = self.counts(&partitions);
        let situation = self.situation(&counts);
        let mut headline = Headline::of(&situation);
        headline.since = steady.at("headline", headline.since);
        let gate = gate_json(&situation, steady);
        if headline.next_probe_at.is_some() {
            headline.next_probe_at = gate.next_probe_at;
        }
        let obstacles: Vec<_> = situation.obstacles.iter().map(Obstacle::text).collect();
        StatusDocument {
            format: FORMAT,
            covers: SECTIONS.into_iter().map(|section| (section, "instance")).collect(),
            service: self.service(),
            headline,
            healthy: situation.stalled.is_none(),
            ready: obstacles.is_empty(),
            not_ready: situation.stalled.into_iter().chain(obstacles).collect(),
            last_hour: self.last_hour(),
            desk: self.desk_calls(),
            history: self.history(),
            routes: self.routes(),
            rooms: self.rooms(),
            unfinished_events: self.unfinished_events(gate.next_probe_at),
            last_outcomes: self.last_outcomes(),
            dead_letters: self.totals.dead_letters.iter().map(DeadLetterJson::from).collect(),
            partitions,
            now: counts,
            gate,
        }
    }

    fn situation(&self, counts: &NowCounts) -> Situation {
        let (view, activity) = (self.view, &self.view.activity);
        let routes = self.hours.iter().map(|hour| (hour.name.clone(), hour.counts.clone()));
        Situation {
            now: self.now,
            started_at: activity.started_at(),
            stalled: view.stalled(),
            obstacles: view.obstacles(),
            gate: self.gate.clone(),
            pause: activity.intake_pause(),
            is_full: counts.intake == BACKPRESSURE && (view.outage)().is_none(),
            reload_failed: view.metrics.reload_failed(),
            open: counts.unfinished,
            unacknowledged: counts.unacknowledged,
            first_deadline_at: counts.first_deadline_at,
            last_answer_at: self.totals.last_answer_at,
            lag: counts.lag.map(|lag| lag.0),
            hour: self.totals.hour.clone(),
            ten_minutes: self.totals.ten_minutes.clone(),
            routes: routes.collect(),
        }
    }

    fn counts(&self, partitions: &[PartitionJson]) -> NowCounts {
        let metrics = &self.view.metrics;
        let [retry, session, nobody_online] = metrics.parked();
        let lags: Vec<_> = partitions.iter().filter_map(|partition| partition.lag).collect();
        let lag: u64 = lags.iter().map(|lag| lag.0).fold(0, u64::saturating_add);
        let intake = match metrics.paused_by_backpressure.get() {
            _ if self.view.activity.intake_is_paused() => "paused",
            0 => "running",
            _ => BACKPRESSURE,
        };
        NowCounts {
            unfinished: self.sums.by_problem.values().sum(),
            by_problem: self.sums.by_problem.clone(),
            oldest_received_at: self.sums.oldest,
            first_deadline_at: self.first_deadline(),
            parked: ParkedJson { retry, session, nobody_online },
            sessions: unsigned(metrics.sessions.get()),
            unacknowledged: unsigned(metrics.unacknowledged.get()),
            lag: (!lags.is_empty()).then_some(ExactNumber(lag)),
            dead_letters_last_hour: self.totals.hour.dead_letters,
            intake,
        }
    }

    fn first_deadline(&self) -> Option<Timestamp> {
        let parked = self.parked.iter().filter_map(|entry| entry.row.deadline_at);
        parked.chain(self.sums.first_deadline).min()
    }

    fn service(&self) -> ServiceStatus {
        let (view, about) = (self.view, &self.view.about);
        ServiceStatus {
            version: VERSION,
            revision: Some(REVISION).filter(|revision| *revision != "unknown"),
            started_at: view.activity.started_at(),
            instance: about.instance.clone(),
            group_id: about.group_id.clone(),
            topics: vec![about.topic.to_string()],
            outcome_topic: about.outcome_topic.clone(),
            dead_letter_topic: about.dead_letter_topic.clone(),
            ledger: match view.ledger {
                LedgerUrl::Sqlite(_) => "sqlite",
                LedgerUrl::Postgres(_) => "postgres",
            },
            partitions: self.assigned.partitions.len(),
            partitions_in_all: Some(self.assigned.in_all).filter(|all| *all > 0),
            show_ids: self.ids.are_shown(),
            actions: view.settings.token_file.is_some(),
        }
    }

    fn last_hour(&self) -> LastHour {
        let [p50, p95, p99] = self.totals.decided_in_ms;
        let counts = &self.totals.hour;
        LastHour {
            since: self.view.activity.hour_since(),
            by_status: Status::ALL.iter().map(|it| (it.as_str(), counts.of(*it))).collect(),
            decided_in_ms: DecisionTimes { p50, p95, p99 },
        }
    }

    fn desk_calls(&self) -> DeskCalls {
        let [p50, p95] = self.totals.call_ms;
        let tenths = |number: f64| (number * 10.0).round() / 10.0;
        DeskCalls {
            calls_per_second: tenths(self.totals.calls_per_second),
            limit_per_second: self.gate.calls_per_second.map(tenths),
            in_flight: unsigned(self.view.metrics.in_flight.get()),
            concurrency: self.gate.concurrency,
            latency_ms: CallTimes { p50, p95 },
            throttled_percent: self.totals.throttled_percent.map(tenths),
        }
    }

    fn history(&self) -> HistoryJson {
        let History { until, answered, calls, unfinished } = self.view.activity.history();
        HistoryJson { step_s: STEP_S, until, answered, calls, unfinished }
    }

    fn routes(&self) -> Vec<RouteStatus> {
        let policy = self.view.policy.current();
        let shadows: Vec<_> = policy.routes.shadow_names().collect();
        let used = policy.routes.names().filter(|name| !shadows.contains(name));
        let names = used.map(|name| Some(name.to_owned())).take(MAX_ROUTES).chain([None]);
        names.map(|name| self.route(name)).collect()
    }

    fn route(&self, name: Option<String>) -> RouteStatus {
        let waiting = self.sums.by_route.get(&name).copied().unwrap_or_default();
        let hour = self.hours.iter().find(|hour| hour.name == name);
        let counts = hour.map(|hour| hour.counts.clone()).unwrap_or_default();
        let (assigned, queued) = (counts.of(Status::Assigned), counts.of(Status::Queued));
        let no_agent_online = counts.of(Status::NoAgentOnline);
        let found = assigned + queued;
        let hundredths = |share: f64| (share * 100.0).round() / 100.0;
        RouteStatus {
            name,
            waiting: waiting.events,
            longest_wait_since: waiting.since,
            assigned,
            queued,
            no_agent_online,
            other: counts.all() - found - no_agent_online,
            first_target: (found > 0)
                .then(|| hundredths(counts.first_target as f64 / found as f64)),
            trend: hour.map(|hour| hour.trend).unwrap_or_default(),
        }
    }

    fn partitions(&self) -> Vec<PartitionJson> {
        let topic = &self.view.about.topic;
        let partition = |&partition: &i32| {
            let waiting = self.sums.by_partition.get(&partition).copied().unwrap_or_default();
            PartitionJson {
                topic: topic.to_string(),
                partition,
                lag: self.view.metrics.lag_of(topic, partition).map(ExactNumber),
                unfinished: waiting.events,
                oldest_received_at: waiting.since,
                blocked: waiting.is_blocked,
            }
        };
        self.assigned.partitions.iter().map(partition).collect()
    }

    /// The most urgent ones, in memory and in the ledger.
    fn unfinished_events(&self, next_probe_at: Option<Timestamp>) -> Vec<UnfinishedJson> {
        let gate = GateView { is_held: self.gate.stage.is_held(), next_probe_at };
        let mut events: Vec<_> = self.unfinished.iter().collect();
        if events.len() > MAX_EVENTS {
            events.select_nth_unstable_by_key(MAX_EVENTS, |event| event.deadline);
            events.truncate(MAX_EVENTS);
        }
        let in_memory = events.into_iter().map(|event| row_of_event(event, self.ids, gate));
        let mut rows: Vec<_> = in_memory.collect();
        rows.extend(self.parked.iter().map(|entry| entry.row.clone()));
        rows.sort_by(|one, other| {
            (one.deadline_at, &one.event).cmp(&(other.deadline_at, &other.event))
        });
        rows.truncate(MAX_EVENTS);
        rows
    }

    fn rooms(&self) -> Vec<RoomJson> {
        self.view.health.rooms().into_iter().map(|it| room(it, self.ids)).collect()
    }

    fn last_outcomes(&self) -> Vec<LastOutcome> {
        self.totals.outcomes.iter().map(|outcome| last_outcome(outcome, self.ids)).collect()
    }
}

/// A final outcome as a row.
pub(super) fn last_outcome(outcome: &RecentOutcome, ids: &Ids) -> LastOutcome {
    LastOutcome {
        event: ids.event(&outcome.event_id, &outcome.session_id),
        session: ids.session(&outcome.session_id),
        status: outcome.status.as_str(),
        route: outcome.route.clone(),
        attempts: outcome.attempts,
        code: outcome.code,
        agent: outcome.agent_id.clone().filter(|_| ids.are_shown()),
        reason: outcome.reason.as_deref().map(|reason| ids.text(reason, &outcome.session_id)),
        elapsed_ms: outcome.elapsed_ms,
        decided_at: outcome.decided_at,
        record: (&outcome.source).into(),
    }
}

fn gate_json(situation: &Situation, steady: &mut SteadyTimes) -> GateJson {
    let GateStatus { stage, held_for, .. } = &situation.gate;
    let (state, reason, repair) = match stage {
        GateStage::Open => ("open", None, None),
        GateStage::SlowStart => ("limited", Some("slow_start"), None),
        GateStage::Throttled => ("limited", Some("throttled"), None),
        GateStage::Suspected(shut) => ("limited", Some("suspected"), Some(shut.repair.clone())),
        GateStage::Shut(shut) => ("shut", Some(shut.reason.as_str()), Some(shut.repair.clone())),
    };
    let since = held_for.and_then(|held| situation.now.saturating_sub(held).ok());
    GateJson {
        state,
        reason,
        repair,
        since: steady.at("gate", since),
        next_probe_at: steady.at("probe", situation.next_probe_at()),
    }
}

fn room(room: RoomStatus, ids: &Ids) -> RoomJson {
    RoomJson {
        name: ids.room(&room.name),
        waiting: room.events,
        oldest_received_at: room.oldest,
        next_probe_at: room.next_probe,
    }
}

impl From<&RecentDeadLetter> for DeadLetterJson {
    fn from(dead_letter: &RecentDeadLetter) -> Self {
        Self {
            record: (&dead_letter.source).into(),
            class: dead_letter.class,
            error: dead_letter.error.clone(),
            at: dead_letter.at,
        }
    }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
