//! `[input]` and the list `[[mappings]]`: what is accepted, and the exact messages about everything else.

use super::super::mappings::KEYS;
use super::*;
use crate::domain::wire::dialects::Dialect;
use crate::domain::wire::input::InputRules;
use crate::domain::wire::outcome_format::OutcomeFormat;

/// A valid mapping with these lines added, switched on.
fn with(lines: &str) -> String {
    let session = if lines.contains("session_id") { "" } else { "session_id = \"/s\"\n" };
    format!("[input]\ndialects = [\"m\"]\n[[mappings]]\nname = \"m\"\n{session}{lines}")
}

/// The example in the manual, without the `# ` of its lines.
fn example() -> String {
    let lines = DEFAULTS.lines().skip_while(|line| *line != "# [[mappings]]");
    let lines = lines.map_while(|line| line.strip_prefix("# "));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_in_the_manual_is_valid_and_complete() {
    let example = example();
    for key in KEYS {
        assert!(example.lines().any(|line| line.starts_with(&format!("{key} = "))), "{key}");
    }
    let config = good(&format!("[input]\ndialects = [\"chatwoot\", \"native\"]\n{example}"), &[]);
    let [Dialect::Mapping(mapping), Dialect::Native] = &config.rules.input.dialects[..] else {
        panic!("{:?}", config.rules.input.dialects)
    };
    assert_eq!((mapping.name.as_str(), mapping.conditions.len()), ("chatwoot", 2));
    let fields: Vec<_> = mapping.fields.iter().map(|rule| rule.field.as_str()).collect();
    let expected = "session_id id requested_at expires_at reason priority target.group \
                    options.queue_timeout";
    assert_eq!(fields.join(" "), expected);
}

#[test]
fn the_defaults_are_those_of_the_rules() {
    assert_eq!(*good("", &[]).rules.input, InputRules::default());
    let env = [
        ("HANDOFF__INPUT__DIALECTS", "rasa,bot_framework"),
        ("HANDOFF__INPUT__RASA_SIGNAL", "pause"),
        ("HANDOFF__INPUT__ID_HEADER", ""),
    ];
    let input = good("", &env).rules.input;
    assert_eq!((input.dialects.len(), &input.id_header), (2, &None));
}

#[test]
fn problems_of_mappings_are_reported_together() {
    let wrong = "mach = {}\nmatch = { x = 1, \"/a\" = {}, \"/b\" = [] }\nid = 5\nreason = \"no\"\n\
                 requested_at = { pointer = \"/t\", time = \"unix\", dflt = 1 }\n\
                 priority = { value = 1, pointer = \"/p\" }\nattributes = 7\n\
                 target = { groop = \"/g\" }\noptions = { queue_timeout = { value = {} } }";
    let of = "of mapping 1 (\"m\") in F";
    let place = "a header is \"header:NAME\", the record's key \"key\"";
    let expected = "must be a text, a number, true or false, a list of them, not empty, or { exists = \
                    true }";
    let rule = "must be a place, as \"/customer/id\", \"header:NAME\" or \"key\", or a table with \
                `pointer` or `value`";
    check(
        &with(wrong),
        &[],
        &[
            &format!("unknown key `mach` {of}: did you mean `match`?"),
            &format!("`match./a` = {{..}} {of}: {expected}"),
            &format!("`match./b` = [] {of}: {expected}"),
            &format!(
                "mapping 1 (\"m\") in F: the place \"x\" of `match` must begin with /; {place}"
            ),
            &format!("`id` = 5 {of}: {rule}"),
            &format!(
                "unknown key `requested_at.dflt` {of}: there are pointer, value, default, prefix_cut, \
                 last_segment, time"
            ),
            &format!(
                "`requested_at.time` = \"unix\" {of}: must be \"rfc3339\", \"epoch_s\" or \"epoch_ms\""
            ),
            &format!(
                "mapping 1 (\"m\") in F: the place \"no\" of `reason` must begin with /; {place}"
            ),
            &format!("`priority` = {{..}} {of}: {rule}"),
            &format!("unknown key `target.groop` {of}: did you mean `target.group`?"),
            &format!(
                "`options.queue_timeout.value` = {{..}} {of}: must be a text, a number, true or \
                 false, or a list"
            ),
            &format!(
                "`attributes` = 7 {of}: must be the place of an object, or a table from names to \
                 places"
            ),
        ],
    );
    check(
        "[[mappings]]\n[[mappings]]\nname = \"x\"\nsession_id = \"/s\"\n[[mappings]]\nname = \"x\"\n\
         session_id = \"key\"",
        &[],
        &[
            "mapping 1 in F has no name: `input.dialects` switches it on by its name",
            "mapping 1 in F has no `session_id`: say where the session to transfer is",
            "mapping 3 (\"x\") in F has the name of an earlier one",
        ],
    );
}

#[test]
fn the_identity_and_the_session_are_read_from_the_record() {
    let problem = |field: &str, key: &str| {
        format!(
            "mapping 1 (\"m\") in F: `{field}.{key}` would give several records the same {field}: it can \
             only be read from the record, by `pointer`"
        )
    };
    let lines = "session_id = { value = \"s\" }\nid = { pointer = \"/id\", default = \"x\" }";
    check(&with(lines), &[], &[&problem("session_id", "value"), &problem("id", "default")]);
    good(&with("id = { pointer = \"/id\", prefix_cut = \"a\" }\nreason = { value = \"x\" }"), &[]);
}

#[test]
fn dialects_are_named_once_and_each_mapping_is_used() {
    let mapping = "[[mappings]]\nname = \"m\"\nsession_id = \"/s\"\n";
    check(mapping, &[], &["the mapping \"m\" is never used: add it to `input.dialects`"]);
    check(
        "[input]\ndialects = [\"native\", \"rassa\", \"native\", \"xyzzy\", \"cloudevents\"]",
        &[],
        &[
            "`input.dialects` names \"rassa\": did you mean \"rasa\"?",
            "`input.dialects` names \"native\" twice",
            "`input.dialects` names \"xyzzy\": there are native, rasa, bot_framework",
            "`input.dialects` names \"cloudevents\": CloudEvents are recognised by their shape, see \
             `input.cloudevents`",
        ],
    );
    check(
        "[input]\ndialects = [\"native\", \"rasa\"]",
        &[],
        &[
            "`input.dialects` names \"native\" before \"rasa\": an event of Rasa's newer envelope may have \
           a `session_id`, which is not Desk's; name \"rasa\" first",
        ],
    );
    good("[input]\ndialects = [\"rasa\", \"native\"]", &[]);
    check(
        "[input]\nrasa_signal = \"intent:x\"",
        &[],
        &["`input.rasa_signal` = \"intent:x\" in F: must be \"action:NAME\", \"slot:NAME\", \
           \"flow:ID\", \"skill:ID\", \"tool:NAME\" or \"pause\""],
    );
    let advice = "must be a list of tables: begin each with the line [[mappings]]";
    check("[mappings]\nname = \"x\"", &[], &[&format!("`mappings` in F: {advice}")]);
    check("mappings = [5]", &[], &[&format!("`mappings` in F: {advice}")]);
    let by_variable = "`mappings` in the environment: a variable cannot hold them: write [[mappings]] \
                       in a file";
    check("", &[("HANDOFF__MAPPINGS", "x")], &[by_variable]);
}

#[test]
fn a_signal_of_rasa_that_is_probably_a_mistake_is_a_warning() {
    let warnings = |signal: &str| {
        let toml = format!("[input]\ndialects = [\"rasa\"]\nrasa_signal = \"{signal}\"");
        good(&toml, &[]).warnings.len()
    };
    assert_eq!(warnings("action:action_handoff_metric"), 1);
    assert_eq!(warnings("flow:human_handoff"), 1);
    assert_eq!(warnings("action:action_human_handoff"), 0);
}

#[test]
fn the_form_of_outcomes_is_one_of_three() {
    let format = |env| good("", &[("HANDOFF__OUTPUT__FORMAT", env)]).policy.outcome_format;
    assert_eq!(format("native"), OutcomeFormat::Native);
    assert_eq!(format("handoff_status"), OutcomeFormat::HandoffStatus);
    let (kind, source) = ("com.example.handoff.outcome.v1".into(), "/handoff/handoff".into());
    assert_eq!(format("cloudevents"), OutcomeFormat::CloudEvents { kind, source });
    check(
        "[output]\nformat = \"xml\"",
        &[],
        &[
            "`output.format` = \"xml\" in F: must be \"native\", \"cloudevents\" or \"handoff_status\"",
        ],
    );
}
