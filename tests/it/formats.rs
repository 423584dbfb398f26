//! The fixtures of other systems' formats: `tests/fixtures/formats/<dialect>/*.json`, each a record with
//! what it is read as. And the same records changed at random: no panic, nothing slow.
//!
//! A fixture has `about`, perhaps a `config` (TOML), `key` and `headers`, the record as `value` (JSON),
//! `text`, `hex` or `null`, and `expected`: an `escalation`, `"not for us"`, or a class with the start of
//! its `error`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use handoff::config;
use handoff::domain::event::Event;
use handoff::domain::record::{Header, Position, Record};
use handoff::domain::wire::escalation::{DecodeRules, Decoded, decode};
use serde_json::{Map, Value, json};

use self::mutations::mutated;

#[path = "../../src/domain/wire/escalation/tests/mutations.rs"]
mod mutations;

const FOLDER: &str = "tests/fixtures/formats";
const NOW: &str = "2026-11-27T18:00:00Z";

struct Fixture {
    path: String,
    record: Record,
    rules: DecodeRules,
    expected: Value,
}

/// Folders beside those of the dialects: what real software wrote (`scripts/format-records`), and how.
const OTHERS: [&str; 2] = ["real", "generate"];

/// The fixtures by their dialect.
fn fixtures() -> BTreeMap<String, Vec<Fixture>> {
    let mut fixtures: BTreeMap<String, Vec<Fixture>> = BTreeMap::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
    for folder in fs::read_dir(root).unwrap() {
        let folder = folder.unwrap();
        let mut paths: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()).collect();
        paths.sort();
        let dialect = folder.file_name().into_string().unwrap();
        if OTHERS.contains(&&*dialect) {
            continue;
        }
        fixtures.insert(dialect, paths.iter().map(|path| fixture(path)).collect());
    }
    fixtures
}

fn fixture(path: &Path) -> Fixture {
    let shown = path.display().to_string();
    let text = fs::read_to_string(path).unwrap();
    let fixture: Map<String, Value> =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{shown}: {error}"));
    let known = [
        "about", "config", "key", "headers", "value", "text", "hex", "null", "expected", "outcome",
    ];
    for name in fixture.keys() {
        assert!(known.contains(&name.as_str()), "{shown}: {name}");
    }
    assert!(fixture["about"].is_string(), "{shown}: say what it is about");
    let text_of = |name: &str| fixture.get(name).and_then(Value::as_str);
    let value = match (fixture.get("value"), text_of("text"), text_of("hex")) {
        (Some(value), None, None) => Some(value.to_string().into_bytes()),
        (None, Some(text), None) => Some(text.as_bytes().to_vec()),
        (None, None, Some(hex)) => Some(bytes(hex)),
        (None, None, None) if fixture.contains_key("null") => None,
        _ => panic!("{shown}: one of value, text, hex, null"),
    };
    let headers = fixture.get("headers").and_then(Value::as_array).cloned().unwrap_or_default();
    Fixture {
        record: Record {
            position: Position { topic: "t".into(), partition: 3, offset: 7 },
            timestamp: Some(NOW.parse().unwrap()),
            key: text_of("key").map(|key| key.as_bytes().to_vec()),
            value,
            headers: headers.iter().map(header).collect(),
        },
        rules: rules(text_of("config").unwrap_or_default()),
        expected: fixture["expected"].clone(),
        path: shown,
    }
}

/// `["name", "text"]`, `["name", null]` or `["name", {"hex": "00ff"}]`.
fn header(header: &Value) -> Header {
    let value = match &header[1] {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        Value::Null => None,
        hex => Some(bytes(hex["hex"].as_str().unwrap())),
    };
    (header[0].as_str().unwrap().to_owned(), value)
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn rules(toml: &str) -> DecodeRules {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("handoff.toml");
    fs::write(&file, toml).unwrap();
    let env = [
        ("HANDOFF__DESK__SDKAPPID", "1400000000"),
        ("HANDOFF__DESK__IDENTIFIER", "administrator"),
        ("HANDOFF__DESK__SECRET_KEY", "s3cr3t"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    config::load(Some(&file), env).unwrap_or_else(|error| panic!("{toml}\n{error:#}")).rules
}

/// What was decoded, as fixtures write it: without what is empty or follows from the record.
fn shown(decoded: Decoded) -> Value {
    match decoded {
        Decoded::NotForUs(_) => json!("not for us"),
        Decoded::Malformed(malformed) => {
            json!({"class": malformed.class.as_str(), "error": malformed.error})
        }
        Decoded::Event(event) => json!({"escalation": shown_event(*event)}),
    }
}

fn shown_event(event: Event) -> Value {
    let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap_or_default()).unwrap();
    let trace: Map<String, Value> =
        event.trace.into_iter().map(|(name, value)| (name, text(value).into())).collect();
    let own_deadline = Some(event.deadline)
        .filter(|deadline| *deadline != event.requested_at + Duration::from_secs(600));
    let mut all = json!({
        "id": event.id, "session_id": event.session_id, "notes": event.notes, "trace": trace,
        "requested_at": Some(event.requested_at).filter(|at| at.to_string() != NOW),
        "expires_at": own_deadline,
        "correlation_id": event.correlation.correlation_id,
        "cloudevent_id": event.correlation.cloudevent_id,
        "conversation": event.correlation.conversation,
    });
    match event.request {
        Err(why) => all["invalid"] = why.into(),
        Ok(request) => {
            let (options, target) = (&request.options, &request.requested_target);
            all["reason"] = json!(request.reason);
            all["priority"] = json!(request.priority);
            all["attributes"] = json!(request.attributes);
            all["agents"] = json!(target.agents);
            all["group"] = json!(target.group);
            all["strict"] = json!(Some(true).filter(|_| target.strict));
            all["queue_timeout"] = json!(options.queue_timeout);
            all["disable_queuing"] = json!(options.disable_queuing);
        }
    }
    let is_empty = |value: &Value| {
        value.is_null() || *value == json!([]) || *value == json!({}) || *value == json!("t/3/7")
    };
    all.as_object_mut().unwrap().retain(|_, value| !is_empty(value));
    all
}

#[test]
fn every_fixture_is_read_as_it_says() {
    let mut faults = Vec::new();
    let mut count = 0;
    for fixture in fixtures().into_values().flatten() {
        count += 1;
        let actual = shown(decode(&fixture.record, &fixture.rules, NOW.parse().unwrap()));
        let is_expected = match (&fixture.expected["error"], &actual["error"]) {
            // The rest of a sentence may quote what is not the point.
            (Value::String(start), Value::String(error)) => {
                fixture.expected["class"] == actual["class"] && error.starts_with(start)
            }
            _ => fixture.expected == actual,
        };
        if !is_expected {
            faults.push(format!(
                "{}\n  expected {}\n  actual   {actual}",
                fixture.path, fixture.expected
            ));
        }
    }
    assert!(count > 50, "{count} fixtures");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn records_that_the_real_software_wrote_are_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER).join("real");
    let mut count = 0;
    for path in fs::read_dir(root).unwrap().map(|file| file.unwrap().path()) {
        count += 1;
        let name = path.file_stem().unwrap().to_str().unwrap();
        let written: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let text = |name: &str| written[name].as_str().map(|text| text.as_bytes().to_vec());
        let base64 = || STANDARD.decode(written["value_base64"].as_str().unwrap()).unwrap();
        let headers = written["headers"].as_object().unwrap().iter();
        let headers = headers
            .map(|(name, value)| (name.clone(), value.as_str().map(|v| v.as_bytes().to_vec())));
        let record = Record {
            position: Position { topic: "t".into(), partition: 3, offset: 7 },
            timestamp: Some(NOW.parse().unwrap()),
            key: text("key"),
            value: Some(text("value").unwrap_or_else(base64)),
            headers: headers.collect(),
        };
        let signal = match name {
            "rasa-slot" => "slot:handoff",
            "rasa-pause" => "pause",
            _ => "action:action_human_handoff",
        };
        let dialects =
            "[input]\ndialects = [\"rasa\", \"bot_framework\", \"native\"]\nrasa_signal = ";
        let rules = rules(&format!("{dialects}\"{signal}\""));
        let read = shown(decode(&record, &rules, NOW.parse().unwrap()));
        match name {
            "bot-framework-status" | "rasa-session-started" | "rasa-user" => {
                assert_eq!(read, "not for us", "{name}");
            }
            "schema-registry-avro" => assert_eq!(read["class"], "not_json", "{name}: {read}"),
            _ => {
                let escalation = &read["escalation"];
                assert_eq!(escalation["session_id"], "s-1", "{name}: {read}");
                let has_labels = !["rasa-action", "rasa-pause"].contains(&name);
                assert!(!has_labels || escalation["attributes"]["lang"] == "de", "{name}: {read}");
                let id = name.starts_with("cloudevents").then_some("/bots/shop 1234");
                assert!(id.is_none() || escalation["id"] == *id.unwrap(), "{name}: {read}");
            }
        }
    }
    assert!(count >= 19, "{count} records");
}

fn mutated_record(original: &Record, rng: &mut fastrand::Rng) -> Record {
    let mut record = original.clone();
    record.value = original.value.as_ref().map(|value| mutated(value, rng));
    if rng.bool() {
        let key = record.key.take().unwrap_or_default();
        record.key = Some(mutated(&key, rng)).filter(|_| rng.bool());
    }
    if !record.headers.is_empty() && rng.bool() {
        let index = rng.usize(..record.headers.len());
        let value = record.headers[index].1.take().unwrap_or_default();
        record.headers[index].1 = Some(mutated(&value, rng)).filter(|_| rng.bool());
    }
    record
}

/// A record and how it is read.
struct DecodeCase<'f> {
    record: &'f Record,
    rules: &'f DecodeRules,
}

/// Decodes records, each changed at random: no panic, and nothing slow. `HANDOFF_MUTATIONS` says how
/// many; an unoptimized build takes a minute for 100,000.
#[expect(clippy::disallowed_methods, reason = "it measures what decoding costs")]
fn decode_mutated(name: &str, cases: &[DecodeCase<'_>]) {
    let now = NOW.parse().unwrap();
    let count = std::env::var("HANDOFF_MUTATIONS").map_or(20_000, |count| count.parse().unwrap());
    let mut rng = fastrand::Rng::with_seed(15);
    let (mut slowest, mut escalations) = (Duration::ZERO, 0);
    for number in 0..count {
        let case = &cases[number % cases.len()];
        let record = mutated_record(case.record, &mut rng);
        let took = || {
            let begun = Instant::now();
            let is_event = matches!(decode(&record, case.rules, now), Decoded::Event(_));
            (begun.elapsed(), is_event)
        };
        let (mut elapsed, is_event) = took();
        escalations += usize::from(is_event);
        // The machine may be busy: the fastest of a few counts.
        for _ in 0..20 {
            if elapsed > Duration::from_millis(10) {
                elapsed = elapsed.min(took().0);
            }
        }
        slowest = slowest.max(elapsed);
    }
    println!("{name}: the slowest of {count} took {slowest:?}; {escalations} are escalations");
    assert!(slowest < Duration::from_millis(200), "{name}: {slowest:?}");
    assert!(escalations > count / 100, "{name}: {escalations} escalations");
}

#[test]
fn mutated_records_of_each_dialect_are_decoded_quickly() {
    for (dialect, fixtures) in fixtures() {
        let cases =
            fixtures.iter().map(|Fixture { record, rules, .. }| DecodeCase { record, rules });
        decode_mutated(&dialect, &cases.collect::<Vec<_>>());
    }
}

#[test]
fn mutated_records_of_all_formats_are_decoded_quickly_where_all_dialects_are_on() {
    let fixtures = fixtures();
    for order in
        [r#"["rasa", "bot_framework", "chat", "native"]"#, r#"["chat", "bot_framework", "rasa"]"#]
    {
        let rules = rules(&format!(
            "[input]\ndialects = {order}\nrasa_signal = \"slot:handoff\"\n[[mappings]]\nname = \"chat\"\n\
             match = {{ \"/chat/*/id\" = {{ exists = true }} }}\nsession_id = \"/chat/*/id\"\nid = \"key\"\n"
        ));
        let records = fixtures.values().flatten().map(|fixture| &fixture.record);
        let cases = records.map(|record| DecodeCase { record, rules: &rules });
        decode_mutated(order, &cases.collect::<Vec<_>>());
    }
}

/// Nearly every record of a topic of Rasa is not for us. `cargo bench` prints real numbers; this one
/// prints those of the build it is in: `cargo test --release --test it formats::skip -- --ignored --nocapture`.
#[test]
#[ignore = "it only prints a rate"]
#[expect(clippy::disallowed_methods, reason = "it measures what skipping costs")]
fn skipped_records_per_second() {
    let rules = rules("[input]\ndialects = [\"rasa\"]");
    let now = NOW.parse().unwrap();
    let fixtures = fixtures();
    for fixture in fixtures["rasa"].iter().filter(|fixture| fixture.expected == "not for us") {
        let begun = Instant::now();
        let mut count = 0_u32;
        while begun.elapsed() < Duration::from_millis(200) {
            for _ in 0..1_000 {
                assert!(matches!(decode(&fixture.record, &rules, now), Decoded::NotForUs(_)));
            }
            count += 1_000;
        }
        let rate = f64::from(count) / begun.elapsed().as_secs_f64();
        let bytes = fixture.record.size_bytes();
        println!("{rate:>10.0} records of {bytes} bytes per second: {}", fixture.path);
    }
}
