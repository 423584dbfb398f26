//! The routes: which targets, which priority and how much patience an escalation gets by what it
//! says of itself.
//!
//! `Routes::compile` checks what the configuration says; what it returns can be used as it is.
//! Values are compared as they are written, letter by letter. The first route that matches is
//! taken. This file never knows where a route is written, and never asks who is online.

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::{TransferOptions, TransferRequest};
use super::plan::Target;

/// A route as somebody wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// What it is called, in outcomes too.
    pub name: String,
    /// For each attribute the values it may have; nothing: every escalation.
    pub when: BTreeMap<String, Vec<String>>,
    /// Who is asked, one after the other.
    pub targets: Vec<Target>,
    /// For events that name none.
    pub priority: Option<u8>,
    /// For events that do not set them.
    pub options: TransferOptions,
    /// Whether Desk's default allocation may end the plan.
    pub default_target: bool,
    /// What follows when nobody is online.
    pub while_nobody_online: NoAgentPolicy,
}

/// What follows when nobody of the whole plan is online.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAgentPolicy {
    /// Answer so.
    Answer,
    /// Try again after the first of these waits, then after the second; the last repeats.
    KeepTrying(Vec<Duration>),
}

impl Default for Draft {
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

/// A route that makes sense.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// What it is called.
    pub name: String,
    /// Who is asked, one after the other; not empty.
    pub targets: Vec<Target>,
    /// Whether Desk's default allocation may end the plan.
    pub default_target: bool,
    when: BTreeMap<String, Vec<String>>,
    priority: Option<u8>,
    options: TransferOptions,
    patience: NoAgentPolicy,
}

/// All routes in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Routes(Vec<Route>);

/// What is wrong with the routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which route, counted from 0.
    pub route: usize,
    /// A fragment that fits after the route's name.
    pub text: String,
}

impl Routes {
    /// The routes, or all that is wrong with them.
    pub fn compile(drafts: Vec<Draft>) -> Result<Self, Vec<Problem>> {
        let (mut routes, mut problems): (Vec<Route>, Vec<Problem>) = (Vec::new(), Vec::new());
        for (number, draft) in drafts.iter().enumerate() {
            let mut earlier = drafts[..number].iter();
            let mut note = |text| problems.push(Problem { route: number, text });
            if earlier.clone().any(|other| other.name == draft.name) {
                note("has the name of an earlier one".to_owned());
            }
            if let Some(other) = earlier.find(|other| other.covers(draft)) {
                let name = &other.name;
                note(format!("is never taken: whatever it matches, {name:?} before it matches"));
            }
            match draft.clone().into_route() {
                Ok(route) => routes.push(route),
                Err(texts) => {
                    problems.extend(texts.into_iter().map(|text| Problem { route: number, text }));
                }
            }
        }
        if problems.is_empty() { Ok(Self(routes)) } else { Err(problems) }
    }

    /// The first route that matches these attributes.
    pub fn find(&self, attributes: &BTreeMap<String, String>) -> Option<&Route> {
        self.0.iter().find(|route| route.matches(attributes))
    }

    /// Their names in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|route| route.name.as_str())
    }
}

impl Draft {
    /// The route, or all that is wrong with it alone.
    pub fn into_route(self) -> Result<Route, Vec<String>> {
        let mut problems = Vec::new();
        if self.name.trim().is_empty() {
            problems.push("has no name: outcomes tell it".to_owned());
        }
        if self.targets.is_empty() {
            let text = "has no targets: name agents, a group, or { default = true }";
            problems.push(text.to_owned());
        }
        for (attribute, _) in self.when.iter().filter(|(_, values)| values.is_empty()) {
            problems.push(format!("never matches: {attribute:?} may have no value at all"));
        }
        let nameless = |target: &Target| matches!(target, Target::Named { agents, group: None } if agents.is_empty());
        if self.targets.iter().any(nameless) {
            problems.push("has a target without agents and group".to_owned());
        }
        if self.while_nobody_online == NoAgentPolicy::KeepTrying(Vec::new()) {
            problems.push("is to keep trying, but has no waits to do so".to_owned());
        }
        let Self { name, when, targets, priority, options, default_target, .. } = self;
        let patience = self.while_nobody_online;
        let route = Route { name, targets, default_target, when, priority, options, patience };
        if problems.is_empty() { Ok(route) } else { Err(problems) }
    }

    /// Whether it matches whatever the other one matches.
    fn covers(&self, other: &Self) -> bool {
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

    /// What is asked for, with the route's word where the event says nothing.
    #[must_use]
    pub fn complete(&self, ask: &TransferRequest) -> TransferRequest {
        let mut ask = ask.clone();
        ask.priority = ask.priority.or(self.priority);
        ask.options = ask.options.or(&self.options);
        ask
    }

    /// How long to wait when nobody was online for the `round`th time, counted from 0; `None`:
    /// it is not tried again.
    pub fn wait(&self, round: usize) -> Option<Duration> {
        match &self.patience {
            NoAgentPolicy::Answer => None,
            NoAgentPolicy::KeepTrying(waits) => waits.get(round).or(waits.last()).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A draft in words: its name, then `attribute=value,value` for each condition.
    fn draft(words: &str) -> Draft {
        let mut words = words.split_whitespace();
        let name = words.next().unwrap().to_owned();
        let pair = |word: &str| {
            let (attribute, values) = word.split_once('=').unwrap();
            let values = values.split(',').filter(|value| !value.is_empty()).map(str::to_owned);
            (attribute.to_owned(), values.collect())
        };
        let when = words.map(pair).collect();
        Draft { name, when, targets: vec![Target::Default], ..Draft::default() }
    }

    fn compiled(routes: &[&str]) -> Result<Routes, Vec<Problem>> {
        Routes::compile(routes.iter().map(|words| draft(words)).collect())
    }

    fn problems(result: Result<Routes, Vec<Problem>>) -> Vec<String> {
        let shown = |problem: Problem| format!("{} {}", problem.route, problem.text);
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
    fn the_first_that_matches_in_every_attribute_is_taken() {
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
    fn what_makes_no_sense_is_said_all_at_once() {
        let empty = Draft { name: " ".into(), ..Draft::default() };
        let nobody = Target::Named { agents: Vec::new(), group: None };
        let odd = Draft {
            targets: vec![nobody],
            while_nobody_online: NoAgentPolicy::KeepTrying(Vec::new()),
            ..draft("odd tier=")
        };
        let twin = draft("odd tier=x lang=y");
        assert_eq!(
            problems(Routes::compile(vec![odd, twin, draft("all tier=x"), empty])),
            [
                "0 never matches: \"tier\" may have no value at all",
                "0 has a target without agents and group",
                "0 is to keep trying, but has no waits to do so",
                "1 has the name of an earlier one",
                "3 has no name: outcomes tell it",
                "3 has no targets: name agents, a group, or { default = true }",
            ]
        );
    }

    #[test]
    fn a_route_behind_one_that_takes_everything_it_would_is_never_taken() {
        let said = |routes: &[&str]| problems(compiled(routes)).join("; ");
        assert_eq!(
            said(&["all", "vip tier=vip"]),
            "1 is never taken: whatever it matches, \"all\" before it matches"
        );
        assert!(said(&["a tier=vip,gold", "b tier=gold lang=de"]).starts_with("1 is never taken"));
        assert!(said(&["a lang=de", "b", "c"]).contains("\"b\" before it"));
        assert_eq!(said(&["a tier=vip", "b tier=vip,gold", "c lang=de", "d"]), "");
    }

    #[test]
    fn the_event_goes_before_the_route_in_priority_and_options() {
        let options = TransferOptions {
            disable_queuing: Some(true),
            queue_timeout: Some(60),
            ..TransferOptions::default()
        };
        let route = Draft { priority: Some(2), options, ..draft("r") }.into_route().unwrap();
        let own = TransferOptions { queue_timeout: Some(5), ..TransferOptions::default() };
        let said =
            TransferRequest { priority: Some(0), options: own, ..TransferRequest::default() };
        let (said, silent) = (route.complete(&said), route.complete(&TransferRequest::default()));
        assert_eq!((said.priority, silent.priority), (Some(0), Some(2)));
        assert_eq!((said.options.queue_timeout, silent.options.queue_timeout), (Some(5), Some(60)));
        assert_eq!(said.options.disable_queuing, Some(true));
    }

    #[test]
    fn the_last_wait_repeats() {
        let waits = [1, 2].map(Duration::from_secs).to_vec();
        let patient = Draft { while_nobody_online: NoAgentPolicy::KeepTrying(waits), ..draft("r") };
        let patient = patient.into_route().unwrap();
        let waits = [0, 1, 2, 9].map(|round| patient.wait(round).unwrap().as_secs());
        assert_eq!(waits, [1, 2, 2, 2]);
        assert_eq!(draft("r").into_route().unwrap().wait(0), None);
    }
}
