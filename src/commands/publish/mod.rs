//! `handoff publish`: publish escalations that the service will accept.
//!
//! Each escalation is first examined with the service's own decoder. One that the service would
//! refuse is reported and left out; the others are published in the order of the input. A record
//! is reported as published only after the broker has acknowledged it.

mod escalation;
mod examination;
mod input;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use serde::Serialize;

use self::escalation::EscalationArgs;
use self::examination::Examination;
use self::input::{EscalationInput, InputItem};
use super::lines::{StdoutLines, print_error, sanitize};
use super::{Failure, load_for_tools, start_log_of_warnings};
use crate::adapters::kafka::{self, OutgoingRecord, PublishReceipt, RecordPublisher};
use crate::clock::Clock;
use crate::domain::record::Position;
use crate::domain::wire::escalation::DecodeRules;
use crate::domain::wire::headers;

/// How many records may await their acknowledgement at once.
const MAX_IN_FLIGHT: usize = 1_000;
/// How long to wait for a broker, and for its acknowledgement.
const TIMEOUT: Duration = Duration::from_secs(30);

const EXAMPLES: &str = "\
Examples:
  handoff publish --session fd8a2e30-... --reason user_requested
  handoff publish --session s-1 --id evt-1 --group 2473 --agent anna@example.com --priority 0 \\
      --expires-in 5m --attribute lang=de --option send_tip_if_no_agent_online
  handoff publish escalations.ndjson
  jq -c '.[]' export.json | handoff publish -

An escalation in a file or on standard input is a JSON object; only session_id is required:
  {\"id\": \"evt-1\", \"session_id\": \"s-1\", \"expires_at\": \"2026-11-23T10:05:00Z\",
   \"target\": {\"agents\": [\"anna@example.com\"], \"group\": 2473, \"strict\": false},
   \"priority\": 3, \"attributes\": {\"lang\": \"de\"}, \"options\": {\"disable_queuing\": true}}

The record key is the session id, so that the escalations of one session keep their order. Without
an id, the position of the record is the identity, and publishing the same file twice requests two
transfers. Each published record is a line on standard output: topic/partition/offset, event id,
session.

The first record takes about half a second: the producer is idempotent, and librdkafka asks for its
id with a timer of 500 ms. The record's timestamp and --expires-in count from the end of that.

Exit codes: 0 all published, 2 some refused (the others are published), 69 Kafka did not
acknowledge all of them, 78 bad configuration.";

/// Publish escalations
///
/// Reads arguments, a file or standard input: a JSON object, an array of objects, or one object per
/// line. A line of standard input is published as soon as it is read. Escalations that the service
/// would refuse are reported and not published. Only the kafka section of the configuration is
/// needed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
#[command(group = clap::ArgGroup::new("source").args(["file", "session"]).required(true))]
pub(crate) struct PublishArgs {
    /// A file with escalations; - for standard input
    #[arg(value_name = "FILE", conflicts_with_all = EscalationArgs::IDS)]
    file: Option<PathBuf>,

    #[command(flatten)]
    escalation: EscalationArgs,

    /// Also publish escalations that the service will refuse
    #[arg(long)]
    unchecked: bool,

    /// Print a JSON object for each published record
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) async fn run(
    args: PublishArgs,
    file: Option<&Path>,
    env: Vec<(String, String)>,
) -> Result<(), Failure> {
    args.escalation.check().map_err(Failure::Usage)?;
    let config = load_for_tools(file, env)?;
    start_log_of_warnings();
    let input = match &args.file {
        Some(path) if path.as_os_str() == "-" => EscalationInput::stdin(),
        Some(path) => EscalationInput::file(path).await.map_err(Failure::Usage)?,
        None => EscalationInput::from_arguments(args.escalation.to_json(Clock::system().now())),
    };
    config.kafka.verify_producer().map_err(Failure::Configuration)?;
    let mut run = PublishRun {
        rules: config.rules,
        settings: config.kafka,
        publisher: None,
        args,
        lines: StdoutLines::new(),
        counts: PublishCounts::default(),
    };
    let result = run.publish_all(input).await;
    let counts = run.counts;
    let summary = counts.summary(&run.settings.topics.escalations);
    if result.is_err() && counts.published > 0 {
        // They are in the topic, although standard output may not say so.
        print_error(&summary);
    }
    result?;
    // An unacknowledged record decides the exit code: it may have to be published again.
    match counts {
        PublishCounts { unacknowledged: 1.., .. } => {
            Err(Failure::Unavailable(anyhow!("{summary}")))
        }
        PublishCounts { refused: 1.., .. } => Err(Failure::Usage(anyhow!("{summary}"))),
        _ => {
            print_error(&summary);
            Ok(())
        }
    }
}

/// Returns a producer that can send at once.
async fn connect(settings: &kafka::KafkaSettings) -> Result<RecordPublisher, Failure> {
    check_topic(settings).await.map_err(Failure::Unavailable)?;
    let publisher = RecordPublisher::start(settings, TIMEOUT).map_err(Failure::Configuration)?;
    publisher.warm_up().await;
    Ok(publisher)
}

/// Fails if the topic does not exist. Without this check the error would come only after the
/// timeout of the first acknowledgement.
async fn check_topic(settings: &kafka::KafkaSettings) -> anyhow::Result<()> {
    let (owned, topic) = (settings.clone(), &settings.topics.escalations);
    let query = move || kafka::partition_count(&owned, &owned.topics.escalations, TIMEOUT);
    let partitions = tokio::task::spawn_blocking(query).await??;
    partitions.map(drop).with_context(|| {
        format!("there is no topic {topic}: create it, or see kafka.escalations_topic")
    })
}

/// The number of escalations by their result.
#[derive(Debug, Clone, Copy, Default)]
struct PublishCounts {
    published: usize,
    refused: usize,
    unacknowledged: usize,
}

impl PublishCounts {
    fn summary(&self, topic: &str) -> String {
        let Self { published, refused, unacknowledged } = self;
        let mut text = format!("{published} published to {topic}");
        if *refused > 0 {
            text.push_str(&format!(
                ", {refused} refused (see above; --unchecked publishes them too)"
            ));
        }
        if *unacknowledged > 0 {
            text.push_str(&format!(", {unacknowledged} not acknowledged"));
        }
        text
    }
}

struct PublishRun {
    rules: DecodeRules,
    settings: kafka::KafkaSettings,
    /// Started with the first escalation that is published.
    publisher: Option<RecordPublisher>,
    args: PublishArgs,
    lines: StdoutLines,
    counts: PublishCounts,
}

impl PublishRun {
    /// Examines and enqueues the items, and reports acknowledgements in the same order.
    async fn publish_all(&mut self, mut input: EscalationInput) -> Result<(), Failure> {
        // Receipts are awaited in the order of the input, so that the lines of standard output are
        // in that order too.
        let mut receipts = FuturesOrdered::new();
        let mut in_flight = VecDeque::new();
        let mut input_ended = false;
        while !input_ended || !in_flight.is_empty() {
            tokio::select! {
                item = input.next(), if !input_ended && in_flight.len() < MAX_IN_FLIGHT => {
                    match item.map_err(Failure::Usage)? {
                        None => input_ended = true,
                        Some(item) => {
                            if let Some((examined, receipt)) = self.enqueue(item).await? {
                                in_flight.push_back(examined);
                                receipts.push_back(receipt.acknowledged());
                            }
                        }
                    }
                }
                Some(result) = receipts.next() => {
                    let examined = in_flight.pop_front().unwrap_or_default();
                    self.report(&examined, result)?;
                }
            }
        }
        Ok(())
    }

    /// Examines an item and enqueues it. `None` if it was refused or could not be enqueued.
    async fn enqueue(
        &mut self,
        item: InputItem,
    ) -> Result<Option<(Examination, PublishReceipt)>, Failure> {
        let examined = examination::examine(&item, &self.rules, Clock::system().now());
        let origin = origin(item.line);
        if let Some(fault) = &examined.fault {
            let consequence =
                if self.args.unchecked { "published anyway" } else { "not published" };
            let place = self::origin(examined.fault_line.or(item.line));
            print_error(&format!("{place}: {}; {consequence}", sanitize(fault)));
            if !self.args.unchecked {
                self.counts.refused += 1;
                return Ok(None);
            }
        }
        for note in &examined.notes {
            print_error(&format!("{origin}: {}", sanitize(note)));
        }
        for field in &examined.ignored {
            print_error(&format!("{origin}: {}", sanitize(&field.to_string())));
        }
        // Connect on first use: a run without valid escalations needs no broker.
        let publisher = match &mut self.publisher {
            Some(publisher) => publisher,
            none => none.insert(connect(&self.settings).await?),
        };
        let value = match item.line {
            Some(_) => item.value,
            // Connecting took time: --expires-in counts from now, as the record's timestamp does.
            None => self.args.escalation.to_json(Clock::system().now()),
        };
        let record = OutgoingRecord {
            topic: self.settings.topics.escalations.clone(),
            // Kafka keeps the order within a partition, and the key decides the partition.
            key: examined.session_id.as_ref().map(|session| session.as_bytes().to_vec()),
            value,
            headers: vec![(headers::CONTENT_TYPE.to_owned(), Some(b"application/json".to_vec()))],
        };
        match publisher.enqueue(&record).await {
            Ok(receipt) => Ok(Some((examined, receipt))),
            Err(error) => {
                self.count_unacknowledged(&examined, &error);
                Ok(None)
            }
        }
    }

    fn report(
        &mut self,
        examined: &Examination,
        result: anyhow::Result<Position>,
    ) -> Result<(), Failure> {
        match result {
            Ok(position) => {
                self.counts.published += 1;
                self.print(examined, &position)
            }
            Err(error) => {
                self.count_unacknowledged(examined, &error);
                Ok(())
            }
        }
    }

    fn count_unacknowledged(&mut self, examined: &Examination, error: &anyhow::Error) {
        self.counts.unacknowledged += 1;
        print_error(&format!("{}: {error:#}", origin(examined.line)));
    }

    fn print(&mut self, examined: &Examination, position: &Position) -> Result<(), Failure> {
        let text = position.to_string();
        let id = examined.event_id.as_deref().unwrap_or(&text);
        let session = examined.session_id.as_deref();
        if !self.args.json {
            let (id, session) = (sanitize(id), sanitize(session.unwrap_or("-")));
            return self.lines.put(&format!("{text}  {id}  {session}"));
        }
        let published = PublishedLine { source: position, event_id: id, session_id: session };
        let json = serde_json::to_vec(&published).map_err(|error| Failure::Bug(error.into()))?;
        self.lines.put_raw(&json)
    }
}

/// Names the input of an escalation in messages.
fn origin(line: Option<usize>) -> String {
    line.map_or("arguments".to_owned(), |line| format!("line {line}"))
}

/// A line of `--json`. Its `source` is the `source` of the outcome that will follow.
#[derive(Serialize)]
struct PublishedLine<'a> {
    event_id: &'a str,
    session_id: Option<&'a str>,
    source: &'a Position,
}
