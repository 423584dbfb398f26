//! The log as programs read it: the fields that docs/logs.md promises, in the log of a real worker.

use std::collections::{BTreeMap, BTreeSet};

use handoff::sim::desk::{InjectedFault, SimulatedDeskSettings};
use serde_json::{Map, Value, json};

use crate::support::kafka::Record;
use crate::support::worker::{World, escalation};

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const ROUTE: &str = r#"
[[routes]]
name = "all"
when = { tier = { exists = true } }
targets = [{ group = 7 }]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_json_log_has_the_fields_that_its_page_promises() {
    let mut world = World::new("json-log", 1, SimulatedDeskSettings::default()).await;
    world.set("LOG__FORMAT", "json").set("LOG__LEVEL", "info,handoff=debug");
    world.configure(ROUTE);
    // Refused: an outcome with a code and a reason.
    world.desk.schedule(InjectedFault::error(141_005).session("refused-session").times(1));
    let worker = world.process();
    let mut vip = escalation("vip", "customer-4711");
    vip["attributes"] = json!({"tier": "gold"});
    let parent = format!("00-{TRACE_ID}-b7ad6b7169203331-01");
    let vip = Record::new("customer-4711", vip.to_string()).header("traceparent", parent);
    let skipped = Record::new("k", r#"{"type":"chat","session_id":"s"}"#);
    world.publish_raw([vip, skipped.clone(), skipped, Record::new("k", "poison")]).await;
    world.publish([escalation("refused", "refused-session")]).await;
    world.outcomes(2).await;
    world.dead_letters(1).await;
    let log = worker.log();
    worker.terminate().await;

    let promised = Promised::read();
    let lines: Vec<Map<String, Value>> = log.lines().map(parse).collect();
    for line in &lines {
        promised.every_line.check(line);
    }
    assert!(!log.contains("customer-4711"), "a session in full:\n{log}");
    let answered = |id: &str| {
        let is_answer = |line: &&Map<String, Value>| {
            line["message"] == "escalation answered" && line["event_id"] == id
        };
        let answers: Vec<_> = lines.iter().filter(is_answer).collect();
        let [answer] = answers[..] else { panic!("{} lines for {id}:\n{log}", answers.len()) };
        promised.each_event.check(answer);
        promised.each_outcome.check(answer);
        let known: BTreeSet<_> = promised.names().collect();
        let unknown: Vec<_> = answer.keys().filter(|name| !known.contains(name.as_str())).collect();
        assert!(unknown.is_empty(), "docs/logs.md lacks {unknown:?}");
        answer
    };
    let (vip, refused) = (answered("vip"), answered("refused"));
    let fields = |line: &Map<String, Value>, names: &[&str]| {
        Value::from(names.iter().map(|name| line.get(*name).cloned()).collect::<Vec<_>>())
    };
    let names = ["session", "status", "route", "code", "verdict", "attempt", "trace_id", "level"];
    let expected = json!(["cust..", "assigned", "all", 0, "assigned", 1, TRACE_ID, "INFO"]);
    assert_eq!(fields(vip, &names), expected);
    let expected = json!(["refu..", "rejected", null, 141_005, "rejected", 1, null, "INFO"]);
    assert_eq!(fields(refused, &names), expected);
    assert!(vip.contains_key("agent") && !vip.contains_key("reason"), "{vip:?}");
    assert!(!refused.contains_key("agent") && refused.contains_key("reason"), "{refused:?}");
    // The fields of the event are on its other lines, too.
    let call = lines.iter().find(|line| line["message"] == "called Desk").expect("a debug line");
    promised.each_event.check(call);
    let skips = lines.iter().filter(|l| l["message"] == "record skipped: the first of its kind");
    let skips: Vec<_> = skips.collect();
    assert_eq!(skips.len(), 1, "{log}");
    assert_eq!(skips[0]["reason"], "other_type");
    assert!(skips[0]["remedy"].as_str().unwrap().contains("escalation.types"));
}

pub(super) fn parse(line: &str) -> Map<String, Value> {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
}

/// The tables of docs/logs.md.
pub(super) struct Promised {
    every_line: Fields,
    pub(super) each_event: Fields,
    each_outcome: Fields,
}

/// The type of each field, and whether it may be absent.
pub(super) struct Fields(BTreeMap<String, (String, bool)>);

impl Promised {
    pub(super) fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/logs.md");
        let page = std::fs::read_to_string(path).expect("docs/logs.md");
        let mut tables = page.split("| field | type | meaning |\n").skip(1).map(Fields::read);
        let mut next = || tables.next().expect("three tables");
        Self { every_line: next(), each_event: next(), each_outcome: next() }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let tables = [&self.every_line, &self.each_event, &self.each_outcome];
        tables.into_iter().flat_map(|table| table.0.keys()).map(String::as_str)
    }
}

impl Fields {
    fn read(table: &str) -> Self {
        let rows = table.lines().skip(1).take_while(|line| line.starts_with("| `"));
        let fields = rows.flat_map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let may_lack = cells[3].contains("absent");
            let names: Vec<_> = cells[1].split(", ").collect();
            let field = move |name: &str| {
                (name.trim_matches('`').to_owned(), (cells[2].to_owned(), may_lack))
            };
            names.into_iter().map(field).collect::<Vec<_>>()
        });
        let fields: BTreeMap<_, _> = fields.collect();
        assert!(fields.len() > 3, "{table}");
        Self(fields)
    }

    pub(super) fn check(&self, line: &Map<String, Value>) {
        for (name, (kind, may_lack)) in &self.0 {
            let is_right = match line.get(name) {
                None => *may_lack,
                Some(Value::String(_)) => kind == "text",
                Some(Value::Number(_)) => kind == "number",
                Some(_) => false,
            };
            assert!(is_right, "{name} is no {kind} in {line:?}");
        }
    }
}
