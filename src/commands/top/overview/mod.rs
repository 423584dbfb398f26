//! What is shown, made of the answers of all instances.
//!
//! Counts of instances are added up, unless an instance says that a section covers the whole group;
//! then one instance per group counts. Percentiles cannot be added: the worst one is shown. Ages are
//! counted from `as_of` of the instance that says them.

mod counts;
mod floor;
mod row;
mod tables;

use jiff::Timestamp;

use self::counts::count_lines;
use self::tables::tables;
use super::ages::{between, span};
use super::status::{SeenLevel, SeenStatus};
use crate::commands::lines::sanitize;

pub(super) use self::row::ShownRow;
pub(super) use self::tables::ShownTable;

/// One instance that was asked.
#[derive(Debug, Clone)]
pub(super) struct AskedInstance {
    pub(super) url: String,
    /// What it says, or why that is not known.
    pub(super) answer: Result<SeenStatus, String>,
}

/// Everything that is on the screen but the choices of the person in front of it.
#[derive(Debug, Clone)]
pub(super) struct Overview {
    pub(super) level: SeenLevel,
    /// What is wrong, whom it costs, what to do, how long is left; then the other problems.
    pub(super) headline: Vec<String>,
    /// Who answers, and what the numbers cover.
    pub(super) identity: String,
    /// A line per topic, of parts that are not broken.
    pub(super) counts: Vec<Vec<String>>,
    pub(super) history: ShownHistory,
    pub(super) tables: Vec<ShownTable>,
}

/// Points of the last half hour, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ShownHistory {
    pub(super) answered: Vec<u64>,
    pub(super) unfinished: Vec<u64>,
}

impl Overview {
    pub(super) fn new(polled: &[AskedInstance]) -> Self {
        let reached: Vec<_> =
            polled.iter().filter_map(|polled| polled.answer.as_ref().ok()).collect();
        let (level, headline) = headline(polled);
        Self {
            level,
            headline: headline.iter().map(|line| sanitize(line)).collect(),
            identity: sanitize(&identity(&reached, polled.len())),
            counts: if reached.is_empty() { Vec::new() } else { count_lines(&reached) },
            history: history(&reached),
            tables: tables(polled),
        }
    }
}

/// The statuses whose numbers of a section are added up.
fn covering<'a>(reached: &[&'a SeenStatus], section: &str) -> Vec<&'a SeenStatus> {
    let mut groups = Vec::new();
    let counts = |status: &&&SeenStatus| {
        let group = &status.service.group_id;
        let is_whole = status.covers.get(section).is_some_and(|covers| covers == "group");
        let is_known = groups.contains(group);
        if is_whole && !is_known {
            groups.push(group.clone());
        }
        !(is_whole && is_known)
    };
    reached.iter().filter(counts).copied().collect()
}

fn headline(polled: &[AskedInstance]) -> (SeenLevel, Vec<String>) {
    let unreachable = polled.iter().filter_map(|polled| {
        let error = polled.answer.as_ref().err()?;
        Some(format!("{}: {error}", polled.url))
    });
    let unreachable: Vec<_> = unreachable.collect();
    let reached = polled.iter().filter_map(|polled| polled.answer.as_ref().ok());
    let is_one_of_several = polled.len() > 1;
    let Some(worst) = reached.max_by_key(|status| status.headline.level) else {
        let what = "no answer: it is not known how the service is".to_owned();
        return (SeenLevel::Critical, [what].into_iter().chain(unreachable).collect());
    };
    let mut lines = headline_of(worst, is_one_of_several);
    let level = worst.headline.level;
    if unreachable.is_empty() {
        return (level, lines);
    }
    let what = match unreachable.len() {
        1 => "1 instance cannot be asked".to_owned(),
        n => format!("{n} instances cannot be asked"),
    };
    let all = [what].into_iter().chain(unreachable);
    if level == SeenLevel::Well {
        // The others are well, which must not hide those that nobody knows about.
        return (SeenLevel::Warning, all.chain(lines).collect());
    }
    lines.extend(all);
    (level, lines)
}

fn headline_of(status: &SeenStatus, is_one_of_several: bool) -> Vec<String> {
    let headline = &status.headline;
    let of =
        if is_one_of_several { format!("{}: ", status.service.instance) } else { String::new() };
    let mut first = vec![format!("{of}{}", headline.what)];
    if headline.level == SeenLevel::Well {
        let ago = |at| format!("last answer {} ago", between(at, status.as_of));
        first.push(headline.last_answer_at.map_or_else(|| "no answer yet".into(), ago));
        first.push(format!("waiting {}", headline.waiting));
        return vec![first.join("; ")];
    }
    let mut lines = first;
    let since = |at: Timestamp| {
        let clock = at.strftime("%H:%M:%SZ");
        format!("since {clock} ({})", between(at, status.as_of))
    };
    let whom = [headline.since.map(since), headline.cost.clone()];
    lines.push(whom.into_iter().flatten().collect::<Vec<_>>().join(": "));
    lines.extend(headline.repair.as_ref().map(|repair| format!("to do: {repair}")));
    let until = |what: &str, at: Option<Timestamp>| {
        at.map(|at| match at.duration_since(status.as_of).as_secs() {
            left @ 0.. => format!("{what} in {}", span(left)),
            past => format!("{what} {} ago", span(-past)),
        })
    };
    let left = [
        until("next probe", headline.next_probe_at),
        until("first deadline", headline.first_deadline_at),
        headline.runbook.as_ref().map(|anchor| format!("docs/operations.md{anchor}")),
    ];
    lines.push(left.into_iter().flatten().collect::<Vec<_>>().join("; "));
    lines.extend(headline.also.iter().map(|also| format!("also: {also}")));
    lines.retain(|line| !line.is_empty());
    lines
}

fn identity(reached: &[&SeenStatus], asked: usize) -> String {
    let Some(first) = reached.first() else { return String::new() };
    let service = &first.service;
    let partitions: u64 = reached.iter().map(|status| status.service.partitions).sum();
    let in_all = reached.iter().filter_map(|status| status.service.partitions_in_all).max();
    let in_all = in_all.map_or_else(|| "?".to_owned(), |count| count.to_string());
    let covers_group = first.covers.values().filter(|covers| *covers == "group").count();
    let covers = match (covers_group, reached.len()) {
        (0, 1) => "this instance".to_owned(),
        (0, n) => format!("these {n} instances"),
        (n, _) if n == first.covers.len() => "the whole group".to_owned(),
        _ => "in part the whole group".to_owned(),
    };
    let (who, up) = match asked {
        1 => {
            let up = between(service.started_at, first.as_of);
            (service.instance.clone(), format!("  up {up}"))
        }
        // On a low screen there is no room for the others in the headline.
        asked => (format!("{} of {asked} instances answer", reached.len()), String::new()),
    };
    format!(
        "{who}  numbers of {covers}  {partitions} of {in_all} partitions{up}  group {}  ledger {}  {}",
        service.group_id, service.ledger, service.version
    )
}

fn history(reached: &[&SeenStatus]) -> ShownHistory {
    let covering = covering(reached, "history");
    let Some(step_s) = covering.first().map(|status| status.history.step_s) else {
        return ShownHistory::default();
    };
    let same = covering.iter().filter(|status| status.history.step_s == step_s);
    let mut history = ShownHistory::default();
    for status in same {
        add_points(&mut history.answered, &status.history.answered);
        add_points(&mut history.unfinished, &status.history.unfinished);
    }
    history
}

/// Adds points that end at the same time.
fn add_points(sum: &mut Vec<u64>, points: &[u64]) {
    let missing = points.len().saturating_sub(sum.len());
    sum.splice(0..0, std::iter::repeat_n(0, missing));
    for (sum, point) in sum.iter_mut().rev().zip(points.iter().rev()) {
        *sum = sum.saturating_add(*point);
    }
}

#[cfg(test)]
mod tests;
