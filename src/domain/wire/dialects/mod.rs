//! Formats of other systems, one file each.
//!
//! A dialect is a pure function of value, key and headers. It says that a record is of another format,
//! that it is not for us, that it is malformed, or it returns the fields of an escalation; nothing
//! behind it knows the difference. [`read`] asks the configured dialects in their order.
//!
//! A new dialect: a file here, a variant and a name in [`Dialect`], and a folder of fixtures in
//! `tests/fixtures/formats/`.

pub(super) mod bot_framework;
pub(super) mod cloudevents;
mod mantle;
pub mod mapping;
mod native;
pub mod rasa;

use serde_json::{Map, Value};

use self::cloudevents::Opened;
use self::mapping::Mapping;
use self::rasa::RasaSignal;
use super::escalation::written::{Parsed, Written, parse};
use super::input::InputRules;
use crate::domain::event::{Malformed, MalformedClass};
use crate::domain::record::Header;

/// A format that is switched on by its name.
#[derive(Debug, Clone, PartialEq)]
pub enum Dialect {
    /// Escalation v1.
    Native,
    /// Rasa's tracker events, in the classic envelope and in the newer one.
    Rasa(RasaSignal),
    /// Activities of the Bot Framework and of Copilot Studio.
    BotFramework,
    /// The fields are where the configuration says.
    Mapping(Mapping),
}

impl Dialect {
    /// The names of the dialects that need no mapping.
    pub const NAMES: [&'static str; 3] = ["native", "rasa", "bot_framework"];

    fn read<'r>(&self, input: &DialectInput<'r>) -> Reading<'r> {
        match self {
            Self::Native => native::read(input),
            Self::Rasa(signal) => rasa::read(input, signal),
            Self::BotFramework => bot_framework::read(input),
            Self::Mapping(mapping) => mapping.read(input),
        }
    }

    /// Reads a record that no other dialect has recognised, so that its dead letter says what is
    /// missing.
    fn judge<'r>(&self, input: &DialectInput<'r>) -> Reading<'r> {
        if *self == Self::Native {
            return native::judge(input);
        }
        match self.read(input) {
            Reading::Unrecognised => {}
            reading => return reading,
        }
        let wanted = match self {
            // Its conditions choose among records of a format that it knows.
            Self::Native | Self::Mapping(_) => None,
            Self::Rasa(_) => Some(rasa::SHAPE),
            Self::BotFramework => Some(bot_framework::SHAPE),
        };
        match (parse::<Map<String, Value>>(input.text, input.headers), wanted) {
            (Err(malformed), _) => Reading::Malformed(malformed),
            (Ok(_), None) => Reading::NotForUs,
            (Ok(_), Some(shape)) => Reading::malformed(
                MalformedClass::UnknownFormat,
                format!("the value is no {shape}"),
            ),
        }
    }
}

/// What a dialect reads.
#[derive(Clone, Copy)]
pub(super) struct DialectInput<'r> {
    /// The value without envelopes.
    pub(super) text: &'r [u8],
    pub(super) key: Option<&'r [u8]>,
    pub(super) headers: &'r [Header],
    /// The values of `type` that mean an escalation; empty: any.
    pub(super) types: &'r [String],
}

/// What a dialect makes of a record.
pub(super) enum Reading<'r> {
    /// It is of another format.
    Unrecognised,
    /// It is of this format, and no escalation.
    NotForUs,
    Malformed(Malformed),
    Escalation(Box<Written<'r>>),
}

impl<'r> Reading<'r> {
    fn malformed(class: MalformedClass, error: String) -> Self {
        Self::Malformed(Malformed { class, error })
    }

    fn escalation(written: Written<'r>) -> Self {
        Self::Escalation(Box::new(written))
    }
}

/// Reads a record in the dialects of the configuration. The first that recognises it decides; if none
/// does, the last one judges it.
pub(super) fn read<'r>(input: &DialectInput<'r>, rules: &InputRules) -> Reading<'r> {
    if rules.cloudevents {
        match cloudevents::open(input, &rules.cloudevents_types) {
            Ok(Opened::OtherFormat) => {}
            Ok(Opened::OtherType) => return Reading::NotForUs,
            Ok(Opened::Event(event)) => return (*event).read(|data| read_data(data, rules)),
            Err(malformed) => return Reading::Malformed(malformed),
        }
    }
    let Some((last, others)) = rules.dialects.split_last() else { return native::judge(input) };
    match others.iter().find_map(|dialect| recognised(dialect, input)) {
        Some(reading) => reading,
        None => last.judge(input),
    }
}

/// Reads the data of a CloudEvent: in a dialect that recognises it, else as escalation v1.
fn read_data<'r>(input: &DialectInput<'r>, rules: &InputRules) -> Reading<'r> {
    let reading = rules.dialects.iter().find_map(|dialect| recognised(dialect, input));
    reading.unwrap_or_else(|| native::judge(input))
}

fn recognised<'r>(dialect: &Dialect, input: &DialectInput<'r>) -> Option<Reading<'r>> {
    match dialect.read(input) {
        Reading::Unrecognised => None,
        reading => Some(reading),
    }
}

/// Reads the value as a JSON object; `None`: it is none.
fn object(input: &DialectInput<'_>) -> Option<Parsed<Map<String, Value>>> {
    parse(input.text, input.headers).ok()
}
