//! The sections `[escalation]` and `[input]`: how records are read.

use std::sync::Arc;
use std::time::Duration;

use super::mappings;
use super::raw_config::RawConfig;
use super::sections::to_usize;
use super::suggestions::nearest;
use crate::domain::wire::dialects::Dialect;
use crate::domain::wire::dialects::mapping::Mapping;
use crate::domain::wire::dialects::rasa::RasaSignal;
use crate::domain::wire::escalation::DecodeRules;
use crate::domain::wire::input::InputRules;

const DIALECTS: &str = "input.dialects";

/// Reads both sections; `None` after recording a problem.
pub(super) fn rules(raw: &mut RawConfig) -> Option<DecodeRules> {
    let types = raw.texts("escalation.types");
    let time_to_live_s = raw.whole("escalation.time_to_live_s", 1..=604_800);
    let max_bytes = raw.whole("escalation.max_bytes", 1_024..=16_777_216);
    let input = read(raw);
    Some(DecodeRules {
        types: types?,
        max_bytes: to_usize(max_bytes?),
        time_to_live: Duration::from_secs(time_to_live_s?),
        input: Arc::new(input?),
    })
}

/// Reads `[input]` and the mappings; `None` after recording a problem.
fn read(raw: &mut RawConfig) -> Option<InputRules> {
    let unwrap = raw.flag("input.unwrap");
    let cloudevents = raw.flag("input.cloudevents");
    let cloudevents_types = raw.texts_or_none("input.cloudevents_types");
    let names = raw.texts(DIALECTS);
    let signal = raw.parsed("input.rasa_signal", RasaSignal::ALLOWED, RasaSignal::parse);
    let id_header = raw.optional("input.id_header").map(|given| given.value);
    let same_session_s = raw.whole("input.same_session_within_s", 0..=3_600);
    let mappings = mappings::read(raw);
    let dialects = dialects(raw, &names?, &signal?, &mappings?);
    Some(InputRules {
        unwrap: unwrap?,
        cloudevents: cloudevents?,
        cloudevents_types: cloudevents_types?,
        dialects: dialects?,
        // 0 stands for "never" in the file.
        same_session_within: same_session_s
            .map(Duration::from_secs)
            .filter(|window| !window.is_zero()),
        id_header,
    })
}

/// Finds each dialect by its name; each mapping must be used.
fn dialects(
    raw: &mut RawConfig,
    names: &[String],
    signal: &RasaSignal,
    mappings: &[Mapping],
) -> Option<Vec<Dialect>> {
    let before = raw.problem_count();
    let mapped = mappings.iter().map(|mapping| mapping.name.as_str());
    let known: Vec<&str> = Dialect::NAMES.into_iter().chain(mapped).collect();
    let mut dialects = Vec::new();
    for (place, name) in names.iter().enumerate() {
        if names[..place].contains(name) {
            raw.add_problem(DIALECTS, format!("`{DIALECTS}` names {name:?} twice"));
        }
        dialects.extend(match name.as_str() {
            "native" => Some(Dialect::Native),
            "rasa" => Some(Dialect::Rasa(signal.clone())),
            "bot_framework" => Some(Dialect::BotFramework),
            name => mappings.iter().find(|m| m.name == name).cloned().map(Dialect::Mapping),
        });
        if !known.contains(&name.as_str()) {
            let advice = match nearest(name, &known) {
                Some(real) => format!("did you mean {real:?}?"),
                None if name == "cloudevents" => {
                    "CloudEvents are recognised by their shape, see `input.cloudevents`".to_owned()
                }
                None => format!("there are {}", known.join(", ")),
            };
            raw.add_problem(DIALECTS, format!("`{DIALECTS}` names {name:?}: {advice}"));
        }
    }
    let place = |wanted: &str| names.iter().position(|name| name == wanted);
    if let (Some(native), Some(rasa)) = (place("native"), place("rasa"))
        && native < rasa
    {
        let text = format!(
            "`{DIALECTS}` names \"native\" before \"rasa\": an event of Rasa's newer envelope may have a \
             `session_id`, which is not Desk's; name \"rasa\" first"
        );
        raw.add_problem(DIALECTS, text);
    }
    for Mapping { name, .. } in mappings {
        if Dialect::NAMES.contains(&name.as_str()) {
            let text = format!("the mapping {name:?} has the name of a built-in dialect");
            raw.add_problem("mappings", text);
        } else if !names.contains(name) {
            let text = format!("the mapping {name:?} is never used: add it to `{DIALECTS}`");
            raw.add_problem("mappings", text);
        }
    }
    (raw.problem_count() == before).then_some(dialects)
}

/// A signal that is legal and probably a mistake.
pub(super) fn warning(rules: &InputRules) -> Option<String> {
    let signal = rules.dialects.iter().find_map(|dialect| match dialect {
        Dialect::Rasa(signal) => Some(signal),
        _ => None,
    })?;
    let why = match signal {
        RasaSignal::Action(name) if name == "action_handoff_metric" => {
            "Rasa's own pattern tells the customer right after this action that no human is available, \
             unless the bot overrides it"
        }
        RasaSignal::Flow(_) => {
            "a flow begins before the customer has confirmed, and may be cancelled; an action at its \
             end is better"
        }
        _ => return None,
    };
    Some(format!("`input.rasa_signal` = \"{signal}\": {why}"))
}
