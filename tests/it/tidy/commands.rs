//! The commands in the documents: those of `handoff` parse, scripts exist, and other programs are
//! known, with what checks them. `recipes` and `cli_kafka::quick_start` run whole pages.

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use handoff::commands::Cli;

use super::{Source, assert_none, files};

const DOCUMENTS: &[&str] = &["README.md", "CONTRIBUTING.md", "SECURITY.md", "examples", "docs"];

/// Programs of others that the documents name, with the reason why no test runs those lines.
const OTHERS: &[(&str, &str)] = &[
    ("cargo", "the workflow runs `cargo demo`"),
    ("curl", "tests ask the same addresses over HTTP"),
    ("cd node venv/bin/python venv/bin/pip python3 npm", "tests/it/examples.rs runs them"),
    ("docker docker-compose", "needs a Docker daemon"),
    (
        "kafka-acls.sh kafka-topics.sh kafka-configs.sh kafka-consumer-groups.sh",
        "Kafka's own tools",
    ),
    ("kubectl helm systemctl systemd-analyze promtool journalctl", "need a cluster or a host"),
    ("sqlite3 psql pg_dump", "clients of the databases"),
    ("java mvn pip go", "fetch other programs, for the comparison"),
    (
        "export for do done if then fi until while mkdir sed seq sleep kill wait printf echo cat rm \
      install useradd chmod chown cp mv sh bash jq kcat grep set true openssl",
        "the shell and its tools",
    ),
];

/// Lines of shell in a document: indented ones, blocks marked `sh`, and prompts of `console`. With
/// the number of each line.
fn shell_lines(document: &Source) -> Vec<(usize, &str)> {
    let (mut lines, mut fence) = (Vec::new(), None);
    for (number, line) in (1..).zip(document.text.lines()) {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            fence = if fence.is_none() { Some(language) } else { None };
            continue;
        }
        let shell = match fence {
            None => line.strip_prefix("    "),
            Some("console") => line.strip_prefix("$ "),
            Some("sh" | "bash") => Some(line),
            Some(_) => None,
        };
        lines.extend(shell.map(|shell| (number, shell)));
    }
    lines
}

/// The words of each simple command of a line, as a shell splits it, without what is redirected.
/// What follows two blanks explains the command.
fn commands(line: &str) -> Vec<Vec<String>> {
    let (mut commands, mut words) = (vec![], vec![]);
    let (mut word, mut quote, mut blanks) = (String::new(), None, 0);
    for c in line.chars().chain(['\n']) {
        match (quote, c) {
            (Some(end), _) if c == end => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '#') if word.is_empty() => break,
            (None, ' ' | '|' | ';' | '&' | '(' | ')' | '\n') => {
                blanks = if c == ' ' { blanks + 1 } else { 0 };
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                if blanks > 1 && !words.is_empty() {
                    break;
                }
                if c != ' ' {
                    commands.push(std::mem::take(&mut words));
                }
            }
            _ => {
                blanks = 0;
                word.push(c);
            }
        }
    }
    commands.push(words);
    for words in &mut commands {
        let is_redirected = |word: &String| word.starts_with(['>', '<']) || word == "\\";
        let end = words.iter().position(is_redirected).unwrap_or(words.len());
        words.truncate(end);
        // Before the program may be keywords and variables.
        let is_before = |word: &&String| {
            ["do", "then", "until", "while", "if", "$"].contains(&word.as_str())
                || word.split_once('=').is_some_and(|(name, _)| is_variable(name))
        };
        let before = words.iter().take_while(is_before).count();
        words.drain(..before);
    }
    commands.retain(|words| !words.is_empty());
    commands
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_placeholder(word: &str) -> bool {
    word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase() || "/:_".contains(c))
}

/// What is wrong with a command; `None`: nothing.
fn fault(words: &[String]) -> Option<String> {
    let program = words[0].as_str();
    if program == "handoff" {
        let parsed = Cli::parse_from_args(words.iter().map(OsString::from));
        // Prose leaves out what it does not speak of, and writes ID or TOPIC/PARTITION/OFFSET.
        let has_placeholder = words.iter().any(|word| is_placeholder(word));
        let error = parsed.err().filter(|error| match error.kind() {
            ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => false,
            ErrorKind::ValueValidation => !has_placeholder,
            _ => error.exit_code() != 0,
        })?;
        return Some(error.to_string().lines().next().unwrap_or_default().to_owned());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if program.starts_with("scripts/") || program.starts_with(".ci/") {
        return (!root.join(program).exists()).then(|| "no such script".to_owned());
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    let is_program = program.starts_with(|c: char| c.is_ascii_lowercase())
        && program.chars().all(is_plain)
        && words.get(1).is_none_or(|word| word != "=");
    let is_known = OTHERS.iter().any(|(names, _)| names.split_whitespace().any(|n| n == program));
    (is_program && !is_known).then(|| "an unknown program: see OTHERS in tidy/commands.rs".into())
}

#[test]
fn the_commands_of_documents_are_valid() {
    let mut faults = Vec::new();
    let mut count = 0;
    for document in files(DOCUMENTS).iter().filter(|document| document.path.ends_with(".md")) {
        let shell = shell_lines(document);
        let inline = (1..).zip(document.text.lines()).flat_map(|(number, line)| {
            let quoted = line.split('`').skip(1).step_by(2);
            quoted.filter(|text| text.starts_with("handoff ")).map(move |text| (number, text))
        });
        for (number, line) in shell.into_iter().chain(inline) {
            for words in commands(line) {
                count += 1;
                let path = &document.path;
                faults.extend(fault(&words).map(|f| format!("{path}:{number}: {line}: {f}")));
            }
        }
    }
    assert!(count > 100, "{count} commands are found");
    assert_none(faults);
}

#[test]
fn a_command_line_is_split_as_a_shell_does() {
    let check = |line: &str, expected: &[&str]| {
        let found: Vec<_> = commands(line).iter().map(|words| words.join("|")).collect();
        assert_eq!(found, expected, "{line}");
    };
    check("handoff audit --since 1h     also --until", &["handoff|audit|--since|1h"]);
    check("handoff run & service=$!   # goes on", &["handoff|run"]);
    check(
        "seq 2 | sed 's/a b/c/' | handoff publish - >/dev/null",
        &["seq|2", "sed|s/a b/c/", "handoff|publish|-"],
    );
    check("until curl -f x; do sleep 1; done", &["curl|-f|x", "sleep|1", "done"]);
    let words = |line: &str| commands(line).concat();
    assert!(fault(&words("handoff audit --sinse 1h")).is_some());
    assert!(fault(&words("scripts/none")).is_some() && fault(&words("frobnicate x")).is_some());
    assert_eq!(fault(&words("handoff events list --problem")), None);
}
