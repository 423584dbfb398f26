//! The lines of counts and rates.

use super::covering;
use crate::commands::lines::sanitize;
use crate::commands::top::ages::{between, decimal, millis};
use crate::commands::top::status::{SeenHour, SeenPercentiles, SeenStatus};

/// A line per topic, of parts; the most important ones come first.
pub(super) fn count_lines(reached: &[&SeenStatus]) -> Vec<Vec<String>> {
    let lines =
        [now(reached), problems(reached), last_hour(reached), decided(reached), desk(reached)];
    let clean = |line: &Vec<String>| line.iter().map(|part| sanitize(part)).collect();
    lines.iter().filter(|line| !line.is_empty()).map(clean).collect()
}

fn now(reached: &[&SeenStatus]) -> Vec<String> {
    let statuses = covering(reached, "now");
    let sum = |count: fn(&SeenStatus) -> u64| -> u64 { statuses.iter().map(|s| count(s)).sum() };
    let oldest = statuses.iter().filter_map(|status| {
        let at = status.now.oldest_received_at?;
        Some((status.as_of.duration_since(at), between(at, status.as_of)))
    });
    let oldest = oldest.max_by_key(|(age, _)| *age).map(|(_, text)| format!("oldest {text}"));
    let lag = statuses.iter().filter_map(|status| status.now.lag);
    let lag = lag.map(|lag| lag.0).reduce(u64::saturating_add);
    let intake = statuses.iter().map(|status| &status.now.intake).find(|word| *word != "running");
    let parts = [
        Some(format!("unfinished {}", sum(|status| status.now.unfinished))),
        oldest,
        gate(reached),
        intake.map(|word| format!("intake {word}")),
        Some(format!("dead letters 1 h {}", sum(|status| status.now.dead_letters_last_hour))),
        lag.map(|lag| format!("lag {lag}")),
    ];
    parts.into_iter().flatten().collect()
}

/// The gate that is least open.
fn gate(reached: &[&SeenStatus]) -> Option<String> {
    let rank = |state: &str| ["open", "limited", "shut"].iter().position(|word| *word == state);
    let worst = reached.iter().map(|status| &status.gate).max_by_key(|gate| rank(&gate.state))?;
    let reason = worst.reason.as_ref().map(|reason| format!(" ({reason})"));
    Some(format!("gate {}{}", worst.state, reason.unwrap_or_default()))
}

/// What unfinished events wait for, the most frequent first.
fn problems(reached: &[&SeenStatus]) -> Vec<String> {
    let mut sums: Vec<(&str, u64)> = Vec::new();
    for (word, count) in covering(reached, "now").iter().flat_map(|status| &status.now.by_problem) {
        match sums.iter_mut().find(|(known, _)| known == word) {
            Some((_, sum)) => *sum += count,
            None => sums.push((word, *count)),
        }
    }
    sums.retain(|(_, count)| *count > 0);
    sums.sort_by(|(a, more), (b, less)| less.cmp(more).then(a.cmp(b)));
    sums.iter().map(|(word, count)| format!("{word} {count}")).collect()
}

fn last_hour(reached: &[&SeenStatus]) -> Vec<String> {
    let statuses = covering(reached, "last_hour");
    let sum = |count: fn(&SeenHour) -> u64| -> u64 {
        statuses.iter().map(|status| count(&status.last_hour)).sum()
    };
    vec![
        format!("1 h: assigned {}", sum(|hour| hour.assigned)),
        format!("queued {}", sum(|hour| hour.queued)),
        format!("no_agent_online {}", sum(|hour| hour.no_agent_online)),
        format!("failed {}", sum(|hour| hour.failed)),
        format!("rejected {}", sum(|hour| hour.rejected)),
        format!("expired {}", sum(|hour| hour.expired)),
    ]
}

fn decided(reached: &[&SeenStatus]) -> Vec<String> {
    let statuses = covering(reached, "last_hour");
    percentiles("decided in", worst(statuses.iter().map(|status| status.last_hour.decided_in_ms)))
}

fn desk(reached: &[&SeenStatus]) -> Vec<String> {
    let desks: Vec<_> = covering(reached, "desk").iter().map(|status| &status.desk).collect();
    let calls: f64 = desks.iter().map(|desk| desk.calls_per_second).sum();
    // Without a limit at one of them there is none.
    let limit: Option<f64> = desks.iter().map(|desk| desk.limit_per_second).sum();
    let limit = limit.map(|limit| format!(" of {}", decimal(limit))).unwrap_or_default();
    let in_flight: u64 = desks.iter().map(|desk| desk.in_flight).sum();
    let concurrency: u64 = desks.iter().map(|desk| desk.concurrency).sum();
    let throttled = desks.iter().filter_map(|desk| desk.throttled_percent).fold(0.0, f64::max);
    let mut parts = vec![format!("Desk: calls {}/s{limit}", decimal(calls))];
    parts.extend(percentiles("took", worst(desks.iter().map(|desk| desk.latency_ms))));
    parts.push(format!("throttled {} %", decimal(throttled)));
    parts.push(format!("in flight {in_flight} of {concurrency}"));
    parts
}

fn worst(all: impl Iterator<Item = SeenPercentiles>) -> SeenPercentiles {
    all.fold(SeenPercentiles::default(), |worst, next| SeenPercentiles {
        p50: worst.p50.max(next.p50),
        p95: worst.p95.max(next.p95),
        p99: worst.p99.max(next.p99),
    })
}

/// Those that are known; the first one with what they are about.
fn percentiles(what: &str, percentiles: SeenPercentiles) -> Vec<String> {
    let SeenPercentiles { p50, p95, p99 } = percentiles;
    let known = [("p50", p50), ("p95", p95), ("p99", p99)];
    let known = known.into_iter().filter_map(|(name, ms)| ms.map(|ms| (name, millis(ms))));
    let text = |(index, (name, ms)): (usize, (&str, String))| match index {
        0 => format!("{what} {name} {ms}"),
        _ => format!("{name} {ms}"),
    };
    known.enumerate().map(text).collect()
}
