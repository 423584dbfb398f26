//! Whom to ask for, in which order: the targets of one event.
//!
//! A `Plan` is never empty. Its order: the event's own target as given (agents and group in
//! one request), then its group alone, then the targets of its route, then Desk's default
//! allocation, which the route or the configuration leaves out; `strict` leaves out all but the
//! event's own. This file never names a target twice, and never knows what Desk answered.

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::event::RequestedTarget;
use super::route::Route;

/// One addressee of a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Written")]
pub enum Target {
    /// These agents, or (with a group too) one of them or of the group.
    Named {
        /// Agents who may take it; may be empty when a group is given.
        agents: Vec<String>,
        /// The agent group to pick from.
        group: Option<u64>,
    },
    /// The console's default allocation.
    Default,
}

/// A target as it is written in an outcome.
#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    agents: Vec<String>,
    group: Option<u64>,
}

impl From<Written> for Target {
    fn from(Written { agents, group }: Written) -> Self {
        if agents.is_empty() && group.is_none() {
            Self::Default
        } else {
            Self::Named { agents, group }
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::Default => map.serialize_entry("default", &true)?,
            Self::Named { agents, group } => {
                if !agents.is_empty() {
                    map.serialize_entry("agents", agents)?;
                }
                if let Some(group) = group {
                    map.serialize_entry("group", group)?;
                }
            }
        }
        map.end()
    }
}

/// The ordered targets of one event, and how far down we are. Never empty.
#[derive(Debug, Clone)]
pub struct Plan {
    targets: Vec<Target>,
    steps: usize,
}

impl Plan {
    /// The plan for an event's own requested_target and the route it takes; `default` says whether Desk's
    /// default may end it. `strict` counts where the event names somebody.
    pub fn new(requested_target: &RequestedTarget, route: Option<&Route>, default: bool) -> Self {
        let mut targets = Vec::new();
        if !requested_target.agents.is_empty() || requested_target.group.is_some() {
            targets.push(Target::Named {
                agents: requested_target.agents.clone(),
                group: requested_target.group,
            });
        }
        if !requested_target.agents.is_empty() && requested_target.group.is_some() {
            targets.push(Target::Named { agents: Vec::new(), group: requested_target.group });
        }
        if targets.is_empty() || !requested_target.strict {
            let ends = route.is_none_or(|route| route.default_target);
            let later = route.into_iter().flat_map(|route| &route.targets).cloned();
            for target in later.chain((default && ends).then_some(Target::Default)) {
                if !targets.contains(&target) {
                    targets.push(target);
                }
            }
        }
        if targets.is_empty() {
            targets.push(Target::Default);
        }
        Self { targets, steps: 0 }
    }

    /// The target to ask now.
    pub fn current(&self) -> &Target {
        &self.targets[self.steps]
    }

    /// How many targets were stepped past.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Step to the next target; false where there is none left.
    pub fn advance(&mut self) -> bool {
        let more = self.steps + 1 < self.targets.len();
        self.steps += usize::from(more);
        more
    }

    /// Begin again with the first target.
    pub fn restart(&mut self) {
        self.steps = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::route::Draft;

    /// A requested_target and a route in words: agents, groups, `default`, `strict`, `closed` (no default).
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
        let draft = Draft { name: "r".into(), targets: targets(words), ..Draft::default() };
        (!words.is_empty()).then(|| Draft { default_target, ..draft }.into_route().unwrap())
    }

    fn check_with(default: bool, requested_target: &str, by_route: &str, expected: &str) {
        let (agents, group) = match targets(requested_target).pop() {
            Some(Target::Named { agents, group }) => (agents, group),
            _ => (Vec::new(), None),
        };
        let wish_of =
            RequestedTarget { agents, group, strict: requested_target.contains("strict") };
        let mut plan = Plan::new(&wish_of, route(by_route).as_ref(), default);
        for _ in 0..2 {
            let mut asked = vec![shown(plan.current())];
            while plan.advance() {
                asked.push(shown(plan.current()));
            }
            assert_eq!(asked.join(" > "), expected, "{requested_target:?} by {by_route:?}");
            assert_eq!(plan.steps() + 1, asked.len());
            plan.restart();
        }
    }

    fn check(requested_target: &str, by_route: &str, expected: &str) {
        check_with(true, requested_target, by_route, expected);
    }

    #[test]
    fn own_target_then_group_then_default() {
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
    fn nobody_is_asked_for_twice() {
        check("7", "7 8 7 8", "7 > 8 > default");
        check("a@x+7", "7 a@x+7 a@x", "a@x+7 > 7 > a@x > default");
        check("", "default 8", "default > 8");
    }

    #[test]
    fn strict_leaves_everybody_else_out() {
        check("a@x+7 strict", "", "a@x+7 > 7");
        check("a@x strict", "8 9", "a@x");
        // It names nobody, so that there is nobody to be strict about.
        check("strict", "8", "8 > default");
        check("strict", "", "default");
    }

    #[test]
    fn the_default_is_left_out_by_the_configuration_or_the_route() {
        check_with(false, "a@x", "", "a@x");
        check_with(false, "a@x", "8", "a@x > 8");
        check("a@x", "8 closed", "a@x > 8");
        check("", "8 closed", "8");
        check_with(false, "", "8 default", "8 > default");
        check_with(false, "", "", "default");
    }

    #[test]
    fn a_target_is_written_as_it_is_read() {
        for json in [r#"{"agents":["a"]}"#, r#"{"group":7}"#, r#"{"agents":["a"],"group":7}"#] {
            let target: Target = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&target).unwrap(), json);
        }
        assert_eq!(serde_json::to_string(&Target::Default).unwrap(), r#"{"default":true}"#);
    }
}
