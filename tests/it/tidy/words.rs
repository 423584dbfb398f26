//! Words that this code base does not use, with their replacements.
//!
//! A reader finds each concept under the name of the trade (the glossary in ARCHITECTURE.md). A
//! phrase is listed here only if it cannot be part of a legitimate English sentence; phrases are
//! compared without regard to case, and only as whole words.

use super::scan::{code_of, is_whole_word, line_of};
use super::{Source, assert_none, files, rust_sources};

/// Where the words are looked for. This file would find itself, so it is left out.
const PLACES: &[&str] = &[
    "src",
    "tests",
    "benches",
    "scripts",
    "docs",
    "config",
    "migrations",
    ".ci",
    ".github",
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docker-compose.yml",
    "Dockerfile",
    "clippy.toml",
    "justfile",
];
const THIS_FILE: &str = "tests/it/tidy/words.rs";

/// A phrase, and what to write instead.
const PHRASES: &[(&str, &str)] = &[
    ("put away", "parked"),
    ("puts away", "parks"),
    ("putting away", "parking"),
    ("laid by", "parked"),
    ("left open", "unfinished, or released"),
    ("earlier life", "previous incarnation, before the restart"),
    ("former life", "previous incarnation"),
    ("so long as", "while, as long as"),
    ("so long after", "this time after"),
    ("so long ago", "this time ago"),
    ("whoever", "each, every, the one that"),
    ("pulse", "lease or health"),
    ("quarantine", "expired lease"),
    ("nearness", "session queue, claim permit"),
    ("near the gate", "has a claim permit"),
    ("near its call", "has a claim permit"),
    ("told so", "published, or reported"),
    ("bury", "send to the dead-letter topic"),
    ("buries", "sends to the dead-letter topic"),
    ("buried", "sent to the dead-letter topic"),
    ("burnt", "lost, failed"),
    ("burning", "losing, failing"),
    ("taken up", "recovered"),
    ("handed over", "enqueued"),
    ("hand over", "enqueue"),
    ("hands over", "enqueues"),
    ("hand_over", "enqueue"),
    ("taken back", "purged (a message), claimed back (an event)"),
    ("take_back", "purge"),
    ("asked after", "reconciled, its state queried"),
    ("asks after", "reconciles, queries the state of"),
    ("asked about earlier", "queried before"),
    ("gate_closed", "gate_shut"),
    ("closed gate", "shut gate"),
    ("gate is closed", "gate is shut"),
    ("paused gate", "shut gate"),
    ("gate is paused", "gate is shut"),
    ("calls are paused", "the gate is shut"),
    ("slowed down", "backed off (CUBIC)"),
    ("little by little", "slow start"),
    ("by_us", "PublishedBy"),
    ("resign", "reauthenticate"),
    ("doubtful", "in doubt"),
    ("anew", "again"),
    ("stuck", "blocked or stalled"),
    ("what came of", "the outcome of"),
    ("held up", "blocked, paused"),
    ("holds up", "blocks, pauses"),
    ("in good order", "cleanly"),
    ("patience", "retry policy, time limit"),
    ("mended", "fixed"),
    ("mends", "fixes"),
    ("slept", "was paused (the process)"),
    ("frozen", "paused (the process)"),
    ("froze", "was paused (the process)"),
    ("deeds", "ledger commands"),
    ("deed", "ledger command"),
    ("wishes", "requests"),
    ("lanes", "session queues"),
    ("was heard of", "was contacted"),
    ("is heard of", "is in contact"),
    ("not heard of", "not in contact"),
];

/// Phrases that are right in one file, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("src/domain/codes.rs", "resign", "the former word of a verdict stays valid"),
    ("src/config/tests/mod.rs", "resign", "the former word of a verdict stays valid"),
    ("docs/codes.md", "resign", "the former word of a verdict stays valid"),
    ("config/default.toml", "resign", "the former word of a verdict stays valid"),
    ("CHANGELOG.md", "resign", "the former word of a verdict stays valid"),
];

#[test]
fn no_file_uses_a_private_word() {
    let mut faults = Vec::new();
    for source in files(PLACES).iter().filter(|source| source.path != THIS_FILE) {
        let text = source.text.to_lowercase();
        for (phrase, instead) in PHRASES {
            if EXCEPTIONS.iter().any(|(path, word, _)| *path == source.path && word == phrase) {
                continue;
            }
            let found =
                text.match_indices(phrase).filter(|(at, _)| is_whole_word(&text, *at, phrase));
            faults.extend(found.map(|(at, _)| {
                format!("{}:{}: `{phrase}`: write {instead}", source.path, line_of(&text, at))
            }));
        }
        faults.extend(letters(source));
    }
    assert_none(faults);
}

/// "letter" stands for a dead letter only together with "dead".
fn letters(source: &Source) -> Vec<String> {
    let text = source.text.to_lowercase();
    let mut faults = Vec::new();
    for word in ["letter", "letters"] {
        for (at, _) in text.match_indices(word).filter(|(at, _)| is_whole_word(&text, *at, word)) {
            let before = text[..at].trim_end_matches([' ', '-', '\n', '/', '#', '*', '`']);
            let after = &text[at + word.len()..];
            // "letter by letter" is about the alphabet; `letter:` is a prefix of the ledger's keys.
            let is_alphabet = after.starts_with(" by letter") || before.ends_with(" by");
            let is_key = after.starts_with(':') || after.starts_with("\"]");
            if !before.ends_with("dead") && !is_alphabet && !is_key {
                let line = line_of(&text, at);
                faults.push(format!("{}:{line}: `{word}`: write dead {word}", source.path));
            }
        }
    }
    faults
}

/// Former type names, and the names that replaced them.
const TYPES: &[(&str, &str)] = &[
    ("Pulse", "Lease, Health"),
    ("Near", "ClaimPermit"),
    ("Pass", "CallPermit"),
    ("Walk", "Delivery"),
    ("Told", "TaskEvent"),
    ("Steady", "FencingToken"),
    ("Deed", "LedgerCommand"),
    ("Notice", "Signal"),
    ("Heard", "Assessment"),
    ("Tell", "InterimOutcome"),
    ("Doubt", "InDoubt"),
    ("After", "RetryAction"),
    ("Tries", "Attempts"),
    ("Lasting", "IfPersistent"),
    ("Ending", "Settlement"),
    ("Ask", "TransferRequest"),
    ("Wish", "RequestedTarget"),
    ("Rules", "DecodeRules"),
    ("Intake", "Decoded, IntakeSettings"),
    ("Speed", "RateLimiter"),
    ("Why", "ShutReason"),
    ("Admit", "Admission"),
    ("Progress", "Watermark"),
    ("Lanes", "SessionQueues"),
    ("Place", "LedgerUrl, Position, EntryKey"),
    ("Nature", "Clock, Rng"),
];

#[test]
fn no_type_has_a_former_name() {
    let mut faults = Vec::new();
    for source in rust_sources(&["src"]) {
        for (number, line) in code_of(&source.text).lines().enumerate() {
            let former = TYPES.iter().find(|(name, _)| {
                ["struct", "enum", "trait"].iter().any(|keyword| {
                    let definition = format!("{keyword} {name}");
                    line.find(&definition).is_some_and(|at| is_whole_word(line, at, &definition))
                })
            });
            if let Some((name, instead)) = former {
                faults.push(format!("{}:{}: {name}: now {instead}", source.path, number + 1));
            }
        }
    }
    assert_none(faults);
}
