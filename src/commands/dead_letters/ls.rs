//! `handoff dead-letters ls`.

use std::ops::ControlFlow;

use anstyle::AnsiColor;
use serde_json::json;

use super::plan::{Planned, ReplayPlan, class};
use super::topic::{DeadLetterTopic, FoundLetter};
use super::{LsArgs, default_rules};
use crate::adapters::kafka::KafkaSettings;
use crate::commands::Failure;
use crate::commands::lines::{StdoutLines, print_error};
use crate::commands::table::{Cell, Table};
use crate::domain::wire::dead_letter::DeadLetter;

const COLUMNS: &[&str] = &["DEAD LETTER", "TIME", "CLASS", "STATE", "SOURCE", "ERROR"];

/// Lists the dead letters, and counts them on standard error.
pub(super) fn ls(args: &LsArgs, settings: &KafkaSettings) -> Result<(), Failure> {
    let topic = DeadLetterTopic::open(settings, &args.selection)?;
    let (mut table, mut lines) = (Table::new(COLUMNS), StdoutLines::new());
    let mut plan = ReplayPlan::default();
    let mut written = Ok(());
    topic.read(|FoundLetter { record, is_replayed }| {
        let (read, class) = (DeadLetter::read(&record.headers), class(&record));
        let (position, timestamp) = (record.position.clone(), record.timestamp);
        let planned = Planned::of(record, is_replayed, default_rules());
        let state = planned.words();
        plan.add(class.clone(), &planned);
        let source = read.source();
        written = if args.json {
            let object = json!({
                "dead_letter": position, "at": timestamp, "class": class, "state": state,
                "source": source, "error": read.error, "first_seen": read.first_seen,
            });
            lines.put_raw(object.to_string().as_bytes())
        } else {
            let row = vec![
                Cell::new(position.to_string()),
                Cell::new(timestamp.map(|at| format!("{at:.0}")).unwrap_or_default()),
                Cell::styled(AnsiColor::Red.on_default(), &class),
                Cell::new(&state),
                Cell::new(source.map(|source| source.to_string()).unwrap_or_default()),
                Cell::new(read.error.unwrap_or_default()),
            ];
            let header = table.fit([&row].into_iter());
            let header = header.map_or(Ok(()), |header| lines.put(&header));
            header.and_then(|()| lines.put(&table.line(&row)))
        };
        match &written {
            Ok(()) if !lines.is_closed() => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    })?;
    written?;
    plan.lines().iter().for_each(|line| print_error(line));
    Ok(())
}
