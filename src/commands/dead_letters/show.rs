//! `handoff dead-letters show`.

use std::borrow::Cow;

use anstyle::Style;

use super::plan::Planned;
use super::topic::{DeadLetterTopic, FoundLetter};
use super::{SelectionArgs, ShowArgs, default_rules};
use crate::adapters::kafka::KafkaSettings;
use crate::commands::lines::{StdoutLines, sanitize, styled};
use crate::commands::{Failure, print};

/// The longest part of the value that is shown, in characters.
const MAX_VALUE_CHARS: usize = 4_000;

/// Shows a dead letter.
pub(super) fn show(args: &ShowArgs, settings: &KafkaSettings) -> Result<(), Failure> {
    let all = SelectionArgs {
        positions: vec![args.position.clone()],
        classes: vec![],
        since: None,
        until: None,
        partitions: vec![],
    };
    let topic = DeadLetterTopic::open(settings, &all)?;
    let Some(FoundLetter { record, is_replayed }) = topic.at(&args.position)? else {
        return Err(Failure::Findings(format!("there is no dead letter at {}", args.position)));
    };
    if args.value {
        return print(record.value.as_deref().unwrap_or_default());
    }
    let mut lines = StdoutLines::new();
    let mut put = |name: &str, text: &str| {
        let name = styled(Style::new().bold(), &format!("{:<26}", sanitize(name)));
        lines.put(&format!("{name}{}", sanitize(text)))
    };
    put("dead letter", &record.position.to_string())?;
    put("published", &record.timestamp.map(|at| at.to_string()).unwrap_or_default())?;
    put("state", &Planned::of(record.clone(), is_replayed, default_rules()).words())?;
    put("key", &text(record.key.as_deref()))?;
    for (name, value) in &record.headers {
        put(name, &text(value.as_deref()))?;
    }
    let value = text(record.value.as_deref());
    put("value", &value.chars().take(MAX_VALUE_CHARS).collect::<String>())?;
    if value.chars().count() > MAX_VALUE_CHARS {
        put("", "(cut: see --value)")?;
    }
    Ok(())
}

fn text(bytes: Option<&[u8]>) -> Cow<'_, str> {
    bytes.map_or("null".into(), String::from_utf8_lossy)
}
