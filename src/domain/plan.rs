//! The plan: which targets one event tries, in which order.
//!
//! First the event's own target as given (agents and group in one request), then its group alone, then
//! the route's targets, then Desk's default allocation. The route or the configuration may exclude the
//! default; `strict` excludes everything but the event's own target. A plan is never empty and names no
//! target twice.

use sha2::{Digest as _, Sha256};

use super::event::RequestedTarget;
use super::route::Route;
use super::target::Target;
use super::wire::outcome::Tried;

/// Characters of the words in the name of a plan.
const MAX_NAME_CHARS: usize = 80;

/// The ordered targets of one event and the current one.
#[derive(Debug, Clone)]
pub struct Plan {
    targets: Vec<Target>,
    step: usize,
}

impl Plan {
    /// `default_target` is the configuration's word on whether the default may be part of a plan.
    pub fn new(requested: &RequestedTarget, route: Option<&Route>, default_target: bool) -> Self {
        let mut targets = Vec::new();
        let RequestedTarget { agents, group, strict } = requested;
        if !agents.is_empty() || group.is_some() {
            targets.push(Target::Named { agents: agents.clone(), group: *group });
        }
        if !agents.is_empty() && group.is_some() {
            targets.push(Target::Named { agents: Vec::new(), group: *group });
        }
        // A strict event that names nobody has nothing to be strict about.
        if targets.is_empty() || !strict {
            let route_allows_default = route.is_none_or(|route| route.default_target);
            let default = (default_target && route_allows_default).then_some(Target::Default);
            let route_targets = route.into_iter().flat_map(|route| &route.targets).cloned();
            for target in route_targets.chain(default) {
                if !targets.contains(&target) {
                    targets.push(target);
                }
            }
        }
        if targets.is_empty() {
            targets.push(Target::Default);
        }
        Self { targets, step: 0 }
    }

    /// A name that only equal plans share: the targets in words, shortened, and their hash.
    pub fn name(&self) -> String {
        let json = serde_json::to_string(&self.targets).expect("texts and numbers are always JSON");
        let words = self.targets.iter().map(Target::words).collect::<Vec<_>>().join(", ");
        let words: String =
            words.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect();
        let hash = Sha256::digest(json);
        let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("{words} #{hash}")
    }

    /// All targets, in their order.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The target of the next transfer.
    pub fn current(&self) -> &Target {
        &self.targets[self.step]
    }

    /// The index of the current target.
    pub fn step(&self) -> usize {
        self.step
    }

    /// Step to the next target; false, and no step, at the last one.
    pub fn advance(&mut self) -> bool {
        let has_next = self.step + 1 < self.targets.len();
        self.step += usize::from(has_next);
        has_next
    }

    /// Go on with the target at `step`, of a plan in which these targets were tried. False, and no
    /// step, where this plan is another one.
    pub fn go_on_after(&mut self, tried: &[Tried], step: usize) -> bool {
        let tried = tried.iter().map(|tried| &tried.target);
        let goes_on = step < self.targets.len()
            && self.targets.iter().take(step + 1).zip(tried).all(|(ours, tried)| ours == tried);
        self.step = if goes_on { step } else { 0 };
        goes_on
    }

    /// Start again with the first target.
    pub fn restart(&mut self) {
        self.step = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::route::RouteConfig;

    /// Targets in words: agents, groups, `default`; `strict` and `closed` (no default) are flags.
    fn targets(words: &str) -> Vec<Target> {
        let target = |word: &str| match (word, word.split_once('+')) {
            ("default", _) => Some(Target::Default),
            ("strict" | "closed", _) => None,
            (_, Some((agents, group))) => named(agents, Some(group)),
            _ if word.contains('@') => named(word, None),
            _ => named("", Some(word)),
        };
        words.split_whitespace().filter_map(target).collect()
    }

    #[expect(clippy::unnecessary_wraps, reason = "reads better in the table above")]
    fn named(agents: &str, group: Option<&str>) -> Option<Target> {
        let agents = agents.split(',').filter(|agent| !agent.is_empty()).map(str::to_owned);
        let group = group.map(|group| group.parse().unwrap());
        Some(Target::Named { agents: agents.collect(), group })
    }

    fn shown(target: &Target) -> String {
        match target {
            Target::Default => "default".into(),
            Target::Named { agents, group: None } => agents.join(","),
            Target::Named { agents, group: Some(group) } if agents.is_empty() => group.to_string(),
            Target::Named { agents, group: Some(group) } => format!("{}+{group}", agents.join(",")),
        }
    }

    fn route(words: &str) -> Option<Route> {
        let default_target = !words.contains("closed");
        let config =
            RouteConfig { name: "r".into(), targets: targets(words), ..RouteConfig::default() };
        (!words.is_empty()).then(|| RouteConfig { default_target, ..config }.compile().unwrap())
    }

    fn check_with(default: bool, requested_target: &str, of_route: &str, expected: &str) {
        let (agents, group) = match targets(requested_target).pop() {
            Some(Target::Named { agents, group }) => (agents, group),
            _ => (Vec::new(), None),
        };
        let requested =
            RequestedTarget { agents, group, strict: requested_target.contains("strict") };
        let mut plan = Plan::new(&requested, route(of_route).as_ref(), default);
        for _ in 0..2 {
            let mut tried = vec![shown(plan.current())];
            while plan.advance() {
                tried.push(shown(plan.current()));
            }
            assert_eq!(tried.join(" > "), expected, "{requested_target:?} by {of_route:?}");
            assert_eq!(plan.step() + 1, tried.len());
            plan.restart();
        }
    }

    fn check(requested_target: &str, of_route: &str, expected: &str) {
        check_with(true, requested_target, of_route, expected);
    }

    #[test]
    fn the_own_target_comes_first_then_its_group_then_the_default() {
        check("", "", "default");
        check("a@x", "", "a@x > default");
        check("7", "", "7 > default");
        check("a@x,b@x+7", "", "a@x,b@x+7 > 7 > default");
    }

    #[test]
    fn the_targets_of_the_route_come_between() {
        check("", "8", "8 > default");
        check("", "v@x+8 8 9", "v@x+8 > 8 > 9 > default");
        check("a@x+7", "8 9", "a@x+7 > 7 > 8 > 9 > default");
    }

    #[test]
    fn no_target_is_tried_twice() {
        check("7", "7 8 7 8", "7 > 8 > default");
        check("a@x+7", "7 a@x+7 a@x", "a@x+7 > 7 > a@x > default");
        check("", "default 8", "default > 8");
    }

    #[test]
    fn strict_excludes_all_other_targets() {
        check("a@x+7 strict", "", "a@x+7 > 7");
        check("a@x strict", "8 9", "a@x");
        // Without a target of its own, `strict` has no meaning.
        check("strict", "8", "8 > default");
        check("strict", "", "default");
    }

    #[test]
    fn the_configuration_or_the_route_excludes_the_default() {
        check_with(false, "a@x", "", "a@x");
        check_with(false, "a@x", "8", "a@x > 8");
        check("a@x", "8 closed", "a@x > 8");
        check("", "8 closed", "8");
        check_with(false, "", "8 default", "8 > default");
        check_with(false, "", "", "default");
    }
}
