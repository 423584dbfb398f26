//! `handoff routes test`; without a broker.

use serde_json::{Value, json};

use super::{CommandOutput, TestTopics};

const CONFIG: &str = r#"
[[hours]]
name = "office"
zone = "Europe/Berlin"
weekly = { mon-fri = ["09:00-18:00"] }

[[routes]]
name = "new"
shadow = true
when = { lang = "de" }
targets = [{ group = 9 }]

[[routes]]
name = "vip"
when = { tier = "vip", score = { min = 3 } }
targets = [{ agents = ["anna@x"], group = 7 }]

[[routes]]
name = "day"
when = { tier = { exists = true } }
targets = [{ group = 8 }]
default_target = false
hours = "office"
"#;

const CASES: &str = r#"
[[cases]]
name = "good"
at = 2026-11-30T08:30:00Z
event = { attributes = { tier = "vip", score = 5, lang = "de" } }
route = "vip"
targets = [{ agents = ["anna@x"], group = 7 }, { default = true }]
shadows = ["new"]
opens_at = ""

[[cases]]
at = "2026-11-28T12:00:00Z"
event = { attributes = { tier = "vip", score = "2" }, target = { group = 5 } }
route = "day"
targets = [{ group = 5 }, { group = 8 }]
opens_at = "2026-11-30T09:00:00+01:00"

[[cases]]
event = {}
route = ""
"#;

async fn run(config: &str, cases: &str, more: &[&str]) -> CommandOutput {
    let folder = tempfile::tempdir().unwrap();
    let [config_file, cases_file] =
        ["handoff.toml", "cases.toml"].map(|name| folder.path().join(name));
    std::fs::write(&config_file, config).unwrap();
    std::fs::write(&cases_file, cases).unwrap();
    let [config_file, cases_file] =
        [config_file, cases_file].map(|file| file.display().to_string());
    let arguments = ["--config", &config_file, "routes", "test", &cases_file];
    let topics = TestTopics::missing("127.0.0.1:9");
    topics.run(&[&arguments[..], more].concat()).await
}

#[tokio::test]
async fn cases_that_are_as_expected_end_with_0() {
    let output = run(CONFIG, CASES, &[]).await;
    assert_eq!(
        (output.code, output.out.as_str()),
        (Some(0), "3 cases as expected\n"),
        "{output:#?}"
    );
    let output = run(CONFIG, CASES, &["--json"]).await;
    let object: Value = serde_json::from_str(&output.out).unwrap();
    assert_eq!((output.code, object), (Some(0), json!({"cases": 3, "differences": []})));
}

#[tokio::test]
async fn cases_are_escalations_whatever_the_topic_has() {
    for dialects in ["[\"rasa\"]", "[\"bot_framework\"]"] {
        let config = format!("{CONFIG}\n[input]\ndialects = {dialects}\n");
        let output = run(&config, CASES, &[]).await;
        assert_eq!(output.code, Some(0), "{dialects}: {output:#?}");
    }
}

#[tokio::test]
async fn differences_end_with_1_and_say_why() {
    let cases =
        CASES.replace("score = 5", "score = 2").replace("at = \"2026-11-28", "at = \"2026-12-01");
    let output = run(CONFIG, &cases, &[]).await;
    assert_eq!(output.code, Some(1), "{output:#?}");
    assert_eq!(output.err, "handoff: 2 of 3 cases differ\n");
    assert!(output.line("cases.toml:2").starts_with("case 1 (\"good\") ("), "{output:#?}");
    assert_eq!(output.line("expected \"vip\"").trim(), "expected \"vip\"");
    assert_eq!(output.line("found    \"day\"").trim(), "found    \"day\"");
    let why = "because  `when.score` does not hold: it is \"2\"";
    assert_eq!(output.line("because").trim(), why);
    let output = run(CONFIG, &cases, &["--json"]).await;
    let object: Value = serde_json::from_str(&output.out).unwrap();
    assert_eq!(output.code, Some(1), "{output:#?}");
    let differences = object["differences"].as_array().unwrap();
    let fields: Vec<_> = differences.iter().map(|difference| &difference["field"]).collect();
    assert_eq!(fields, ["route", "targets", "opens_at"], "{object}");
    assert_eq!(differences[2]["line"], 11, "{object}");
    assert_eq!(
        (&differences[2]["expected"], &differences[2]["found"]),
        (&json!("2026-11-30T08:00:00Z"), &json!("open"))
    );
}

#[tokio::test]
async fn a_bad_configuration_ends_with_78_and_bad_cases_with_2() {
    let output = run(&CONFIG.replace("min = 3", "mim = 3"), CASES, &[]).await;
    assert_eq!(output.code, Some(78), "{output:#?}");
    assert!(output.err.contains("did you mean `when.score.min`?"), "{output:#?}");
    assert!(output.err.contains("handoff.toml:15"), "{output:#?}");
    let output = run(CONFIG, "[[cases]]\nroute = \"vip\"\n", &[]).await;
    assert_eq!(output.code, Some(2), "{output:#?}");
    assert!(output.err.contains("missing field `event`"), "{output:#?}");
}
