//! The tables: floor, waiting rooms, unfinished events, partitions, outcomes, dead letters, instances.

use std::cmp::Reverse;

use jiff::Timestamp;

use super::floor::floor;
use super::row::ShownRow;
use super::{AskedInstance, covering};
use crate::commands::top::ages::{between, millis};
use crate::commands::top::status::SeenStatus;

/// A table, its rows in the order in which they matter.
#[derive(Debug, Clone)]
pub(in crate::commands::top) struct ShownTable {
    pub(in crate::commands::top) title: &'static str,
    pub(in crate::commands::top) columns: &'static [Column],
    pub(in crate::commands::top) rows: Vec<ShownRow>,
}

#[derive(Debug, Clone, Copy)]
pub(in crate::commands::top) struct Column {
    pub(in crate::commands::top) name: &'static str,
    pub(in crate::commands::top) width: u16,
    /// Shown from this width of the screen on.
    pub(in crate::commands::top) from: u16,
}

const fn column(name: &'static str, width: u16) -> Column {
    Column { name, width, from: 0 }
}

const fn wide(name: &'static str, width: u16) -> Column {
    Column { name, width, from: 120 }
}

const EVENTS: &[Column] = &[
    column("problem", 17),
    column("age", 8),
    column("left", 8),
    column("session", 10),
    column("event", 18),
    column("route", 10),
    column("attempts", 8),
    wide("last", 24),
    wide("next", 30),
];
const FLOOR: &[Column] = &[
    column("route", 16),
    column("waiting", 7),
    column("longest", 8),
    column("assigned", 8),
    column("queued", 6),
    column("nobody", 6),
    column("share", 5),
    column("1st", 5),
    column("trend", 12),
    wide("other", 6),
];
const ROOMS: &[Column] = &[
    column("nobody online of", 50),
    column("waiting", 7),
    column("oldest", 8),
    column("probe", 8),
];
const PARTITIONS: &[Column] = &[
    column("partition", 26),
    column("lag", 17),
    column("unfinished", 10),
    column("oldest", 8),
    column("state", 8),
];
const OUTCOMES: &[Column] = &[
    column("status", 15),
    column("ago", 8),
    column("took", 7),
    column("session", 10),
    column("event", 18),
    column("route", 10),
    column("attempts", 8),
    wide("code", 7),
    wide("reason", 40),
];
const DEAD_LETTERS: &[Column] =
    &[column("class", 19), column("ago", 8), column("record", 32), column("error", 60)];
const INSTANCES: &[Column] = &[
    column("instance", 20),
    column("state", 12),
    column("parts", 8),
    column("unfinished", 10),
    column("gate", 8),
    column("up", 8),
    column("version", 10),
    wide("address", 40),
];

/// All tables, in the order of their tabs.
pub(super) fn tables(polled: &[AskedInstance]) -> Vec<ShownTable> {
    let reached: Vec<_> = polled.iter().filter_map(|polled| polled.answer.as_ref().ok()).collect();
    let table = |title, columns, rows| ShownTable { title, columns, rows };
    vec![
        table("events", EVENTS, events(&covering(&reached, "unfinished_events"))),
        table("floor", FLOOR, floor(&covering(&reached, "routes"))),
        table("rooms", ROOMS, rooms(&covering(&reached, "rooms"))),
        table("partitions", PARTITIONS, partitions(&covering(&reached, "partitions"))),
        table("outcomes", OUTCOMES, outcomes(&covering(&reached, "last_outcomes"))),
        table("dead", DEAD_LETTERS, dead_letters(&covering(&reached, "dead_letters"))),
        table("instances", INSTANCES, polled.iter().map(instance).collect()),
    ]
}

fn or_dash(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| "-".into())
}

fn age(at: Option<Timestamp>, as_of: Timestamp) -> String {
    at.map_or_else(|| "-".into(), |at| between(at, as_of))
}

/// The time that is left until then.
fn left(at: Option<Timestamp>, as_of: Timestamp) -> String {
    at.map_or_else(|| "-".into(), |at| between(as_of, at))
}

/// A row per item of each instance, in the order of what stands before the rows.
fn sorted_rows<'s, T: 's, O: Ord>(
    statuses: &[&'s SeenStatus],
    items: impl Fn(&'s SeenStatus) -> &'s [T],
    row: impl Fn(&'s SeenStatus, &'s T) -> (O, ShownRow),
) -> Vec<ShownRow> {
    let mut rows = Vec::new();
    for status in statuses {
        rows.extend(items(status).iter().map(|item| row(status, item)));
    }
    rows.sort_by(|(one, _), (other, _)| one.cmp(other));
    rows.into_iter().map(|(_, row)| row).collect()
}

fn events(statuses: &[&SeenStatus]) -> Vec<ShownRow> {
    sorted_rows(
        statuses,
        |status| &status.unfinished_events,
        |status, event| {
            let next = match event.next_at {
                Some(at) if at <= status.as_of => format!("{}, due now", event.next),
                Some(at) => format!("{} in {}", event.next, left(Some(at), status.as_of)),
                None => event.next.clone(),
            };
            let last = or_dash(event.last.as_ref());
            let said = event.last.as_deref().unwrap_or("Desk has said nothing yet");
            let detail = format!("{} at {}: {said}; {next}", event.event, event.record);
            let cells = [
                event.problem.clone(),
                between(event.received_at, status.as_of),
                left(event.deadline_at, status.as_of),
                event.session.clone(),
                event.event.clone(),
                or_dash(event.route.as_ref()),
                event.attempts.to_string(),
                last,
                next,
            ];
            let seconds_left =
                event.deadline_at.map_or(i64::MAX, |at| at.duration_since(status.as_of).as_secs());
            (seconds_left, ShownRow::new(cells, &detail))
        },
    )
}

fn rooms(statuses: &[&SeenStatus]) -> Vec<ShownRow> {
    sorted_rows(
        statuses,
        |status| &status.rooms,
        |status, room| {
            let waiting = room.waiting.map_or_else(|| "counting".into(), |count| count.to_string());
            let probe = room
                .next_probe_at
                .map_or_else(|| "now".to_owned(), |at| format!("in {}", between(status.as_of, at)));
            let oldest = between(room.oldest_received_at, status.as_of);
            let detail = format!("{}: {waiting} wait, probe {probe}", room.name);
            let cells = [room.name.clone(), waiting, oldest, probe];
            (Reverse(room.waiting), ShownRow::new(cells, &detail))
        },
    )
}

fn partitions(statuses: &[&SeenStatus]) -> Vec<ShownRow> {
    sorted_rows(
        statuses,
        |status| &status.partitions,
        |status, partition| {
            let name = format!("{}/{}", partition.topic, partition.partition);
            let lag = partition.lag.map_or_else(|| "?".into(), |lag| lag.0.to_string());
            let blocked = if partition.blocked { "blocked" } else { "" };
            let detail = format!("{name} of {}", status.service.instance);
            let cells = [
                name,
                lag,
                partition.unfinished.to_string(),
                age(partition.oldest_received_at, status.as_of),
                blocked.to_owned(),
            ];
            ((&partition.topic, partition.partition), ShownRow::new(cells, &detail))
        },
    )
}

fn outcomes(statuses: &[&SeenStatus]) -> Vec<ShownRow> {
    sorted_rows(
        statuses,
        |status| &status.last_outcomes,
        |status, outcome| {
            let code = outcome.code.map_or_else(|| "-".into(), |code| code.to_string());
            let reason = or_dash(outcome.reason.as_ref());
            let agent = outcome.agent.as_ref().map(|agent| format!(" to {agent}"));
            let detail = format!(
                "{}: {}{} with code {code}; {reason}",
                outcome.event,
                outcome.status,
                agent.unwrap_or_default()
            );
            let ago = between(outcome.decided_at, status.as_of);
            let cells = [
                outcome.status.clone(),
                ago,
                millis(outcome.elapsed_ms),
                outcome.session.clone(),
                outcome.event.clone(),
                or_dash(outcome.route.as_ref()),
                outcome.attempts.to_string(),
                code,
                reason,
            ];
            (Reverse(outcome.decided_at), ShownRow::new(cells, &detail))
        },
    )
}

fn dead_letters(statuses: &[&SeenStatus]) -> Vec<ShownRow> {
    sorted_rows(
        statuses,
        |status| &status.dead_letters,
        |status, dead_letter| {
            let record = dead_letter.record.to_string();
            let detail = format!("{record}: {}", dead_letter.error);
            let ago = between(dead_letter.at, status.as_of);
            let cells = [dead_letter.class.clone(), ago, record, dead_letter.error.clone()];
            (Reverse(dead_letter.at), ShownRow::new(cells, &detail))
        },
    )
}

fn instance(polled: &AskedInstance) -> ShownRow {
    let status = match &polled.answer {
        Ok(status) => status,
        Err(error) => {
            let dash = || "-".to_owned();
            let url = polled.url.clone();
            let unreachable = "no answer".to_owned();
            let cells = [url.clone(), unreachable, dash(), dash(), dash(), dash(), dash(), url];
            return ShownRow::new(cells, &format!("{}: {error}", polled.url));
        }
    };
    let service = &status.service;
    let in_all = service.partitions_in_all.map_or_else(|| "?".into(), |count| count.to_string());
    let reasons = status.not_ready.join("; ");
    let state = if status.ready { "ready" } else { "not ready" };
    let cells = [
        service.instance.clone(),
        state.to_owned(),
        format!("{}/{in_all}", service.partitions),
        status.now.unfinished.to_string(),
        status.gate.state.clone(),
        between(service.started_at, status.as_of),
        service.version.clone(),
        polled.url.clone(),
    ];
    let separator = if reasons.is_empty() { "" } else { ": " };
    ShownRow::new(cells, &format!("{}{separator}{reasons}", polled.url))
}
