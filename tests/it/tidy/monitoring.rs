//! Alerts and the dashboard against the documents: each alert is explained and has unit tests, each
//! metric and label value that an expression names exists, each panel says what it shows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::scan::{identifier, line_of};
use super::{assert_none, file, files};

const RULES: &str = "deploy/prometheus/handoff.rules.yml";
const RULE_TESTS: &str = "deploy/prometheus/handoff_test.yml";
const DASHBOARD: &str = "deploy/grafana/dashboards/handoff.json";

/// The name of each alert and the text of its rule.
fn alerts() -> Vec<(String, String)> {
    let rules = file(RULES);
    let alerts: Vec<_> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 10, "{RULES} is read");
    alerts.iter().map(|rule| (identifier(rule).to_owned(), (*rule).to_owned())).collect()
}

#[test]
fn each_alert_is_explained_under_its_name() {
    let guide = file("docs/operations.md");
    let headings = guide.lines().filter_map(|line| line.strip_prefix("### Handoff"));
    let explained: BTreeSet<_> = headings.map(|rest| format!("Handoff{rest}")).collect();
    let alerts = alerts();
    let names: BTreeSet<_> = alerts.iter().map(|(name, _)| name.clone()).collect();
    let mut faults: Vec<_> = names
        .difference(&explained)
        .map(|name| format!("docs/operations.md lacks {name}"))
        .collect();
    faults.extend(explained.difference(&names).map(|name| format!("{RULES} lacks {name}")));
    for name in &explained {
        let text = guide.split(&format!("### {name}\n")).nth(1).unwrap_or_default();
        let text = text.split("\n#").next().unwrap_or_default();
        let parts = ["- **Means:** ", "- **Costs:** ", "- **Do:** "];
        let missing = parts.iter().filter(|part| !text.contains(**part));
        faults.extend(missing.map(|part| format!("{name}: no line {part:?}")));
    }
    assert_none(faults);
}

#[test]
fn each_alert_has_its_labels_and_annotations() {
    let mut faults = Vec::new();
    for (name, rule) in alerts() {
        let field = |key: &str| {
            let line = rule.lines().find_map(|line| line.trim().strip_prefix(&format!("{key}: ")));
            line.unwrap_or_default().to_owned()
        };
        if !["critical", "warning", "info"].contains(&field("severity").as_str()) {
            faults.push(format!("{name}: severity {:?}", field("severity")));
        }
        // Notifications are grouped by the summary, so it has no values.
        if field("summary").is_empty() || field("summary").contains("{{") {
            faults.push(format!("{name}: summary {:?}", field("summary")));
        }
        if field("description").is_empty() {
            faults.push(format!("{name}: no description"));
        }
        if field("runbook_url") != format!("docs/operations.md#{}", name.to_lowercase()) {
            faults.push(format!("{name}: runbook_url {:?}", field("runbook_url")));
        }
    }
    assert_none(faults);
}

#[test]
fn each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() {
    let tests = file(RULE_TESTS);
    let lacks = |case: String| (!tests.contains(&case)).then_some(case);
    let faults = alerts().into_iter().flat_map(|(name, _)| {
        let fires = format!("alertname: {name}\n        exp_alerts:\n");
        [fires, format!("alertname: {name}, exp_alerts: []")].into_iter().filter_map(lacks)
    });
    assert_none(faults.map(|case| format!("{RULE_TESTS} lacks {case:?}")).collect());
}

#[test]
fn the_metrics_of_alerts_and_dashboard_exist() {
    let guide = file("docs/metrics.md");
    let types: BTreeMap<_, _> = guide.lines().filter_map(documented_type).collect();
    assert!(types.len() > 20, "docs/metrics.md is read");
    let mut faults = Vec::new();
    for source in files(&["deploy/prometheus", "deploy/grafana", "deploy/kubernetes"]) {
        for (at, name) in named_metrics(&source.text) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let is_part = base.is_some_and(|base| types.get(base) == Some(&"histogram"));
            if !types.contains_key(name) && !is_part {
                let line = line_of(&source.text, at);
                faults.push(format!("{}:{line}: docs/metrics.md lacks {name}", source.path));
            }
        }
    }
    assert_none(faults);
}

/// Name and type in a row of docs/metrics.md.
fn documented_type(row: &str) -> Option<(&str, &str)> {
    let (name, rest) = row.strip_prefix("| `")?.split_once("` | ")?;
    Some((name, rest.split(' ').next()?))
}

/// Where the text names a metric.
fn named_metrics(text: &str) -> Vec<(usize, &str)> {
    let is_part = |c: char| c.is_alphanumeric() || "_/.-".contains(c);
    let mut found = Vec::new();
    for prefix in ["handoff_", "process_"] {
        for (at, _) in text.match_indices(prefix) {
            let is_start = !text[..at].chars().next_back().is_some_and(is_part);
            let name = identifier(&text[at..]);
            // Files are named with a dot behind: handoff_test.yml.
            if is_start && !text[at + name.len()..].starts_with('.') {
                found.push((at, name));
            }
        }
    }
    found
}

#[test]
fn the_label_values_of_expressions_exist() {
    let guide = file("docs/metrics.md");
    let mut values: BTreeMap<&str, String> = BTreeMap::new();
    for item in guide.split("\n- `").skip(1) {
        // A label that two metrics use has an item for each.
        let (label, text) = item.split_once('`').unwrap_or_default();
        *values.entry(label).or_default() += text;
    }
    assert!(values.contains_key("status"), "docs/metrics.md lists the values of labels");
    let expressions = alerts().into_iter().map(|(_, rule)| rule);
    let expressions = expressions.chain(targets().into_iter().map(|(_, expression)| expression));
    let mut faults = Vec::new();
    for expression in expressions {
        for (label, text) in &values {
            for wanted in selected_values(&expression, label) {
                if !text.contains(&format!("`{wanted}`")) {
                    faults.push(format!("{label}={wanted:?} does not exist: {expression}"));
                }
            }
        }
    }
    assert_none(faults);
}

/// The values that an expression asks for: of `label="a"` and `label=~"a|b"`.
fn selected_values<'a>(expression: &'a str, label: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for (at, _) in expression.match_indices(label) {
        let rest = expression[at + label.len()..].trim_start_matches(['=', '!', '~']);
        if let Some(value) = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) {
            let is_variable = value.contains('$') || value.contains(".*");
            found.extend(value.split('|').filter(|_| !is_variable));
        }
    }
    found
}

fn dashboard() -> Value {
    serde_json::from_str(&file(DASHBOARD)).expect("the dashboard is JSON")
}

/// All panels, those inside rows as well.
fn panels() -> Vec<Value> {
    let list = |value: &Value| value["panels"].as_array().cloned().unwrap_or_default();
    let panels = list(&dashboard());
    let inner: Vec<_> = panels.iter().flat_map(list).collect();
    assert!(panels.len() > 10, "{DASHBOARD} has panels");
    panels.into_iter().chain(inner).collect()
}

/// Each expression of the dashboard with the title of its panel.
fn targets() -> Vec<(String, String)> {
    let of = |panel: Value| {
        let title = panel["title"].as_str().unwrap_or_default().to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        let text = |target: &Value| target["expr"].as_str().unwrap_or_default().to_owned();
        targets.iter().map(|target| (title.clone(), text(target))).collect::<Vec<_>>()
    };
    panels().into_iter().flat_map(of).collect()
}

#[test]
fn each_panel_says_what_it_shows_and_in_which_unit() {
    let mut ids = BTreeSet::new();
    let mut faults = Vec::new();
    for panel in panels() {
        let title = panel["title"].as_str().unwrap_or_default();
        let mut fault =
            |text: &str| faults.push(format!("panel {} {title:?}: {text}", panel["id"]));
        if !panel["id"].as_u64().is_some_and(|id| ids.insert(id)) {
            fault("an id of its own is missing");
        }
        if title.is_empty() {
            fault("no title");
        }
        if panel["type"] == "row" {
            continue;
        }
        let text = |at: &str| panel.pointer(at).and_then(Value::as_str).unwrap_or_default();
        if text("/description").is_empty() {
            fault("no description");
        }
        if text("/fieldConfig/defaults/unit").is_empty() {
            fault("no unit");
        }
        if panel.pointer("/fieldConfig/defaults/thresholds/steps/0").is_none() {
            fault("no thresholds");
        }
        if text("/datasource/uid") != "${datasource}" {
            fault("it does not use the variable `datasource`");
        }
        if panel["targets"].as_array().is_none_or(Vec::is_empty) {
            fault("no expression");
        }
    }
    let variables = |text: &str| text.contains(r#"job="$job""#) && text.contains("$instance");
    let unfiltered = targets().into_iter().filter(|(_, expression)| !variables(expression));
    faults
        .extend(unfiltered.map(|(title, text)| format!("{title:?}: not by the variables: {text}")));
    assert_none(faults);
}

#[test]
fn the_dashboard_can_be_imported() {
    let dashboard = dashboard();
    let text = |at: &str| dashboard.pointer(at).and_then(Value::as_str).unwrap_or_default();
    assert_eq!(text("/uid"), "handoff");
    assert_eq!(text("/__inputs/0/pluginId"), "prometheus");
    let variables = dashboard.pointer("/templating/list").and_then(Value::as_array);
    let names = variables.into_iter().flatten().filter_map(|variable| variable["name"].as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["datasource", "job", "instance"]);
}

/// The resource has to contain the rules, because nothing in Kubernetes reads a file into it.
#[test]
fn the_prometheus_rule_has_the_same_alerts() {
    let resource = file("deploy/kubernetes/monitoring/prometheusrule.yaml");
    let copy = resource.split("\nspec:\n").nth(1).unwrap_or_default();
    let rules = file(RULES);
    let groups = &rules[rules.find("groups:\n").expect("groups")..];
    let indented = |line: &str| if line.is_empty() { String::new() } else { format!("  {line}") };
    let expected: Vec<_> = groups.lines().map(indented).collect();
    let is_same = copy.lines().eq(expected.iter().map(String::as_str));
    assert!(is_same, "copy the groups of {RULES}, indented by two, behind `spec:`");
}
