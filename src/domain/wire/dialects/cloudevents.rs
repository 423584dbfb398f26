//! CloudEvents 1.0 in both modes of the Kafka binding: structured (the value is the envelope) and binary
//! (the attributes are headers named `ce_..`, the value is the data).
//!
//! The checks of [`open`] have a fixed order, which is made for what the SDKs really send: headers in
//! other case, an envelope without its content type. The data is read in the configured dialects, and
//! the attributes complete what it does not say.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{DialectInput, Reading};
use crate::domain::event::{Correlation, Malformed, MalformedClass};
use crate::domain::record::Header;
use crate::domain::wire::escalation::fields::{cut, quoted};
use crate::domain::wire::escalation::written::{Written, joined_identity};
use crate::domain::wire::headers::{self, text_header};
use crate::domain::wire::input::InputRules;
use crate::domain::wire::reading::{ReadingSteps, Skip, SkipReason};
use crate::domain::wire::repair;
use crate::domain::wire::unwrap::{Unwrapped, unwrap};

/// Why a record is no CloudEvent, and why one is not for us.
pub(super) const SHAPE: &str =
    "specversion, id, type and source are neither members nor headers `ce_..`";
const OTHER_CHANGE: &str = "its data is a change of a table that is no new row";
/// Its name in the steps of a reading and in the metric.
pub(in crate::domain::wire) const NAME: &str = "cloudevents";
pub(super) const OTHER_TYPE: &str = "its type is not in input.cloudevents_types";

/// How the names of the headers of binary mode begin.
const PREFIX: &str = "ce_";

/// How the media type of structured mode begins; that of a batch begins so, too.
const MEDIA_TYPE: &str = "application/cloudevents";
const BATCH: &str = "application/cloudevents-batch";

/// The attributes that every CloudEvent has.
const REQUIRED: [&str; 4] = ["specversion", "id", "type", "source"];

/// The longest `id` and `correlationid` that are copied to the outcome, in bytes.
const MAX_CORRELATION_BYTES: usize = 256;

const SUBJECT_RULE: &str = "the subject of a CloudEvent counts only where `input.cloudevents_types` \
                            names its type, or a dialect recognises its data";

/// What a record is.
pub(super) enum Opened {
    /// No CloudEvent.
    OtherFormat,
    /// A CloudEvent of a type that is not an escalation.
    OtherType,
    /// A CloudEvent.
    Event(Box<CloudEvent>),
}

/// What the dialects make of the data of a CloudEvent.
pub(super) enum DataReading<'r> {
    /// A dialect has recognised it, or it is an escalation with a session.
    Recognised(Reading<'r>),
    /// No dialect has recognised it; this is what the last one says.
    Judged(Reading<'r>),
}

/// A CloudEvent without its envelope.
pub(super) struct CloudEvent {
    attributes: Attributes,
    /// The configuration names its type, and not only accepts every type.
    is_listed: bool,
    /// `None`: absent, null or empty.
    data: Option<Vec<u8>>,
    /// The record's headers, and in structured mode the attributes as in binary mode.
    headers: Vec<Header>,
    key: Option<Vec<u8>>,
    types: Vec<String>,
    is_repaired: bool,
}

/// The attributes and extensions, and what was left out of them.
#[derive(Default)]
struct Attributes {
    values: BTreeMap<String, Value>,
    notes: Vec<String>,
}

fn malformed<T>(class: MalformedClass, error: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed { class, error: error.into() })
}

/// Opens a record that is a CloudEvent; empty `accepted`: every type is an escalation.
pub(super) fn open(input: &DialectInput<'_>, accepted: &[String]) -> Result<Opened, Malformed> {
    let Some(envelope) = CloudEventParts::of(input)? else { return Ok(Opened::OtherFormat) };
    // First: an event of another type may have any fault, but one without a type may be ours.
    let kind = envelope.attributes.required("type")?;
    if !accepted.is_empty() && !accepted.contains(&kind) {
        return Ok(Opened::OtherType);
    }
    for name in REQUIRED {
        envelope.attributes.required(name)?;
    }
    let data = envelope.data()?;
    let mut headers = input.headers.to_vec();
    if envelope.is_structured {
        let texts = envelope.attributes.values.keys().filter_map(|name| {
            Some(text_header(&format!("{PREFIX}{name}"), &envelope.attributes.text(name)?))
        });
        headers.extend(texts.collect::<Vec<_>>());
    }
    Ok(Opened::Event(Box::new(CloudEvent {
        is_listed: !accepted.is_empty(),
        data,
        headers,
        key: input.key.map(<[u8]>::to_vec),
        types: input.types.to_vec(),
        is_repaired: envelope.is_repaired,
        attributes: envelope.attributes,
    })))
}

/// The parts of a CloudEvent in either mode.
struct CloudEventParts {
    attributes: Attributes,
    data: Option<Vec<u8>>,
    data_base64: Option<Value>,
    is_structured: bool,
    is_repaired: bool,
}

impl CloudEventParts {
    /// Decides whether a record is a CloudEvent, and in which mode.
    fn of(input: &DialectInput<'_>) -> Result<Option<Self>, Malformed> {
        let media_type = content_type(input.headers);
        if media_type.starts_with(BATCH) {
            let error = "the value is a batch of CloudEvents; publish a record for each of them";
            return malformed(MalformedClass::BatchNotSupported, error);
        }
        if let Some(format) = media_type.strip_prefix(MEDIA_TYPE) {
            if !["", "+json"].contains(&format) {
                let error = format!("the CloudEvent is {media_type}; allowed is JSON");
                return malformed(MalformedClass::EventFormat, error);
            }
            return match Self::structured(input.text) {
                Some(envelope) => Ok(Some(envelope)),
                None => malformed(MalformedClass::NotJson, "the CloudEvent is no JSON object"),
            };
        }
        if let Some(attributes) = attributes_in_headers(input.headers) {
            let data = Some(input.text.to_vec()).filter(|data| !data.is_empty());
            return Ok(Some(Self {
                attributes,
                data,
                data_base64: None,
                is_structured: false,
                is_repaired: false,
            }));
        }
        let has_mark = memmem::find(input.text, b"\"specversion\"").is_some();
        let envelope = if has_mark { Self::structured(input.text) } else { None };
        let is_event = |envelope: &Self| {
            let text =
                |name: &str| envelope.attributes.values.get(name).is_some_and(Value::is_string);
            text("specversion") && REQUIRED.iter().all(|name| envelope.attributes.has(name))
        };
        Ok(envelope.filter(is_event))
    }

    /// Reads an envelope; `None`: the text is no JSON object.
    fn structured(text: &[u8]) -> Option<Self> {
        match members(text) {
            Ok(envelope) => Some(envelope),
            Err(_) => {
                let envelope = members(repair::repaired(text).as_bytes()).ok()?;
                Some(Self { is_repaired: true, ..envelope })
            }
        }
    }

    /// Returns the data as JSON, perhaps in envelopes; `None`: there is none.
    fn data(&self) -> Result<Option<Vec<u8>>, Malformed> {
        let data = match (&self.data, &self.data_base64) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                let error = "the CloudEvent has both data and data_base64";
                return malformed(MalformedClass::BadCloudEvent, error);
            }
            (Some(data), None) => data.clone(),
            (None, Some(base64)) => {
                let decoded = base64.as_str().and_then(|text| STANDARD.decode(text.trim()).ok());
                let Some(decoded) = decoded else {
                    let error = format!("data_base64 is no base64: {}", quoted(base64));
                    return malformed(MalformedClass::BadCloudEvent, error);
                };
                repair::trimmed(&decoded).to_vec()
            }
        };
        let first = data.trim_ascii_start().first();
        let content_type = self.attributes.text("datacontenttype").unwrap_or_default();
        let is_json = content_type.is_empty() || is_json(&media_type(&content_type));
        match first {
            // 0: the frame of a schema registry.
            Some(b'{' | b'[' | 0) => Ok(Some(data)),
            Some(b'"') if is_json => {
                let error = "the data of the CloudEvent is a text, which is not parsed again; send it \
                             as an object";
                malformed(MalformedClass::NotAnObject, error)
            }
            _ if !is_json => {
                let error =
                    format!("the data of the CloudEvent is {content_type}; allowed is JSON");
                malformed(MalformedClass::NotJson, error)
            }
            _ => Ok(Some(data)),
        }
    }
}

/// Reads the members of an envelope. A doubled member: the last one counts.
fn members(text: &[u8]) -> serde_json::Result<CloudEventParts> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(text)?;
    let mut attributes = Attributes::default();
    let (mut data, mut data_base64) = (None, None);
    for (name, raw) in members {
        // `null` is the same as absent.
        if raw.get() == "null" {
            continue;
        }
        match name.as_str() {
            "data" => data = Some(raw.get().as_bytes().to_vec()),
            "data_base64" => data_base64 = Some(serde_json::from_str(raw.get())?),
            _ => drop(attributes.values.insert(name, serde_json::from_str(raw.get())?)),
        }
    }
    Ok(CloudEventParts { attributes, data, data_base64, is_structured: true, is_repaired: false })
}

/// Whether a record is a CloudEvent in binary mode, so that its value is the data.
pub(in crate::domain::wire) fn is_binary(headers: &[Header]) -> bool {
    let has = |wanted: &str| {
        let mut names = headers.iter().filter(|(_, value)| value.is_some());
        names.any(|(name, _)| attribute(name).is_some_and(|own| own.eq_ignore_ascii_case(wanted)))
    };
    REQUIRED.iter().all(|name| has(name)) && !content_type(headers).starts_with(MEDIA_TYPE)
}

/// Returns the name of the attribute that is in a header of this name, in any case.
fn attribute(header: &str) -> Option<&str> {
    let (prefix, name) = header.split_at_checked(PREFIX.len())?;
    prefix.eq_ignore_ascii_case(PREFIX).then_some(name)
}

/// Returns the attributes of binary mode; `None` where one that is required has no header.
fn attributes_in_headers(headers: &[Header]) -> Option<Attributes> {
    let mut attributes = Attributes::default();
    for (header, value) in headers {
        let (Some(name), Some(value)) = (attribute(header), value) else { continue };
        let name = name.to_lowercase();
        if attributes.values.contains_key(&name) {
            let header = cut(header);
            attributes
                .notes
                .push(format!("{header} ignored: it is there twice, and the first counts"));
            continue;
        }
        match std::str::from_utf8(value) {
            Ok(text) => drop(attributes.values.insert(name, text.into())),
            // It is there, and `check` refuses it.
            Err(_) if REQUIRED.contains(&name.as_str()) => {
                drop(attributes.values.insert(name, Value::Null));
            }
            Err(_) => {
                attributes.notes.push(format!("{} ignored: it is not UTF-8", cut(header)));
            }
        }
    }
    if !REQUIRED.iter().all(|name| attributes.values.contains_key(*name)) {
        return None;
    }
    // The JavaScript SDK sends both; this one is the standard's.
    if let Some(content_type) = first_header(headers, headers::CONTENT_TYPE) {
        attributes.values.insert("datacontenttype".to_owned(), content_type.into());
    }
    Some(attributes)
}

impl Attributes {
    fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Returns an attribute as text; numbers and booleans, which extensions may be, as written.
    fn text(&self, name: &str) -> Option<String> {
        match self.values.get(name)? {
            Value::String(text) => Some(text.clone()),
            value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
            _ => None,
        }
    }

    /// Returns an attribute that every CloudEvent has.
    fn required(&self, name: &str) -> Result<String, Malformed> {
        let text = self.text(name).unwrap_or_default();
        if text.trim().is_empty() {
            let error = match self.values.get(name) {
                None => format!("the CloudEvent has no {name}"),
                // Only a header can be there and be null.
                Some(Value::Null) => format!("{name} of the CloudEvent is not UTF-8"),
                Some(value) => format!(
                    "{name} of the CloudEvent is {}; allowed is a text that is not empty",
                    quoted(value)
                ),
            };
            return malformed(MalformedClass::BadCloudEvent, error);
        }
        if name == "specversion" && !text.starts_with("1.") {
            let error = format!("specversion of the CloudEvent is {text:?}; allowed is 1.0");
            return malformed(MalformedClass::BadCloudEvent, error);
        }
        Ok(text)
    }
}

impl CloudEvent {
    /// Reads the data, and completes by the attributes what it does not say. The subject is the session
    /// only of what the configuration names as an escalation, by its type or by a dialect that accepts
    /// the data: nearly every CloudEvent has a subject.
    pub(super) fn read<'r>(
        mut self,
        rules: &InputRules,
        steps: &mut ReadingSteps,
        read_data: impl for<'d> FnOnce(&DialectInput<'d>, &mut ReadingSteps) -> DataReading<'d>,
    ) -> Reading<'r> {
        let data = match self.data.take() {
            Some(data) if rules.unwrap => match unwrap(&data, steps) {
                Ok(Some(Unwrapped { text, is_repaired })) => {
                    self.is_repaired |= is_repaired;
                    Some(text.into_owned())
                }
                Ok(None) => return Reading::not_for_us(OTHER_CHANGE),
                Err(malformed) => return Reading::Malformed(malformed),
            },
            data => data,
        };
        let input = DialectInput {
            // Nothing is said in no data; a mapping may find all it needs in the attributes.
            text: data.as_deref().unwrap_or(b"{}"),
            key: self.key.as_deref(),
            headers: &self.headers,
            types: &self.types,
        };
        let (reading, is_recognised) = match read_data(&input, steps) {
            DataReading::Recognised(reading) => (reading, true),
            DataReading::Judged(reading) => (reading, false),
        };
        let mut written = match reading {
            Reading::Escalation(written) => written.detached(),
            Reading::NotForUs(skip) => return Reading::NotForUs(skip),
            Reading::Unrecognised(why) => {
                return Reading::NotForUs(Skip::new(SkipReason::OtherFormat, why));
            }
            Reading::Malformed(malformed) => return Reading::Malformed(malformed),
        };
        let subject = self.attributes.values.remove("subject");
        if written.fields.session_id.is_none() {
            match (&subject, &data) {
                (Some(_), _) => written.session_help.add(SUBJECT_RULE),
                (None, None) => {
                    written.session_help.add("the CloudEvent has no data and no subject");
                }
                (None, Some(_)) => {}
            }
            written.fields.session_id = subject.filter(|_| self.is_listed || is_recognised);
        }
        Reading::escalation(self.complete(written))
    }

    fn complete(self, mut written: Written<'_>) -> Written<'_> {
        let Self { mut attributes, is_repaired, .. } = self;
        let text = |name: &str| attributes.text(name);
        let (id, source) = (text("id").unwrap_or_default(), text("source").unwrap_or_default());
        let correlation_id = text("correlationid");
        written.trace = [headers::TRACEPARENT, headers::TRACESTATE]
            .into_iter()
            .filter_map(|name| Some(text_header(name, &text(name)?)))
            .collect();
        let fields = &mut written.fields;
        // The source makes the id unique.
        fields.id = Some(joined_identity(&source, &id).into());
        for (field, name) in
            [(&mut fields.requested_at, "time"), (&mut fields.expires_at, "expirytime")]
        {
            if field.is_none() {
                *field = attributes.values.remove(name);
            }
        }
        let is_sound = |text: &String| {
            text.len() <= MAX_CORRELATION_BYTES && !text.chars().any(char::is_control)
        };
        written.correlation = Correlation {
            cloudevent_id: Some(id).filter(is_sound),
            correlation_id: correlation_id.filter(is_sound),
            ..std::mem::take(&mut written.correlation)
        };
        written.is_repaired |= is_repaired;
        written.notes.append(&mut attributes.notes);
        written
    }
}

/// Returns the first header of this name, in any case, where it is text.
fn first_header<'h>(headers: &'h [Header], name: &str) -> Option<&'h str> {
    let (_, value) = headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(value.as_deref()?).ok()
}

fn content_type(headers: &[Header]) -> String {
    media_type(first_header(headers, headers::CONTENT_TYPE).unwrap_or_default())
}

/// Returns a media type without its parameters; it is compared without regard to case.
fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_lowercase()
}

fn is_json(media_type: &str) -> bool {
    media_type.ends_with("/json") || media_type.ends_with("+json")
}
