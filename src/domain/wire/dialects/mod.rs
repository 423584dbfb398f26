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

use std::borrow::Cow;

use serde_json::{Map, Value};

use self::cloudevents::{DataReading, Opened};
use self::mapping::Mapping;
use self::rasa::RasaSignal;
use super::escalation::written::{Parsed, Written, parse};
use super::input::InputRules;
use super::reading::{FormatResult, ReadingSteps, Skip, SkipReason, Why};
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

    /// Its name in `input.dialects`.
    pub fn name(&self) -> &str {
        let [native, rasa, bot_framework] = Self::NAMES;
        match self {
            Self::Native => native,
            Self::Rasa(_) => rasa,
            Self::BotFramework => bot_framework,
            Self::Mapping(mapping) => &mapping.name,
        }
    }

    /// The same, to be kept: without an allocation where there is no mapping.
    pub fn kept_name(&self) -> Cow<'static, str> {
        let [native, rasa, bot_framework] = Self::NAMES;
        match self {
            Self::Native => native.into(),
            Self::Rasa(_) => rasa.into(),
            Self::BotFramework => bot_framework.into(),
            Self::Mapping(mapping) => mapping.name.clone().into(),
        }
    }

    fn read<'r>(&self, input: &DialectInput<'r>, steps: &mut ReadingSteps) -> Reading<'r> {
        match self {
            Self::Native => native::read(input),
            Self::Rasa(signal) => rasa::read(input, signal),
            Self::BotFramework => bot_framework::read(input),
            Self::Mapping(mapping) => mapping.read(input, steps),
        }
    }

    /// Reads a record that no other dialect has recognised, so that its dead letter says what is
    /// missing.
    fn judge<'r>(&self, input: &DialectInput<'r>, steps: &mut ReadingSteps) -> Reading<'r> {
        if *self == Self::Native {
            return native::judge(input);
        }
        let why = match self.read(input, steps) {
            Reading::Unrecognised(why) => why,
            reading => return reading,
        };
        let wanted = match self {
            // Its conditions choose among records of a format that it knows.
            Self::Native | Self::Mapping(_) => None,
            Self::Rasa(_) => Some(rasa::SHAPE),
            Self::BotFramework => Some(bot_framework::SHAPE),
        };
        match (parse::<Map<String, Value>>(input.text, input.headers), wanted) {
            (Err(malformed), _) => Reading::Malformed(malformed),
            (Ok(_), None) => Reading::NotForUs(Skip::new(SkipReason::OtherFormat, why)),
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
    /// It is of another format: why.
    Unrecognised(Why),
    /// It is of this format, and no escalation of ours.
    NotForUs(Skip),
    Malformed(Malformed),
    Escalation(Box<Written<'r>>),
}

impl<'r> Reading<'r> {
    fn unrecognised(why: impl Into<Why>) -> Self {
        Self::Unrecognised(why.into())
    }

    fn not_for_us(why: impl Into<Why>) -> Self {
        Self::NotForUs(Skip::new(SkipReason::NoEscalation, why))
    }

    fn of_other_type(why: impl Into<Why>) -> Self {
        Self::NotForUs(Skip::new(SkipReason::OtherType, why))
    }

    fn malformed(class: MalformedClass, error: String) -> Self {
        Self::Malformed(Malformed { class, error })
    }

    fn escalation(written: Written<'r>) -> Self {
        Self::Escalation(Box::new(written))
    }
}

/// Reads a record in the dialects of the configuration. The first that recognises it decides; if none
/// does, the last one judges it.
pub(super) fn read<'r>(
    input: &DialectInput<'r>,
    rules: &InputRules,
    steps: &mut ReadingSteps,
) -> Reading<'r> {
    if rules.cloudevents {
        let opened = cloudevents::open(input, &rules.cloudevents_types);
        steps.tried(cloudevents::NAME, || match &opened {
            Ok(Opened::OtherFormat) => FormatResult::Unrecognised(cloudevents::SHAPE.to_owned()),
            Ok(Opened::OtherType) => FormatResult::NotForUs(cloudevents::OTHER_TYPE.to_owned()),
            Ok(Opened::Event(_)) => FormatResult::Recognised,
            Err(_) => FormatResult::Malformed,
        });
        match opened {
            Ok(Opened::OtherFormat) => {}
            Ok(Opened::OtherType) => return Reading::of_other_type(cloudevents::OTHER_TYPE),
            Ok(Opened::Event(event)) => {
                steps.recognised(|| cloudevents::NAME.into());
                return (*event).read(rules, steps, |data, steps| read_data(data, rules, steps));
            }
            Err(malformed) => return Reading::Malformed(malformed),
        }
    }
    let Some((last, others)) = rules.dialects.split_last() else {
        return native::judge(input);
    };
    match others.iter().find_map(|dialect| recognised(dialect, input, steps)) {
        Some(reading) => reading,
        None => {
            let reading = last.judge(input, steps);
            steps.tried(last.name(), || FormatResult::of(&reading));
            steps.recognised(|| last.kept_name());
            reading
        }
    }
}

/// Reads the data of a CloudEvent: in a dialect that recognises it, or as an escalation with a session.
/// Other data is judged by the last dialect, as a value without envelope is.
fn read_data<'r>(
    input: &DialectInput<'r>,
    rules: &InputRules,
    steps: &mut ReadingSteps,
) -> DataReading<'r> {
    let native = [Dialect::Native];
    let also = native.iter().filter(|native| !rules.dialects.contains(native));
    let mut dialects = rules.dialects.iter().chain(also);
    match dialects.find_map(|dialect| recognised(dialect, input, steps)) {
        Some(reading) => DataReading::Recognised(reading),
        None => {
            let last = rules.dialects.last().unwrap_or(&Dialect::Native);
            // Its steps are reported already.
            DataReading::Judged(last.judge(input, &mut ReadingSteps::default()))
        }
    }
}

fn recognised<'r>(
    dialect: &Dialect,
    input: &DialectInput<'r>,
    steps: &mut ReadingSteps,
) -> Option<Reading<'r>> {
    let reading = dialect.read(input, steps);
    steps.tried(dialect.name(), || FormatResult::of(&reading));
    match reading {
        Reading::Unrecognised(_) => None,
        reading => {
            steps.recognised(|| dialect.kept_name());
            Some(reading)
        }
    }
}

impl FormatResult {
    fn of(reading: &Reading<'_>) -> Self {
        match reading {
            Reading::Unrecognised(why) => Self::Unrecognised(why.to_string()),
            Reading::NotForUs(skip) => Self::NotForUs(skip.why.to_string()),
            Reading::Malformed(_) => Self::Malformed,
            Reading::Escalation(_) => Self::Recognised,
        }
    }
}

/// Reads the value as a JSON object; `None`: it is none.
fn object(input: &DialectInput<'_>) -> Option<Parsed<Map<String, Value>>> {
    parse(input.text, input.headers).ok()
}
