//! The house rules, as tests: what the formatter and clippy cannot check.
//!
//! - `words`: words that this code base does not use, with their replacements.
//! - `structure`: signatures, type names, and which module may use which.
//! - `commands`: the command lines in the documents are valid.
//! - `documents`: metrics, codes and log phrases against their documentation.
//! - `references`: files, links, keys and metrics that the documents name.
//! - `monitoring`: alerts and the dashboard against the documents.
//! - `deployment`: the image and the supervisors' files against the code.
//!
//! A new rule is a few lines in one of them; [`scan`] has the helpers that read Rust source.

mod commands;
mod deployment;
mod documents;
mod monitoring;
mod references;
mod scan;
mod structure;
mod words;

pub(crate) use self::documents::assert_documented;

use std::fs;
use std::path::{Path, PathBuf};

const MAX_CODE_LINES: usize = 350;
const RUST: &[&str] = &["src", "tests", "benches"];

/// A file and its path below the repository's root.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Whether the file holds unit tests only.
    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("tests.rs")
    }
}

/// All Rust files in these folders.
fn rust_sources(folders: &[&str]) -> Vec<Source> {
    let mut sources = files(folders);
    sources.retain(|source| source.path.ends_with(".rs"));
    assert!(sources.len() > 10, "the sources are found");
    sources
}

/// All text files below these paths.
fn files(paths: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open: Vec<PathBuf> = paths.iter().map(|path| root.join(path)).collect();
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root).unwrap().display().to_string();
            found.push(Source { path, text });
        }
    }
    found
}

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default()
}

fn assert_none(mut faults: Vec<String>) {
    faults.sort();
    assert!(faults.is_empty(), "\n{}\n{} faults", faults.join("\n"), faults.len());
}

#[test]
fn every_file_has_a_head() {
    let sources = rust_sources(RUST).into_iter().filter(|source| !source.text.starts_with("//!"));
    assert_none(sources.map(|source| format!("{}: no `//!` head", source.path)).collect());
}

#[test]
fn no_file_is_too_long() {
    let fault = |source: Source| {
        let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
        let lines = source.text.lines().filter(is_code).count();
        let text = format!("{}: {lines} lines of code, at most {MAX_CODE_LINES}", source.path);
        (lines > MAX_CODE_LINES).then_some(text)
    };
    assert_none(rust_sources(RUST).into_iter().filter_map(fault).collect());
}

#[test]
fn nothing_is_left_for_later_and_no_lint_is_silenced_without_a_reason() {
    // Joined here, so that this file does not find itself.
    let marks = [["FIX", "ME"].concat(), ["TO", "DO"].concat(), ["#[all", "ow("].concat()];
    let mut faults = Vec::new();
    for source in rust_sources(RUST) {
        for (number, line) in source.text.lines().enumerate() {
            let found = marks.iter().filter(|mark| line.contains(mark.as_str()));
            faults.extend(found.map(|mark| format!("{}:{}: {mark}", source.path, number + 1)));
        }
    }
    assert_none(faults);
}

/// Who reads standard error or output may stall, and then every write to it waits. So nothing prints but
/// the tools' output, and the log, which has a thread of its own in the service.
#[test]
fn only_the_output_of_tools_and_the_log_write_to_standard_error_and_output() {
    let printers = ["src/commands/lines.rs", "src/commands/top/mod.rs", "src/telemetry/log.rs"];
    let marks = ["print!(", "println!(", "dbg!(", "stderr(", "stdout(", "/dev/std"];
    let mut faults = Vec::new();
    for source in rust_sources(&["src"]) {
        if source.is_test() || printers.contains(&source.path.as_str()) {
            continue;
        }
        for (number, line) in source.text.lines().enumerate() {
            let is_code = !line.trim_start().starts_with("//") && !line.contains("use_stderr(");
            let found = marks.iter().filter(|mark| is_code && line.contains(**mark));
            faults.extend(found.map(|mark| format!("{}:{}: {mark}", source.path, number + 1)));
        }
    }
    assert_none(faults);
}
