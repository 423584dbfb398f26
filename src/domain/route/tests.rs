//! Matching, in the order of the configuration, and the checks of routes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::constant(1_795_428_000, 0);

/// A config in words: its name, then `attribute=value,value` for each condition.
fn config(words: &str) -> RouteConfig {
    let mut words = words.split_whitespace();
    let name = words.next().unwrap().to_owned();
    let condition = |word: &str| {
        let (attribute, values) = word.split_once('=').unwrap();
        let text = |value: &str| ComparedValue::Text(value.to_owned());
        let values = values.split(',').filter(|value| !value.is_empty()).map(text).collect();
        let subject = Subject::Attribute(attribute.to_owned());
        Condition { subject, operators: vec![Operator::OneOf(values)] }
    };
    let when = words.map(condition).collect();
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
    let routes =
        compiled(&["vip-de tier=vip lang=de", "vip tier=vip,gold", "german lang=de,at", "others"]);
    let pair = |word: &str| {
        word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap()
    };
    let attributes: BTreeMap<_, _> = attributes.split_whitespace().map(pair).collect();
    let request = TransferRequest { attributes, ..TransferRequest::default() };
    let routes = routes.unwrap();
    let found = routes.find(&request, NOW).route;
    assert_eq!(found.map(|route| route.name.as_str()), Some(expected));
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
    let nothing = TransferRequest::default();
    assert_eq!(Routes::default().find(&nothing, NOW).route, None);
    assert_eq!(compiled(&["vip tier=vip"]).unwrap().find(&nothing, NOW).route, None);
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
            "0 never matches: no value of `when.tier` meets all its conditions",
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
    assert!(reported(&["a tier=vip,gold", "b tier=gold lang=de"]).starts_with("1 is never used"));
    assert!(reported(&["a lang=de", "b", "c"]).contains("\"b\" before it"));
    let both = reported(&["a lang=de", "b lang=en", "c lang=fr", "d tier=vip lang=en,de"]);
    assert_eq!(both, "3 is never used: \"a\" and \"b\" before it match all that it matches");
    assert_eq!(reported(&["a lang=de", "b lang=en tier=vip", "c lang=en,de"]), "");
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

/// The hours 10:00 to 12:00 UTC on the day of [`NOW`], which is 10:00.
fn morning(name: &str) -> Arc<Hours> {
    let times = vec![crate::domain::hours::DayTime::read("10:00-12:00").unwrap()];
    let weekly = std::array::from_fn(|_| times.clone());
    let utc = jiff::tz::TimeZone::UTC;
    Arc::new(Hours::new(name.into(), utc, weekly, std::collections::BTreeSet::new()).unwrap())
}

fn found<'r>(routes: &'r Routes, request: &TransferRequest, now: Timestamp) -> Vec<&'r str> {
    let found = routes.find(request, now);
    let used = found.route.iter().map(|route| route.name.as_str());
    found.shadows.iter().map(|route| route.name.as_str()).chain(used).collect()
}

#[test]
fn every_condition_must_hold_the_reason_and_the_hours_too() {
    let with = |name: &str, when_hours| RouteConfig {
        when_hours: Some(when_hours),
        ..config(&format!("{name} tier=vip"))
    };
    let reason = Condition {
        subject: Subject::Reason,
        operators: vec![Operator::Prefix(vec!["user_".into()])],
    };
    let mut day = with("day", HoursCondition::Open(vec![morning("m")]));
    day.when.push(reason);
    let night = with("night", HoursCondition::Closed(vec![morning("m")]));
    let routes = Routes::compile(vec![day, night, config("rest")]).unwrap();
    let attributes = BTreeMap::from([("tier".to_owned(), "vip".to_owned())]);
    let request = |reason: &str| TransferRequest {
        reason: Some(reason.to_owned()),
        attributes: attributes.clone(),
        ..TransferRequest::default()
    };
    let evening = NOW + Duration::from_secs(7200);
    assert_eq!(found(&routes, &request("user_asked"), NOW), ["day"]);
    assert_eq!(found(&routes, &request("other"), NOW), ["rest"]);
    assert_eq!(found(&routes, &request("user_asked"), evening), ["night"]);
    assert_eq!(found(&routes, &TransferRequest::default(), evening), ["rest"]);
}

#[test]
fn shadow_routes_are_named_up_to_the_route_that_is_used() {
    let shadow = |words: &str| RouteConfig { shadow: true, ..config(words) };
    let configs = vec![
        shadow("first"),
        shadow("no tier=vip"),
        config("used lang=de"),
        shadow("behind"),
        config("rest"),
    ];
    let routes = Routes::compile(configs).unwrap();
    let attributes = BTreeMap::from([("lang".to_owned(), "de".to_owned())]);
    let request = TransferRequest { attributes, ..TransferRequest::default() };
    assert_eq!(found(&routes, &request, NOW), ["first", "used"]);
    assert_eq!(found(&routes, &TransferRequest::default(), NOW), ["first", "behind", "rest"]);
    // A shadow route takes nothing away; one that could never be counted is a mistake.
    let hidden = Routes::compile(vec![config("all"), shadow("hidden tier=vip")]);
    assert!(problems(hidden)[0].contains("1 is never used: \"all\""));
}

#[test]
fn hours_are_part_of_what_a_route_covers() {
    let at =
        |words: &str, when_hours| RouteConfig { when_hours: Some(when_hours), ..config(words) };
    let open = |names: &[&str]| HoursCondition::Open(names.iter().map(|n| morning(n)).collect());
    let closed =
        |names: &[&str]| HoursCondition::Closed(names.iter().map(|n| morning(n)).collect());
    let reported = |routes: [RouteConfig; 2]| !problems(Routes::compile(routes.into())).is_empty();
    assert!(reported([at("a", open(&["x", "y"])), at("b tier=vip", open(&["y"]))]));
    assert!(!reported([at("a", open(&["x"])), at("b", open(&["x", "y"]))]));
    assert!(reported([at("a", closed(&["x"])), at("b", closed(&["x", "y"]))]));
    assert!(!reported([at("a", closed(&["x", "y"])), at("b", closed(&["x"]))]));
    assert!(!reported([at("a", open(&["x"])), at("b", closed(&["x"]))]));
    assert!(!reported([at("a", open(&["x"])), config("b")]));
    assert!(reported([config("a"), at("b", open(&["x"]))]));
}

/// One of two attributes with one or two operators.
fn any_condition(name: &'static str) -> impl Strategy<Value = Condition> {
    let text = || prop::sample::select(vec!["a", "ab", "1", "2.0", "3"]);
    let value = || {
        prop_oneof![
            text().prop_map(|text| ComparedValue::Text(text.into())),
            (0i128..4).prop_map(|n| ComparedValue::Number(Number::Whole(n))),
        ]
    };
    let values = || prop::collection::vec(value(), 1..3);
    let number = || (0i128..4).prop_map(Number::Whole);
    let operator = prop_oneof![
        values().prop_map(Operator::OneOf),
        values().prop_map(Operator::Not),
        number().prop_map(Operator::Min),
        number().prop_map(Operator::Max),
        text().prop_map(|text| Operator::Prefix(vec![text.into()])),
        any::<bool>().prop_map(Operator::Exists),
    ];
    let operators = prop::collection::vec(operator, 1..3);
    let subject = Subject::Attribute(name.into());
    operators.prop_map(move |operators| Condition { subject: subject.clone(), operators })
}

fn any_routes() -> impl Strategy<Value = Vec<RouteConfig>> {
    let conditions = ["x", "y"].map(|name| prop::option::weighted(0.6, any_condition(name)));
    let route = (conditions, prop::bool::weighted(0.2)).prop_map(|(conditions, shadow)| {
        let when = conditions.into_iter().flatten().collect();
        RouteConfig { when, shadow, ..config("r") }
    });
    prop::collection::vec(route, 1..6).prop_map(|mut routes| {
        for (number, route) in routes.iter_mut().enumerate() {
            route.name = number.to_string();
        }
        routes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// Judged by the meaning of the words in the manual, over all pairs of values that matter.
    #[test]
    fn the_first_route_that_matches_is_used_and_a_refused_one_never_would_be(
        configs in any_routes(),
    ) {
        let refused: Vec<usize> = match Routes::compile(configs.clone()) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(|problem| problem.route).collect(),
        };
        // The check reports what could never be used; without it nothing must change.
        let unchecked = configs.iter().map(|config| Route {
            name: config.name.clone(),
            targets: config.targets.clone(),
            default_target: true,
            when: config.when.clone(),
            when_hours: None,
            priority: None,
            options: TransferOptions::default(),
            while_nobody_online: NoAgentPolicy::Answer,
            opening: None,
            shadow: config.shadow,
        });
        let routes = Routes(unchecked.collect());
        let values = [None, Some("a"), Some("ab"), Some("b"), Some("0"), Some("1"), Some("2"),
            Some("2.0"), Some("2.5"), Some("3"), Some("03"), Some("4"), Some("")];
        for (x, y) in values.iter().flat_map(|x| values.iter().map(move |y| (*x, *y))) {
            let pairs = [("x", x), ("y", y)];
            let present = pairs.iter().filter_map(|(name, value)| {
                Some(((*name).to_owned(), (*value)?.to_owned()))
            });
            let request = TransferRequest {
                attributes: present.collect(),
                ..TransferRequest::default()
            };
            let holds = |config: &RouteConfig| config.when.iter().all(|condition| {
                let value = pairs.iter().find(|(name, _)| condition.subject.to_string() == *name);
                condition.operators.iter().all(|operator| is_met(operator, value.unwrap().1))
            });
            let matching = configs.iter().filter(|config| holds(config));
            let used = matching.clone().find(|config| !config.shadow);
            let found = routes.find(&request, NOW);
            prop_assert_eq!(found.route.map(|r| &r.name), used.map(|r| &r.name));
            let before: Vec<_> = matching.take_while(|config| config.shadow).collect();
            let shadows = before.iter().map(|config| &config.name);
            prop_assert!(found.shadows.iter().map(|r| &r.name).eq(shadows), "{:?}", found);
            let seen = found.route.iter().chain(&found.shadows);
            let seen: Vec<usize> = seen.map(|route| route.name.parse().unwrap()).collect();
            prop_assert!(refused.iter().all(|route| !seen.contains(route)), "{refused:?} {request:?}");
            for name in configs.iter().map(|config| &config.name) {
                let is_used = used.is_some_and(|used| used.name == *name);
                prop_assert_eq!(routes.why_not(name, &request, NOW).is_none(), is_used);
            }
        }
    }
}

/// The manual's words on one operator.
fn is_met(operator: &Operator, value: Option<&str>) -> bool {
    let number = |text: &str| text.parse::<f64>().ok();
    let compared = |number: &Number| match number {
        Number::Whole(whole) => *whole as f64,
        Number::Decimal(decimal) => *decimal,
    };
    let equals = |other: &ComparedValue, text: &str| match other {
        ComparedValue::Text(other) => other == text,
        ComparedValue::Number(other) => number(text) == Some(compared(other)),
    };
    match (operator, value) {
        (Operator::Not(_) | Operator::Exists(false), None) => true,
        (_, None) => false,
        (Operator::OneOf(values), Some(text)) => values.iter().any(|value| equals(value, text)),
        (Operator::Not(values), Some(text)) => !values.iter().any(|value| equals(value, text)),
        (Operator::Min(least), Some(text)) => number(text).is_some_and(|n| n >= compared(least)),
        (Operator::Max(most), Some(text)) => number(text).is_some_and(|n| n <= compared(most)),
        (Operator::Prefix(texts), Some(text)) => texts.iter().any(|p| text.starts_with(p.as_str())),
        (Operator::Exists(wanted), Some(_)) => *wanted,
    }
}
