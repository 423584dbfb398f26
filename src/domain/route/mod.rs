//! Routes: targets, priority, options and retry behaviour by what an escalation says.
//!
//! [`Routes::compile`] checks what the configuration says, all problems at once; a [`Route`] needs no
//! further check. The first route whose conditions all hold is used; [`condition`] says how values are
//! compared.

mod condition;
mod coverage;
mod examined;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

pub use self::condition::{ComparedValue, Condition, Number, Operator, Subject};
pub use self::examined::{ExaminedRoute, RouteStanding};

use super::event::{TransferOptions, TransferRequest};
use super::hours::Hours;
use super::target::Target;

/// A route as the configuration gives it, not checked yet.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteConfig {
    /// Its name, also in outcomes.
    pub name: String,
    /// All must hold, at most one for each value of an escalation. Empty: every escalation matches.
    pub when: Vec<Condition>,
    /// The times at which it matches; `None`: always.
    pub when_hours: Option<HoursCondition>,
    /// Tried one after the other.
    pub targets: Vec<Target>,
    /// The priority of events that name none.
    pub priority: Option<u8>,
    /// The options that an event does not set itself.
    pub options: TransferOptions,
    /// Whether Desk's default allocation may be the last target.
    pub default_target: bool,
    /// What follows when nobody of the whole plan is online.
    pub while_nobody_online: NoAgentPolicy,
    /// When its targets are there; `None`: always.
    pub opening: Option<Opening>,
    /// It is only counted, never used.
    pub shadow: bool,
}

/// A condition on the current time.
#[derive(Debug, Clone, PartialEq)]
pub enum HoursCondition {
    /// One of these is open.
    Open(Vec<Arc<Hours>>),
    /// All of these are closed.
    Closed(Vec<Arc<Hours>>),
}

/// When the targets of a route are there.
#[derive(Debug, Clone, PartialEq)]
pub struct Opening {
    /// The times.
    pub hours: Arc<Hours>,
    /// What follows at other times.
    pub outside: OutsideHours,
}

/// What follows outside the hours of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutsideHours {
    /// The outcome says so, without a call.
    Answer,
    /// An interim outcome says so, and the event waits until they open.
    ParkUntilOpen,
}

/// What follows when nobody of the whole plan is online.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAgentPolicy {
    /// The outcome says so.
    Answer,
    /// The whole plan is tried again after these waits, one after the other; the last repeats.
    KeepTrying(Vec<Duration>),
}

impl Default for RouteConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            when: Vec::new(),
            when_hours: None,
            targets: Vec::new(),
            priority: None,
            options: TransferOptions::default(),
            default_target: true,
            while_nobody_online: NoAgentPolicy::Answer,
            opening: None,
            shadow: false,
        }
    }
}

/// A checked route.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// Tried one after the other; not empty.
    pub targets: Vec<Target>,
    /// Whether Desk's default allocation may be the last target.
    pub default_target: bool,
    when: Vec<Condition>,
    when_hours: Option<HoursCondition>,
    priority: Option<u8>,
    options: TransferOptions,
    while_nobody_online: NoAgentPolicy,
    opening: Option<Opening>,
    shadow: bool,
}

/// All routes, in the order of the configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Routes(Vec<Route>);

/// The routes that match an escalation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RouteMatch<'r> {
    /// The one that is used.
    pub route: Option<&'r Route>,
    /// The shadow routes before it that would have been used in its place.
    pub shadows: Vec<&'r Route>,
}

/// The condition because of which a route does not match.
enum RouteMismatch<'m> {
    Value { subject: &'m Subject, value: Option<&'m str> },
    Hours { hours: &'m HoursCondition, now: Timestamp },
}

/// One problem of one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteProblem {
    /// The index of the route.
    pub route: usize,
    /// The key of the route that it is about, `when.tier` for example; empty: the whole route.
    pub key: String,
    /// A fragment that fits after the route's name.
    pub text: String,
    /// The indexes of the earlier routes that cause it.
    pub causes: Vec<usize>,
}

impl RouteProblem {
    fn new(key: &str, text: impl Into<String>) -> Self {
        Self { route: 0, key: key.to_owned(), text: text.into(), causes: Vec::new() }
    }
}

impl Routes {
    /// Check all routes, each alone and against the ones before it.
    pub fn compile(configs: Vec<RouteConfig>) -> Result<Self, Vec<RouteProblem>> {
        let (mut routes, mut problems): (Vec<Route>, Vec<RouteProblem>) = (Vec::new(), Vec::new());
        for (number, config) in configs.iter().enumerate() {
            // Compared as written, so that a route with a problem of its own is still compared.
            let earlier = &configs[..number];
            let mut found = Vec::new();
            if let Some(other) = earlier.iter().position(|other| other.name == config.name) {
                let problem = RouteProblem::new("name", "has the name of an earlier one");
                found.push(RouteProblem { causes: vec![other], ..problem });
            }
            let causes = config.covered_by(earlier);
            if !causes.is_empty() {
                let names: Vec<_> =
                    causes.iter().map(|number| format!("{:?}", earlier[*number].name)).collect();
                let (names, match_) =
                    (names.join(" and "), if causes.len() == 1 { "matches" } else { "match" });
                let text = format!("is never used: {names} before it {match_} all that it matches");
                found.push(RouteProblem { causes, ..RouteProblem::new("when", text) });
            }
            match config.clone().compile() {
                Ok(route) => routes.push(route),
                Err(of_route) => found.extend(of_route),
            }
            problems
                .extend(found.into_iter().map(|problem| RouteProblem { route: number, ..problem }));
        }
        if problems.is_empty() { Ok(Self(routes)) } else { Err(problems) }
    }

    /// The first route that matches this request now.
    pub fn find(&self, request: &TransferRequest, now: Timestamp) -> RouteMatch<'_> {
        let mut found = RouteMatch::default();
        for route in self.0.iter().filter(|route| route.matches(request, now)) {
            if !route.shadow {
                found.route = Some(route);
                break;
            }
            found.shadows.push(route);
        }
        found
    }

    /// The names, in the same order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|route| route.name.as_str())
    }

    /// The names of the routes that park until they open.
    pub fn parking_names(&self) -> impl Iterator<Item = &str> {
        let parks = |route: &&Route| {
            route.opening.as_ref().is_some_and(|it| it.outside == OutsideHours::ParkUntilOpen)
        };
        self.0.iter().filter(parks).map(|route| route.name.as_str())
    }

    /// The names of the shadow routes.
    pub fn shadow_names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|route| route.shadow).map(|route| route.name.as_str())
    }
}

impl RouteConfig {
    /// Check this route alone.
    pub fn compile(self) -> Result<Route, Vec<RouteProblem>> {
        let mut problems = Vec::new();
        let mut report = |key: &str, text: String| problems.push(RouteProblem::new(key, text));
        if self.name.trim().is_empty() {
            report("name", "has no name: outcomes contain it".to_owned());
        }
        if self.targets.is_empty() {
            let text = "has no targets: name agents, a group, or { default = true }";
            report("targets", text.to_owned());
        }
        for condition in self.when.iter().filter(|condition| coverage::never_holds(condition)) {
            let key = format!("when.{}", condition.subject);
            report(&key, format!("never matches: no value of `{key}` meets all its conditions"));
        }
        // Desk would read a request without agents and group as one for its default allocation.
        let is_empty = |target: &Target| matches!(target, Target::Named { agents, group: None } if agents.is_empty());
        if self.targets.iter().any(is_empty) {
            report("targets", "has a target without agents and group".to_owned());
        }
        if self.while_nobody_online == NoAgentPolicy::KeepTrying(Vec::new()) {
            let text = "keeps trying, but has no waits between the attempts";
            report("while_nobody_online", text.to_owned());
        }
        let Self { name, when, when_hours, targets, priority, options, default_target, .. } = self;
        let Self { while_nobody_online, opening, shadow, .. } = self;
        let route = Route {
            name,
            targets,
            default_target,
            when,
            when_hours,
            priority,
            options,
            while_nobody_online,
            opening,
            shadow,
        };
        if problems.is_empty() { Ok(route) } else { Err(problems) }
    }

    /// The earlier routes because of which this one is never used: one matches all that it matches, or
    /// one does for each value of one of its lists. A shadow route takes no escalation away from the
    /// routes behind it, and a route that never matches has a problem of its own.
    fn covered_by(&self, earlier: &[Self]) -> Vec<usize> {
        if self.when.iter().any(coverage::never_holds) {
            return Vec::new();
        }
        let covering =
            |config: &Self| earlier.iter().position(|other| !other.shadow && other.covers(config));
        let one_for_each_value = |(number, condition): (usize, &Condition)| {
            let narrowed = coverage::listed(&condition.operators)?.iter().map(|value| {
                let mut config = self.clone();
                config.when[number].operators.insert(0, Operator::OneOf(vec![value.clone()]));
                config
            });
            let possible = narrowed.filter(|config| !coverage::never_holds(&config.when[number]));
            possible.map(|config| covering(&config)).collect::<Option<Vec<_>>>()
        };
        let mut causes = match covering(self) {
            Some(one) => vec![one],
            None => self.when.iter().enumerate().find_map(one_for_each_value).unwrap_or_default(),
        };
        causes.sort_unstable();
        causes.dedup();
        causes
    }

    /// Whether every escalation that matches `other` matches this one too, at any time.
    fn covers(&self, other: &Self) -> bool {
        // Every demand of this route must follow from what the other demands of the same value.
        let nothing = |subject: &Subject| Condition { subject: subject.clone(), operators: vec![] };
        let values = self.when.iter().all(|condition| {
            let theirs = other.when.iter().find(|theirs| theirs.subject == condition.subject);
            let theirs = theirs.cloned().unwrap_or_else(|| nothing(&condition.subject));
            condition.operators.iter().all(|operator| coverage::implies(&theirs, operator))
        });
        values && self.when_hours.as_ref().is_none_or(|ours| ours.follows_from(&other.when_hours))
    }
}

impl HoursCondition {
    fn holds(&self, now: Timestamp) -> bool {
        match self {
            Self::Open(hours) => hours.iter().any(|hours| hours.is_open(now)),
            Self::Closed(hours) => !hours.iter().any(|hours| hours.is_open(now)),
        }
    }

    /// Whether this holds whenever the other one does.
    fn follows_from(&self, other: &Option<Self>) -> bool {
        let contains = |all: &[Arc<Hours>], some: &[Arc<Hours>]| {
            some.iter().all(|hours| all.iter().any(|other| other.name == hours.name))
        };
        match (self, other) {
            (Self::Open(ours), Some(Self::Open(theirs))) => contains(ours, theirs),
            (Self::Closed(ours), Some(Self::Closed(theirs))) => contains(theirs, ours),
            _ => false,
        }
    }
}

impl Route {
    fn matches(&self, request: &TransferRequest, now: Timestamp) -> bool {
        self.first_mismatch(request, now).is_none()
    }

    /// The first condition that does not hold.
    fn first_mismatch<'m>(
        &'m self,
        request: &'m TransferRequest,
        now: Timestamp,
    ) -> Option<RouteMismatch<'m>> {
        let mut values =
            self.when.iter().map(|condition| (condition, condition.subject.of(request)));
        let mismatch = values.find(|(condition, value)| !condition.accepts(*value));
        if let Some((Condition { subject, .. }, value)) = mismatch {
            return Some(RouteMismatch::Value { subject, value });
        }
        let hours = self.when_hours.as_ref().filter(|hours| !hours.holds(now))?;
        Some(RouteMismatch::Hours { hours, now })
    }

    /// When its targets are there; `None`: always.
    pub fn opening(&self) -> Option<&Opening> {
        self.opening.as_ref()
    }

    /// The hours of the route, if they are closed now.
    pub fn closed(&self, now: Timestamp) -> Option<&Opening> {
        self.opening.as_ref().filter(|opening| !opening.hours.is_open(now))
    }

    /// The request, with the route's priority and options where the event sets none.
    #[must_use]
    pub fn complete(&self, request: &TransferRequest) -> TransferRequest {
        let mut request = request.clone();
        request.priority = request.priority.or(self.priority);
        request.options = request.options.or(&self.options);
        request
    }

    /// The wait before the plan is tried again, after `retries` earlier retries; `None` if the route
    /// does not try again.
    pub fn retry_wait(&self, retries: usize) -> Option<Duration> {
        match &self.while_nobody_online {
            NoAgentPolicy::Answer => None,
            NoAgentPolicy::KeepTrying(waits) => waits.get(retries).or(waits.last()).copied(),
        }
    }
}

#[cfg(test)]
mod tests;
