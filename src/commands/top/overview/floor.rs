//! The floor: one row per route, for people who look at people.

use super::row::ShownRow;
use crate::commands::top::ages::{bars, percent, span};
use crate::commands::top::status::{SeenRoute, SeenStatus};

/// The routes of one name are one row.
pub(super) fn floor(statuses: &[&SeenStatus]) -> Vec<ShownRow> {
    let mut sums: Vec<FloorRow> = Vec::new();
    for (status, route) in
        statuses.iter().flat_map(|status| status.routes.iter().map(move |route| (status, route)))
    {
        let longest = route.longest_wait_since.map(|at| status.as_of.duration_since(at).as_secs());
        match sums.iter_mut().find(|sum| sum.route.name == route.name) {
            Some(sum) => sum.add(route, longest),
            None => sums.push(FloorRow::new(route, longest)),
        }
    }
    sums.iter().map(FloorRow::shown).collect()
}

struct FloorRow {
    route: SeenRoute,
    /// Seconds.
    longest: Option<i64>,
    /// Assigned or queued by the first target.
    by_first: f64,
    /// Assigned or queued where the share of the first target is known.
    by_any: u64,
}

impl FloorRow {
    fn new(route: &SeenRoute, longest: Option<i64>) -> Self {
        let by_any = if route.first_target.is_some() { route.assigned + route.queued } else { 0 };
        let by_first = route.first_target.unwrap_or_default() * by_any as f64;
        Self { route: route.clone(), longest, by_first, by_any }
    }

    fn add(&mut self, route: &SeenRoute, longest: Option<i64>) {
        let other = Self::new(route, longest);
        let sum = &mut self.route;
        sum.waiting += route.waiting;
        sum.assigned += route.assigned;
        sum.queued += route.queued;
        sum.no_agent_online += route.no_agent_online;
        sum.other += route.other;
        sum.trend.iter_mut().zip(&route.trend).for_each(|(sum, more)| *sum += more);
        self.longest = self.longest.max(longest);
        self.by_first += other.by_first;
        self.by_any += other.by_any;
    }

    fn shown(&self) -> ShownRow {
        let route = &self.route;
        let all = route.assigned + route.queued + route.no_agent_online + route.other;
        let name = route.name.clone().unwrap_or_else(|| "(no route)".into());
        let first = match self.by_any {
            0 => "-".to_owned(),
            any => format!("{:.0} %", self.by_first * 100.0 / any as f64),
        };
        let detail = format!(
            "{name}: last hour {} assigned, {} queued, {} nobody online, {} other; the first target \
             took {first}",
            route.assigned, route.queued, route.no_agent_online, route.other
        );
        let cells = [
            name,
            route.waiting.to_string(),
            self.longest.map_or_else(|| "-".into(), span),
            route.assigned.to_string(),
            route.queued.to_string(),
            route.no_agent_online.to_string(),
            percent(route.no_agent_online, all),
            first,
            bars(&route.trend),
            route.other.to_string(),
        ];
        ShownRow::new(cells, &detail)
    }
}
