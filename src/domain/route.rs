//! Routes: targets, priority, options and retry behaviour by the attributes of an escalation.
//!
//! [`Routes::compile`] checks what the configuration says, all problems at once; a [`Route`] needs no
//! further check. Values are compared exactly. The first route that matches is used.

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::{TransferOptions, TransferRequest};
use super::target::Target;

/// A route as the configuration gives it, not checked yet.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteConfig {
    /// Its name, also in outcomes.
    pub name: String,
    /// The allowed values per attribute; all must match. Empty: every escalation matches.
    pub when: BTreeMap<String, Vec<String>>,
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
            when: BTreeMap::new(),
            targets: Vec::new(),
            priority: None,
            options: TransferOptions::default(),
            default_target: true,
            while_nobody_online: NoAgentPolicy::Answer,
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
    when: BTreeMap<String, Vec<String>>,
    priority: Option<u8>,
    options: TransferOptions,
    while_nobody_online: NoAgentPolicy,
}

/// All routes, in the order of the configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Routes(Vec<Route>);

/// One problem of one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteProblem {
    /// The index of the route.
    pub route: usize,
    /// A fragment that fits after the route's name.
    pub text: String,
}

impl Routes {
    /// Check all routes, each alone and against the ones before it.
    pub fn compile(configs: Vec<RouteConfig>) -> Result<Self, Vec<RouteProblem>> {
        let (mut routes, mut problems): (Vec<Route>, Vec<RouteProblem>) = (Vec::new(), Vec::new());
        for (number, config) in configs.iter().enumerate() {
            // Compared as written, so that a route with a problem of its own is still compared.
            let mut earlier = configs[..number].iter();
            let mut report = |text| problems.push(RouteProblem { route: number, text });
            if earlier.clone().any(|other| other.name == config.name) {
                report("has the name of an earlier one".to_owned());
            }
            if let Some(other) = earlier.find(|other| other.covers(config)) {
                let name = &other.name;
                report(format!("is never used: {name:?} before it matches all that it matches"));
            }
            match config.clone().compile() {
                Ok(route) => routes.push(route),
                Err(texts) => {
                    problems
                        .extend(texts.into_iter().map(|text| RouteProblem { route: number, text }));
                }
            }
        }
        if problems.is_empty() { Ok(Self(routes)) } else { Err(problems) }
    }

    /// The first route that matches these attributes.
    pub fn find(&self, attributes: &BTreeMap<String, String>) -> Option<&Route> {
        self.0.iter().find(|route| route.matches(attributes))
    }

    /// The names, in the same order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|route| route.name.as_str())
    }
}

impl RouteConfig {
    /// Check this route alone.
    pub fn compile(self) -> Result<Route, Vec<String>> {
        let mut problems = Vec::new();
        if self.name.trim().is_empty() {
            problems.push("has no name: outcomes contain it".to_owned());
        }
        if self.targets.is_empty() {
            let text = "has no targets: name agents, a group, or { default = true }";
            problems.push(text.to_owned());
        }
        for (attribute, _) in self.when.iter().filter(|(_, values)| values.is_empty()) {
            problems.push(format!("never matches: {attribute:?} may have no value at all"));
        }
        // Desk would read a request without agents and group as one for its default allocation.
        let is_empty = |target: &Target| matches!(target, Target::Named { agents, group: None } if agents.is_empty());
        if self.targets.iter().any(is_empty) {
            problems.push("has a target without agents and group".to_owned());
        }
        if self.while_nobody_online == NoAgentPolicy::KeepTrying(Vec::new()) {
            problems.push("keeps trying, but has no waits between the attempts".to_owned());
        }
        let Self { name, when, targets, priority, options, default_target, .. } = self;
        let while_nobody_online = self.while_nobody_online;
        let route =
            Route { name, targets, default_target, when, priority, options, while_nobody_online };
        if problems.is_empty() { Ok(route) } else { Err(problems) }
    }

    /// Whether every escalation that matches `other` matches this one too.
    fn covers(&self, other: &Self) -> bool {
        // Every condition of this route must be implied by one of the other, value by value.
        self.when.iter().all(|(attribute, values)| {
            let theirs = other.when.get(attribute);
            theirs.is_some_and(|theirs| theirs.iter().all(|value| values.contains(value)))
        })
    }
}

impl Route {
    fn matches(&self, attributes: &BTreeMap<String, String>) -> bool {
        let has = |(attribute, values): (&String, &Vec<String>)| {
            attributes.get(attribute).is_some_and(|value| values.contains(value))
        };
        self.when.iter().all(has)
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
mod tests {
    use super::*;

    /// A config in words: its name, then `attribute=value,value` for each condition.
    fn config(words: &str) -> RouteConfig {
        let mut words = words.split_whitespace();
        let name = words.next().unwrap().to_owned();
        let pair = |word: &str| {
            let (attribute, values) = word.split_once('=').unwrap();
            let values = values.split(',').filter(|value| !value.is_empty()).map(str::to_owned);
            (attribute.to_owned(), values.collect())
        };
        let when = words.map(pair).collect();
        RouteConfig { name, when, targets: vec![Target::Default], ..RouteConfig::default() }
    }

    fn compiled(routes: &[&str]) -> Result<Routes, Vec<RouteProblem>> {
        Routes::compile(routes.iter().map(|words| config(words)).collect())
    }

    fn problems(result: Result<Routes, Vec<RouteProblem>>) -> Vec<String> {
        let shown = |problem: RouteProblem| format!("{} {}", problem.route, problem.text);
        result.err().unwrap_or_default().into_iter().map(shown).collect()
    }

    #[track_caller]
    fn check(attributes: &str, expected: &str) {
        let routes = compiled(&[
            "vip-de tier=vip lang=de",
            "vip tier=vip,gold",
            "german lang=de,at",
            "others",
        ]);
        let pair = |word: &str| {
            word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap()
        };
        let attributes = attributes.split_whitespace().map(pair).collect();
        let routes = routes.unwrap();
        assert_eq!(routes.find(&attributes).map(|route| route.name.as_str()), Some(expected));
    }

    #[test]
    fn the_first_route_whose_conditions_all_match_is_used() {
        check("tier=vip lang=de", "vip-de");
        check("lang=en tier=vip", "vip");
        check("tier=gold lang=de", "vip");
        check("lang=at intent=refund", "german");
        check("tier=Vip", "others");
        check("intent=refund", "others");
        check("", "others");
        assert_eq!(Routes::default().find(&BTreeMap::new()), None);
        assert_eq!(compiled(&["vip tier=vip"]).unwrap().find(&BTreeMap::new()), None);
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let empty = RouteConfig { name: " ".into(), ..RouteConfig::default() };
        let empty_target = Target::Named { agents: Vec::new(), group: None };
        let faulty = RouteConfig {
            targets: vec![empty_target],
            while_nobody_online: NoAgentPolicy::KeepTrying(Vec::new()),
            ..config("faulty tier=")
        };
        let twin = config("faulty tier=x lang=y");
        assert_eq!(
            problems(Routes::compile(vec![faulty, twin, config("all tier=x"), empty])),
            [
                "0 never matches: \"tier\" may have no value at all",
                "0 has a target without agents and group",
                "0 keeps trying, but has no waits between the attempts",
                "1 has the name of an earlier one",
                "3 has no name: outcomes contain it",
                "3 has no targets: name agents, a group, or { default = true }",
            ]
        );
    }

    #[test]
    fn a_route_behind_one_that_covers_it_is_reported() {
        let reported = |routes: &[&str]| problems(compiled(routes)).join("; ");
        assert_eq!(
            reported(&["all", "vip tier=vip"]),
            "1 is never used: \"all\" before it matches all that it matches"
        );
        assert!(
            reported(&["a tier=vip,gold", "b tier=gold lang=de"]).starts_with("1 is never used")
        );
        assert!(reported(&["a lang=de", "b", "c"]).contains("\"b\" before it"));
        assert_eq!(reported(&["a tier=vip", "b tier=vip,gold", "c lang=de", "d"]), "");
    }

    #[test]
    fn priority_and_options_of_the_event_override_the_route() {
        let options = TransferOptions {
            disable_queuing: Some(true),
            queue_timeout: Some(60),
            ..TransferOptions::default()
        };
        let route = RouteConfig { priority: Some(2), options, ..config("r") }.compile().unwrap();
        let own = TransferOptions { queue_timeout: Some(5), ..TransferOptions::default() };
        let own_request =
            TransferRequest { priority: Some(0), options: own, ..TransferRequest::default() };
        let set = route.complete(&own_request);
        let unset = route.complete(&TransferRequest::default());
        assert_eq!((set.priority, unset.priority), (Some(0), Some(2)));
        assert_eq!((set.options.queue_timeout, unset.options.queue_timeout), (Some(5), Some(60)));
        assert_eq!(set.options.disable_queuing, Some(true));
    }

    #[test]
    fn the_last_retry_wait_repeats() {
        let waits = [1, 2].map(Duration::from_secs).to_vec();
        let keeps_trying =
            RouteConfig { while_nobody_online: NoAgentPolicy::KeepTrying(waits), ..config("r") };
        let keeps_trying = keeps_trying.compile().unwrap();
        let waits = [0, 1, 2, 9].map(|retries| keeps_trying.retry_wait(retries).unwrap().as_secs());
        assert_eq!(waits, [1, 2, 2, 2]);
        assert_eq!(config("r").compile().unwrap().retry_wait(0), None);
    }
}
