//! The list `[[routes]]`: what is accepted, and the exact messages about everything else.

use jiff::Timestamp;

use super::super::conditions::OPERATORS;
use super::super::hours;
use super::super::routes::KEYS;
use super::*;
use crate::domain::event::{TransferOptions, TransferRequest};
use crate::domain::route::{OutsideHours, Route};
use crate::domain::target::Target;

fn routed<'c>(config: &'c Config, attributes: &[(&str, &str)]) -> Option<&'c Route> {
    let attributes = owned(attributes).into_iter().collect();
    let request = TransferRequest { attributes, ..TransferRequest::default() };
    config.policy.routes.find(&request, "2026-11-30T10:00:00Z".parse().unwrap()).route
}

/// A valid route with these lines added; a name and a target are added where they lack.
fn with(lines: &str) -> String {
    let targets = if lines.contains("targets") { "" } else { "targets = [{ group = 7 }]\n" };
    let name = if lines.contains("name = ") { "" } else { "name = \"r\"\n" };
    format!("[[routes]]\n{name}{targets}{lines}")
}

/// The example in the manual, without the `# ` of its lines.
fn example() -> String {
    let lines = DEFAULTS.lines().skip_while(|line| *line != "# [[hours]]");
    let lines = lines.map_while(|line| line.strip_prefix("# ").or_else(|| line.strip_prefix('#')));
    lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_in_the_manual_is_valid_and_complete() {
    let example = example();
    for key in KEYS.into_iter().chain(hours::KEYS) {
        assert!(example.lines().any(|line| line.starts_with(&format!("{key} = "))), "{key}");
    }
    for operator in OPERATORS {
        assert!(
            DEFAULTS.contains(&format!("= {{ {operator} = ")) || operator == "max",
            "{operator}"
        );
    }
    let config = good(&example, &[]);
    let route = routed(&config, &[("tier", "vip"), ("lang", "at")]).unwrap();
    assert_eq!(route.name, "vip-german");
    assert_eq!(serde_json::to_value(&route.targets).unwrap()[1]["group"], 2480);
    assert!(!route.default_target);
    let closed = |now: &str| route.closed(now.parse::<Timestamp>().unwrap());
    assert_eq!(closed("2026-11-30T09:00:00Z"), None);
    assert_eq!(closed("2026-11-30T12:00:00Z").unwrap().outside, OutsideHours::ParkUntilOpen);
    assert!(closed("2026-12-25T09:00:00Z").is_some());
    assert_eq!([0, 1, 2].map(|round| route.retry_wait(round).unwrap().as_secs()), [15, 30, 30]);
    let request = route.complete(&TransferRequest::default());
    assert_eq!((request.priority, request.options.queue_timeout), (Some(2), Some(60)));
    assert_eq!(routed(&config, &[("tier", "vip"), ("lang", "en")]), None);
    assert!(DEFAULTS.contains("retry_ms: each 1 to 86400000."));
}

#[test]
fn omitted_keys_of_a_route_have_their_defaults() {
    let keeps_trying =
        with("while_nobody_online = \"keep_trying\"\nwhen = { Tier = [1, true], b = 2 }");
    let config =
        good(&(keeps_trying + "\n[[routes]]\nname = \"x\"\ntargets = [{ default = true }]"), &[]);
    let route = routed(&config, &[("Tier", "true"), ("b", "2")]).unwrap();
    assert_eq!(route.retry_wait(0), Some(Duration::from_secs(30)), "as retry.park_ms");
    assert!(route.default_target);
    let others = routed(&config, &[("tier", "true"), ("b", "2")]).unwrap();
    assert_eq!((others.name.as_str(), &others.targets), ("x", &vec![Target::Default]));
    assert_eq!(
        (others.retry_wait(0), others.complete(&TransferRequest::default())),
        (None, TransferRequest::default())
    );
    assert_eq!(config.policy.routes.names().collect::<Vec<_>>(), ["r", "x"]);
}

#[test]
fn every_option_can_be_set() {
    let flags =
        TransferOptions::NAMES[..6].iter().map(|key| format!("{key} = true, ")).collect::<String>();
    let config = good(&with(&format!("options = {{ {flags} queue_timeout = 5 }}")), &[]);
    let set = routed(&config, &[]).unwrap().complete(&TransferRequest::default()).options;
    let all = TransferOptions {
        send_tip_if_no_agent_online: Some(true),
        check_if_during_working_hours: Some(true),
        send_prompt_not_during_working_hours: Some(true),
        end_session_when_no_member_online: Some(true),
        disable_queuing: Some(true),
        allow_assign_busy_member: Some(true),
        queue_timeout: Some(5),
    };
    assert_eq!(set, all);
}

#[test]
fn contradictory_routes_are_rejected() {
    let vip = "when = { tier = \"vip\" }\n";
    check(
        &[with(""), with(vip), with("name = \"x\"\ntargets = []")].join("\n"),
        &[],
        &[
            "route 2 (\"r\") in F has the name of an earlier one; see route 1 (\"r\") in F:1",
            "route 2 (\"r\") in F is never used: \"r\" before it matches all that it matches; \
             see route 1 (\"r\") in F:1",
            "route 3 (\"x\") in F is never used: \"r\" before it matches all that it matches; \
             see route 1 (\"r\") in F:1",
            "route 3 (\"x\") in F has no targets: name agents, a group, or { default = true }",
        ],
    );
    check(
        "[[routes]]\n",
        &[],
        &[
            "route 1 in F has no name: outcomes contain it",
            "route 1 in F has no targets: name agents, a group, or { default = true }",
        ],
    );
    check(
        &with("while_nobody_online = \"keep_trying\""),
        &[("HANDOFF__RETRY__PARK_MS", "")],
        &["route 1 (\"r\") in F: keeps trying, and needs `retry_ms`: `retry.park_ms` is empty"],
    );
    check(
        &with("retry_ms = [1000]"),
        &[],
        &["route 1 (\"r\") in F: `retry_ms` is for `while_nobody_online` = \"keep_trying\" only"],
    );
}

#[test]
fn an_unknown_key_of_a_route_is_reported_with_the_nearest_real_key() {
    check(
        &with(
            "priorty = 1\nxyzzy = 1\noptions = { disable_queueing = true }\n\
             targets = [{ agent = [\"a\"], group = 7 }]",
        ),
        &[],
        &[
            "unknown key `priorty` of route 1 (\"r\") in F: did you mean `priority`?",
            "unknown key `xyzzy` of route 1 (\"r\") in F: there are name, shadow, when, targets, priority, \
             options, default_target, while_nobody_online, retry_ms, hours, outside_hours",
            "unknown key `targets.agent` of route 1 (\"r\") in F: did you mean `targets.agents`?",
            "unknown key `options.disable_queueing` of route 1 (\"r\") in F: did you mean \
             `options.disable_queuing`?",
        ],
    );
    check("[[route]]\nname = 1", &[], &["unknown key `route` in F: did you mean `routes`?"]);
}

#[test]
fn wrong_types_and_contradictions_are_reported_together() {
    let wrong = with(
        "name = 5\nwhen = { lang = [], tier = { a = 1 } }\npriority = 11\noptions = \"none\"\n\
         default_target = \"no\"\nwhile_nobody_online = \"wait\"\nretry_ms = [0]\n\
         targets = [{ agents = \"a\" }, { group = 0 }, { group = 7, default = true }, {}]",
    );
    let half = "of route 1 in F: must be";
    let one = "route 1 in F: a target must have `agents`, `group`, or both; or else only `default` \
               = true";
    let words = "a text, a number, true or false, a list of them, not empty, or a table of \
                 operators, as { min = 3 }";
    check(
        &[wrong, with("priority = -1"), with("name = \"x\"\ntargets = []")].join("\n"),
        &[],
        &[
            &format!("`name` = 5 {half} text, not empty"),
            &format!("`when.lang` = [] {half} {words}"),
            "unknown key `when.tier.a` of route 1 in F: there are not, min, max, prefix, exists",
            &format!("`agents` = \"a\" {half} a list of texts, at least one, none of them empty"),
            &format!("`group` = 0 {half} a whole number from 1 to 9223372036854775807"),
            one,
            &format!("`options` = \"none\" {half} a table, as {{ name = \"value\" }}"),
            &format!("`priority` = 11 {half} a whole number from 0 to 9"),
            &format!("`default_target` = \"no\" {half} true or false"),
            &format!("`while_nobody_online` = \"wait\" {half} \"answer\" or \"keep_trying\""),
            &format!(
                "`retry_ms` = [0] {half} a list of whole numbers, at least one, each from 1 to \
                 86400000"
            ),
            "`priority` = -1 of route 2 (\"r\") in F: must be a whole number from 0 to 9",
            "route 3 (\"x\") in F has no targets: name agents, a group, or { default = true }",
        ],
    );
}

#[test]
fn routes_are_a_list_of_tables_in_a_file() {
    let advice = "must be a list of tables: begin each with the line [[routes]]";
    let in_file = format!("`routes` in F: {advice}");
    check("[routes]\nname = \"x\"", &[], &[&in_file]);
    check("[routes.vip]\nname = \"x\"", &[], &[&in_file]);
    check("routes = 5", &[], &[&in_file]);
    check("routes = [5]", &[], &[&in_file]);
    let by_variable = "`routes` in the environment: a variable cannot hold them: write [[routes]] \
                       in a file";
    check("", &[("HANDOFF__ROUTES", "x")], &[by_variable]);
    check(&with(""), &[("HANDOFF__ROUTES__0__NAME", "x")], &[by_variable]);
}

/// Hours that are open from Monday to Friday.
const OFFICE: &str = "[[hours]]\nname = \"office\"\nzone = \"Europe/Berlin\"\n\
                      weekly = { mon-fri = [\"09:00-18:00\"] }\n";

#[test]
fn conditions_are_read_with_their_operators() {
    let when = "when = { tier = \"vip\", n = 5, score = { min = 3, max = 5.5 }, \
                intent = { prefix = [\"refund_\", \"billing_\"] }, vip = { exists = true }, \
                channel = { not = [\"email\", 7] }, flag = true, reason = \"asked\", \
                hours = { not = [\"office\"] } }";
    let config = good(&format!("{OFFICE}{}", with(when)), &[]);
    let attributes = [
        ("tier", "vip"),
        ("n", "5.0"),
        ("score", "5.5"),
        ("intent", "billing_x"),
        ("vip", ""),
        ("flag", "true"),
    ];
    let find = |changes: &[(&str, &str)], reason: &str, now: &str| {
        let mut attributes: std::collections::BTreeMap<_, _> =
            owned(&attributes).into_iter().collect();
        attributes.extend(owned(changes));
        let reason = Some(reason.to_owned());
        let request = TransferRequest { attributes, reason, ..TransferRequest::default() };
        config.policy.routes.find(&request, now.parse().unwrap()).route.is_some()
    };
    let (night, day) = ("2026-11-30T20:00:00Z", "2026-11-30T10:00:00Z");
    assert!(find(&[], "asked", night));
    assert!(!find(&[], "asked", day) && !find(&[], "other", night));
    for change in [
        ("tier", "gold"),
        ("n", "6"),
        ("score", "5.6"),
        ("intent", "other"),
        ("channel", "email"),
        ("channel", "7.0"),
        ("flag", "True"),
    ] {
        assert!(!find(&[change], "asked", night), "{change:?}");
    }
}

#[test]
fn problems_of_routes_and_hours_come_together_with_their_lines() {
    check_lines(
        "[[hours]]\nname = \"office\"\nzone = \"Europe/Berln\"\nweekly = {\n  mon-fri = [\"9-18\"],\n  \
         funday = [] }\nclosed = [\"25.12.2026\"]\nclose = 1\n[[hours]]\nname = \"never\"\nzone = \
         \"UTC\"\nweekly = { mon-tue = [], tue = [] }\n[[hours]]\nname = \"good\"\nzone = \"utc\"\n\
         weekly = { fri-mon = [\"22:00-06:00\"] }\n[[hours]]\nname = \"good\"\n\
         [[routes]]\nname = \"a\"\nhours = \"office\"\nwhen = { hours = \"god\",\n  score = { mim = 3 },\n  \
         lang = { prefix = \"\", max = \"x\" } }\ntargets = [{ group = 1 },\n  {}]\n\
         [[routes]]\nname = \"b\"\noutside_hours = \"answer\"\ntargets = [{ group = 1 }]\n\
         when.hours = [\"good\", \"never\"]\nwhen.tier = {}\n",
        &[
            "unknown key `close` of hours 1 (\"office\") in F:8: did you mean `closed`?",
            "`zone` = \"Europe/Berln\" of hours 1 (\"office\") in F:3: must be the IANA name of a time \
             zone, as \"Europe/Berlin\"; did you mean \"Europe/Berlin\"?",
            "hours 1 (\"office\") in F:6: unknown day `weekly.funday`: days are mon, tue, wed, thu, \
             fri, sat, sun, or mon-fri",
            "`weekly.mon-fri` = [\"9-18\"] of hours 1 (\"office\") in F:5: must be a list of times, as \
             [\"09:00-12:00\", \"22:00-06:00\"]; the end of a day is 24:00",
            "`closed` = [\"25.12.2026\"] of hours 1 (\"office\") in F:7: must be a list of days, as \
             [\"2026-12-25\"]",
            "hours 2 (\"never\") in F:12: `weekly` has tue twice",
            "hours 2 (\"never\") in F:12: never opens: no day of `weekly` has a time",
            "hours 4 (\"good\") in F:18: has the name of an earlier one",
            "hours 4 (\"good\") in F:17: lacks zone, weekly",
            "route 1 (\"a\") in F:22: no [[hours]] have the name \"god\": did you mean \"good\"?",
            "`when.lang.max` = \"x\" of route 1 (\"a\") in F:24: must be a number",
            "`when.lang.prefix` = \"\" of route 1 (\"a\") in F:24: must be a text, not empty, or a list \
             of texts, at least one, none of them empty",
            "unknown key `when.score.mim` of route 1 (\"a\") in F:23: did you mean `when.score.min`?",
            "route 1 (\"a\") in F:26: a target must have `agents`, `group`, or both; or else only \
             `default` = true",
            "`when.tier` = {..} of route 2 (\"b\") in F:32: must be a text, a number, true or false, a \
             list of them, not empty, or a table of operators, as { min = 3 }",
            "route 2 (\"b\") in F:29: `outside_hours` needs `hours` of the route itself: outside of \
             `when.hours` the route does not match",
        ],
    );
}

#[test]
fn routes_that_cannot_be_used_are_reported_with_their_lines() {
    check_lines(
        &[
            with("name = \"low\"\nwhen.score = { max = 3 }"),
            with("name = \"lower\"\nwhen = { tier = \"vip\", score = { min = 0, max = 2 } }"),
            with("name = \"odd\"\nwhen = { score = { min = 9, max = 3 } }"),
            with("name = \"partly\"\nwhen = { score = { min = 2, max = 4 } }"),
        ]
        .join("\n"),
        &[
            "route 2 (\"lower\") in F:8 is never used: \"low\" before it matches all that it matches; \
             see route 1 (\"low\") in F:1",
            "route 3 (\"odd\") in F:12 never matches: no value of `when.score` meets all its conditions",
        ],
    );
}

#[test]
fn parking_for_longer_than_an_event_lives_is_a_warning() {
    let parks = with("hours = \"office\"\noutside_hours = \"park_until_open\"");
    let warnings = |lives: u32| {
        let lives = format!("[escalation]\ntime_to_live_s = {lives}\n");
        good(&format!("{lives}{OFFICE}{parks}"), &[]).warnings
    };
    assert!(warnings(3599)[0].starts_with("the route \"r\" parks until it opens, but"));
    assert_eq!(warnings(3600), [""; 0]);
    assert_eq!(good(&format!("{OFFICE}{}", with("hours = \"office\"")), &[]).warnings, [""; 0]);
}
