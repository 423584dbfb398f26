//! What the documents refer to exists: files, links, configuration keys, metrics. The examples of
//! the README are valid.

use std::path::Path;

use handoff::domain::record::{Position, Record};
use handoff::domain::wire::escalation::{Decoded, decode};
use handoff::domain::wire::outcome::{OutcomeRecord, Status};

use super::{Source, assert_none, file, files};

const DOCUMENTS: &[&str] =
    &["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs"];
const FOLDERS: &[&str] = &[
    "src/",
    "tests/",
    "benches/",
    "scripts/",
    "docs/",
    "config/",
    "migrations/",
    "deploy/",
    ".github/",
];
const SECTIONS: &[&str] = &[
    "kafka",
    "intake",
    "desk",
    "retry",
    "input",
    "output",
    "escalation",
    "ledger",
    "drain",
    "admin",
    "log",
    "traces",
];

/// The words in backticks, with the line of each. A block of code has none.
fn quoted(document: &Source) -> Vec<(usize, &str)> {
    let lines = (1..).zip(document.text.lines());
    lines.flat_map(|(n, line)| line.split('`').skip(1).step_by(2).map(move |q| (n, q))).collect()
}

fn faults(fault: impl Fn(&str) -> bool, what: &str) -> Vec<String> {
    let documents = files(DOCUMENTS);
    assert!(documents.len() > DOCUMENTS.len(), "the documents are found");
    let of = |document: &Source| {
        let faulty = quoted(document).into_iter().filter(|(_, quoted)| fault(quoted));
        let text = |(line, quoted)| format!("{}:{line}: {what}: `{quoted}`", document.path);
        faulty.map(text).collect::<Vec<_>>()
    };
    documents.iter().flat_map(of).collect()
}

#[test]
fn the_files_that_documents_name_exist() {
    let is_path = |quoted: &str| {
        let names_files = FOLDERS.iter().any(|folder| quoted.starts_with(folder));
        names_files && !quoted.contains([' ', '*', '<'])
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let exists = |path: &String| root.join(path).exists();
    let is_missing = |quoted: &str| is_path(quoted) && !expanded(quoted).iter().all(exists);
    assert_none(faults(is_missing, "no such file"));
}

/// `a/{b,c}.rs` as a shell expands it.
fn expanded(path: &str) -> Vec<String> {
    let Some((before, (inside, after))) =
        path.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    else {
        return vec![path.to_owned()];
    };
    inside.split(',').map(|part| format!("{before}{part}{after}")).collect()
}

#[test]
fn the_links_of_documents_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut faults = Vec::new();
    for document in files(DOCUMENTS) {
        let folder = root.join(&document.path);
        let folder = folder.parent().unwrap_or(root);
        for (_, rest) in document.text.match_indices("](").map(|(at, m)| (at, at + m.len())) {
            let target = document.text[rest..].split(')').next().unwrap_or_default();
            let (path, _) = target.split_once('#').unwrap_or((target, ""));
            let is_here = !path.is_empty() && !path.contains("://");
            if is_here && !folder.join(path).exists() {
                faults.push(format!("{}: a link to {target}", document.path));
            }
        }
    }
    assert_none(faults);
}

#[test]
fn the_keys_and_metrics_that_documents_name_exist() {
    let defaults = file("config/default.toml");
    let metrics = file("docs/metrics.md");
    // Fields of a log line have such names too.
    let fields = ["kafka.topic", "kafka.partition", "kafka.offset"];
    let is_key = |quoted: &str| {
        let name = quoted.split_once('.').filter(|(section, _)| SECTIONS.contains(section));
        name.is_some_and(|(_, name)| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    let has_key = |quoted: &str| {
        let name = quoted.split('.').next_back().unwrap_or_default();
        let is_line = |line: &str| {
            let line = line.trim_start_matches(['#', ' ']);
            line.starts_with(&format!("{name} = ")) || line == format!("[{quoted}]")
        };
        defaults.lines().any(is_line)
    };
    let is_unknown = |quoted: &str| {
        let metric = quoted.split(['{', ' ']).next().unwrap_or_default();
        let is_metric = metric.starts_with("handoff_") && !["handoff_ledger"].contains(&metric);
        is_key(quoted) && !has_key(quoted) && !fields.contains(&quoted)
            || is_metric && !metrics.contains(&format!("| `{metric}` |"))
    };
    assert_none(faults(is_unknown, "no such key or metric"));
}

#[test]
fn the_examples_of_the_readme_are_valid() {
    let readme = file("README.md");
    let blocks = |language: &str| {
        let mark = format!("```{language}\n");
        let blocks = readme.split(&mark).skip(1).filter_map(|rest| rest.split("```").next());
        blocks.map(str::to_owned).collect::<Vec<_>>()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("handoff.toml");
    std::fs::write(&path, blocks("toml").concat()).unwrap();
    let config = handoff::config::load(Some(&path), []).expect("the configuration is valid");

    let [escalation, outcome] = &blocks("json")[..] else { panic!("two examples of JSON") };
    let position = Position { topic: "t".into(), partition: 0, offset: 0 };
    let value = Some(escalation.clone().into_bytes());
    let record = Record { position, timestamp: None, key: None, value, headers: vec![] };
    let now = "2026-11-23T10:00:00Z".parse().unwrap();
    let Decoded::Event(event) = decode(&record, &config.rules, now) else { panic!("an event") };
    assert!(event.request.is_ok() && event.deadline > now, "{event:?}");
    let outcome = OutcomeRecord::parse(outcome.as_bytes()).expect("an outcome");
    assert_eq!(outcome.known_status(), Some(Status::Assigned));
}
