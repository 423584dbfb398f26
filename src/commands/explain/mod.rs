//! `handoff explain`: what would be done with a record, and why.
//!
//! The record is read, routed and called for by the code that the service runs
//! ([`explain`](crate::domain::explanation::explain)). Nothing is published, called or stored, and the
//! ledger is not asked. `text` shows the result.

mod text;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;

use super::lines::StdoutLines;
use super::values::parse_timestamp;
use super::{Failure, load_for_tools, start_log_of_warnings};
use crate::adapters::kafka::{KafkaSettings, RangeReader};
use crate::clock::Clock;
use crate::domain::explanation::{self, Conclusion, RecordToExplain, explain};
use crate::domain::record::{Header, Position, Record};

/// How long to wait for a broker.
const TIMEOUT: Duration = Duration::from_secs(30);

const EXAMPLES: &str = "\
Examples:
  handoff --config handoff.toml explain event.json
  kcat -C -t rasa_core_events -c 1 | handoff --config handoff.toml explain -
  handoff explain event.json --header ce_type=com.example.handoff --now 2026-11-27T18:00:00Z
  handoff --config handoff.toml explain --at handoff.escalations/3/4211

A file holds the value of one record, as it is in the topic. Its timestamp is taken to be --now.
With --at the record is read from Kafka, with its key, headers and timestamp; one that was written
long ago is past its deadline by now: --now shows what was done with it then. The ledger is not
asked: a repetition of an id that was answered is not told apart. No secret of Desk is needed.

Exit codes: 0 Desk would be called, now or when the route opens; 1 it would not: a dead letter,
rejected, expired, outside the hours, not for us; 2 usage, or no such record; 69 Kafka cannot be
read; 78 bad configuration.";

/// Show what would be done with a record, and why
///
/// Which envelopes and formats it has, the fields that are read, each route and why it is used or
/// not, the targets in their order with the exact requests to Desk, and what follows while nobody is
/// online. Nothing is published or called; only --at uses the network.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("record").args(["file", "at"]).required(true))]
pub(crate) struct ExplainArgs {
    /// A file with the value of a record; - for standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Read this record from Kafka
    #[arg(long, value_name = "TOPIC/PARTITION/OFFSET", value_parser = parse_position)]
    #[arg(conflicts_with_all = ["key", "headers"])]
    at: Option<Position>,

    /// The key of the record
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// A header of the record; repeat for more
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = parse_header)]
    headers: Vec<Header>,

    /// The time at which the record would be read; now by default
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    now: Option<Timestamp>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) async fn run(
    args: ExplainArgs,
    file: Option<&Path>,
    env: Vec<(String, String)>,
) -> Result<(), Failure> {
    let config = load_for_tools(file, env)?;
    start_log_of_warnings();
    let now = args.now.unwrap_or_else(|| Clock::system().now());
    let has_position = args.at.is_some();
    let record = match &args.at {
        Some(position) => {
            config.kafka.verify_consumer().map_err(Failure::Configuration)?;
            let (settings, position) = (config.kafka.clone(), position.clone());
            let read = tokio::task::spawn_blocking(move || record_at(&settings, &position));
            read.await.map_err(|error| Failure::Bug(error.into()))??
        }
        None => record_of(&args, &config.kafka.topics.escalations, now).map_err(Failure::Usage)?,
    };
    let explained = explain(&record, &config.rules, &config.policy, now);
    let shown = RecordToExplain { record, has_position, now };
    let mut lines = StdoutLines::new();
    if args.json {
        lines.put_raw(explanation::object(&shown, &explained).to_string().as_bytes())?;
    } else {
        let text = text::lines(&shown, &explained);
        text.iter().try_for_each(|line| lines.put(line))?;
    }
    let conclusion = Conclusion::of(&explained);
    if conclusion.is_called { Ok(()) } else { Err(Failure::Findings(conclusion.text)) }
}

/// The record that the arguments describe.
fn record_of(args: &ExplainArgs, topic: &str, now: Timestamp) -> anyhow::Result<Record> {
    let mut value = Vec::new();
    match args.file.as_deref().filter(|path| path.as_os_str() != "-") {
        Some(path) => {
            let shown = path.display();
            value = std::fs::read(path).with_context(|| format!("failed to read {shown}"))?;
        }
        None => {
            let read = std::io::stdin().lock().read_to_end(&mut value);
            read.context("failed to read standard input")?;
        }
    }
    Ok(Record {
        position: Position { topic: topic.into(), partition: -1, offset: -1 },
        timestamp: Some(now),
        key: args.key.as_ref().map(|key| key.clone().into_bytes()),
        value: Some(value),
        headers: args.headers.clone(),
    })
}

fn record_at(settings: &KafkaSettings, position: &Position) -> Result<Record, Failure> {
    let Position { topic, partition, offset } = position;
    let reader = RangeReader::open(settings, topic, TIMEOUT).map_err(Failure::Unavailable)?;
    let Some(range) = reader.ranges().get(partition).cloned() else {
        return Err(Failure::Usage(anyhow!("{topic} has no partition {partition}")));
    };
    let record = reader.record_at(*partition, *offset).map_err(Failure::Unavailable)?;
    record.filter(|record| record.position.offset == *offset).ok_or_else(|| {
        let (first, end) = (range.start, range.end);
        Failure::Usage(anyhow!(
            "there is no record {position}: the partition has the offsets from {first} to before \
             {end}, and some of them may be compacted or control records"
        ))
    })
}

/// Parses `topic/3/4211`.
fn parse_position(text: &str) -> Result<Position, String> {
    let parse = || {
        let (rest, offset) = text.rsplit_once('/')?;
        let (topic, partition) = rest.rsplit_once('/')?;
        let partition = partition.parse().ok().filter(|partition| *partition >= 0)?;
        let offset = offset.parse().ok().filter(|offset| *offset >= 0)?;
        (!topic.is_empty()).then(|| Position { topic: topic.into(), partition, offset })
    };
    parse().ok_or_else(|| "it must be TOPIC/PARTITION/OFFSET, as handoff.escalations/3/4211".into())
}

fn parse_header(text: &str) -> Result<Header, String> {
    let (name, value) = text.split_once('=').ok_or("it must be NAME=VALUE")?;
    Ok((name.to_owned(), Some(value.as_bytes().to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_outcomes_write_it() {
        let position = Position { topic: "a/b".into(), partition: 3, offset: 4211 };
        assert_eq!(parse_position(&position.to_string()), Ok(position));
        for wrong in ["", "t", "t/1", "t/x/1", "t/1/x", "t/-1/1", "t/1/-1", "/1/1"] {
            assert!(parse_position(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_header("a=b=c"), Ok(("a".into(), Some(b"b=c".to_vec()))));
        assert!(parse_header("a").is_err());
    }
}
