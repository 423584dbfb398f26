//! Signatures, type names, and which module may use which.

use std::collections::BTreeMap;

use super::scan::{arguments, code_of, identifier, is_whole_word, line_of, parameters};
use super::{RUST, Source, assert_none, rust_sources};

#[test]
fn no_signature_has_a_tuple_as_parameter() {
    let mut faults = Vec::new();
    for source in rust_sources(RUST) {
        let code = code_of(&source.text);
        for (at, _) in code.match_indices("fn ").filter(|(at, _)| is_whole_word(&code, *at, "fn "))
        {
            let Some(open) = open_parenthesis(&code[at..]) else { continue };
            let parameters = parameters(&code[at + open..]);
            for parameter in parameters.iter().filter(|parameter| is_tuple(parameter)) {
                let line = line_of(&code, at);
                faults.push(format!("{}:{line}: `{parameter}`: name a struct", source.path));
            }
        }
    }
    assert_none(faults);
}

/// The position of the parameter list of a function, after its name and generics.
fn open_parenthesis(function: &str) -> Option<usize> {
    let name = identifier(&function[3..]);
    let after = 3 + name.len();
    let generics =
        if function[after..].starts_with('<') { generics(&function[after..]) } else { 0 };
    let open = after + generics;
    (!name.is_empty() && function[open..].starts_with('(')).then_some(open)
}

fn generics(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if !text[..at].ends_with('-') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

fn is_tuple(parameter: &str) -> bool {
    let (pattern, kind) = parameter.split_once(": ").unwrap_or((parameter, ""));
    let kind = kind.trim_start_matches('&').trim_start_matches("mut ");
    pattern.starts_with('(') || kind.starts_with('(') && kind != "()"
}

#[test]
fn no_option_is_inside_an_option() {
    let nested = ["Option", "<Option<"].concat();
    let mut faults = Vec::new();
    for source in rust_sources(RUST) {
        for (at, _) in source.text.match_indices(&nested) {
            let line = line_of(&source.text, at);
            faults.push(format!("{}:{line}: {nested}..>>: use an enum", source.path));
        }
    }
    assert_none(faults);
}

/// Type names that may be defined more than once, and why.
const DEFINED_TWICE: &[(&str, &str)] = &[];

#[test]
fn no_type_name_has_two_definitions() {
    let mut definitions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in rust_sources(&["src"]).iter().filter(|source| !source.is_test()) {
        for (number, line) in code_of(&source.text).lines().enumerate() {
            if let Some(name) = defined_type(line) {
                let place = format!("{}:{}", source.path, number + 1);
                definitions.entry(name.to_owned()).or_default().push(place);
            }
        }
    }
    assert!(definitions.len() > 100, "the definitions are found");
    let is_allowed = |name: &str| DEFINED_TWICE.iter().any(|(allowed, _)| *allowed == name);
    let doubled = definitions.iter().filter(|(name, places)| places.len() > 1 && !is_allowed(name));
    assert_none(doubled.map(|(name, places)| format!("{name}: {}", places.join(", "))).collect());
}

/// The type that a line defines. An indented `type` is an associated type.
fn defined_type(line: &str) -> Option<&str> {
    let is_indented = line.starts_with(' ');
    let mut words = line.trim_start();
    if words.starts_with("pub") {
        words = words.split_once(' ')?.1;
    }
    let (keyword, rest) = words.split_once(' ')?;
    let defines = ["struct", "enum", "trait"].contains(&keyword);
    (defines || keyword == "type" && !is_indented).then(|| identifier(rest))
}

/// Each module may use the modules of lower layers, and of its own.
const LAYERS: &[(&str, u8)] = &[
    ("main", 9),
    ("commands", 8),
    ("sim", 7),
    ("app", 6),
    ("config", 5),
    ("adapters", 5),
    ("consume", 4),
    ("deliver", 3),
    ("gate", 2),
    ("ledger", 2),
    ("lease", 2),
    ("health", 2),
    ("activity", 2),
    ("telemetry", 2),
    ("domain", 1),
    ("clock", 0),
];

/// Uses inside one layer or against the direction, and why.
const ALLOWED_USES: &[(&str, &str, &str)] = &[
    ("config", "adapters", "the settings of an adapter are defined beside it"),
    ("gate", "telemetry", "the gate reports its state"),
    ("health", "lease", "an expired lease is a reason not to be ready"),
];

#[test]
fn modules_use_lower_layers_only() {
    let mut faults = Vec::new();
    for source in rust_sources(&["src"]).iter().filter(|source| !source.is_test()) {
        let module = module_of(&source.path);
        let Some(layer) = layer_of(module) else { continue };
        let code = without_unit_tests(&code_of(&source.text));
        for (at, used) in used_modules(&code) {
            let Some(other) = layer_of(&used) else { continue };
            let is_allowed = used == module
                || other < layer
                || ALLOWED_USES.iter().any(|(from, to, _)| *from == module && *to == used);
            if !is_allowed {
                let line = line_of(&code, at);
                faults.push(format!("{}:{line}: {module} may not use {used}", source.path));
            }
        }
    }
    assert_none(faults);
}

fn module_of(path: &str) -> &str {
    let path = path.strip_prefix("src/").unwrap_or(path);
    path.split(['/', '.']).next().unwrap_or_default()
}

fn layer_of(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// The code before its inline `mod tests`, which may use anything.
pub(super) fn without_unit_tests(code: &str) -> String {
    code.split("mod tests {").next().unwrap_or_default().to_owned()
}

/// The top-level modules that the code uses by `crate::`, and where.
fn used_modules(code: &str) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    for (at, path) in code.match_indices("crate::") {
        let rest = &code[at + path.len()..];
        let items = if rest.starts_with('{') { arguments(rest) } else { vec![rest.to_owned()] };
        used.extend(items.iter().map(|item| (at, identifier(item).to_owned())));
    }
    used
}

/// What the code of a folder may not contain.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "src/domain/",
        &[
            "tokio",
            "tracing",
            "rdkafka",
            "reqwest",
            "axum",
            "sqlx",
            "rusqlite",
            "std::env",
            "std::fs",
            "std::net",
            "SystemTime",
            "async fn",
            "fastrand",
        ],
    ),
    ("src/gate/breaker", &["tokio", "async fn"]),
    ("src/gate/rate_limiter", &["tokio", "async fn"]),
    ("src/gate/", &["rdkafka", "reqwest", "axum", "sqlx", "rusqlite"]),
    ("src/deliver/", &["rdkafka", "reqwest", "axum", "sqlx", "rusqlite"]),
    ("src/consume/", &["rdkafka", "reqwest", "axum", "sqlx", "rusqlite"]),
    ("src/config/", &["tokio", "std::env"]),
    ("src/adapters/desk", &["rdkafka", "axum", "adapters::kafka", "adapters::admin"]),
    ("src/adapters/kafka", &["reqwest", "axum", "adapters::desk", "adapters::admin"]),
    ("src/adapters/admin", &["reqwest", "rdkafka", "adapters::desk", "adapters::kafka"]),
    ("src/commands/", &["rdkafka::"]),
];

#[test]
fn pure_modules_have_no_input_and_output() {
    let mut faults = Vec::new();
    for source in rust_sources(&["src"]).iter().filter(|source| !source.is_test()) {
        let rules = FORBIDDEN.iter().filter(|(folder, _)| source.path.starts_with(folder));
        for word in rules.flat_map(|(_, words)| words.iter()) {
            faults.extend(uses_of(source, word));
        }
    }
    assert_none(faults);
}

fn uses_of(source: &Source, word: &str) -> Vec<String> {
    let code = without_unit_tests(&code_of(&source.text));
    let found = code.match_indices(word).filter(|(at, _)| is_whole_word(&code, *at, word));
    found.map(|(at, _)| format!("{}:{}: {word}", source.path, line_of(&code, at))).collect()
}
