//! `handoff publish`: put escalations into their topic, checked as the service will check them.
//!
//! Each one is read with the service's own decoder first; what the service would refuse is named
//! and left out, and the others go. Records leave in the order of the input.
//! This command never needs Desk, and never says "published" before the broker has it.

mod escalation;
mod input;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use serde::Serialize;

use self::escalation::{Examined, Fields};
use self::input::{Input, Item};
use super::lines::{Lines, harmless, say};
use super::{Failure, load_kafka, warnings_only};
use crate::adapters::kafka::{self, Outgoing, Publisher, Receipt};
use crate::clock::Clock;
use crate::domain::record::Position;
use crate::domain::wire::escalation::DecodeRules;

/// Records that are on their way at once.
const ON_THEIR_WAY: usize = 1_000;
/// The wait for a broker, and for its acknowledgement.
const LIMIT: Duration = Duration::from_secs(30);

const EXAMPLES: &str = "\
Examples:
  handoff publish --session fd8a2e30-... --reason user_requested
  handoff publish --session s-1 --id evt-1 --group 2473 --agent anna@example.com --priority 0 \\
      --expires-in 5m --attribute lang=de --option send_tip_if_no_agent_online
  handoff publish escalations.ndjson
  jq -c '.[]' export.json | handoff publish -

An escalation in a file or on standard input is a JSON object, where only session_id is needed:
  {\"id\": \"evt-1\", \"session_id\": \"s-1\", \"expires_at\": \"2026-11-23T10:05:00Z\",
   \"target\": {\"agents\": [\"anna@example.com\"], \"group\": 2473, \"strict\": false},
   \"priority\": 3, \"attributes\": {\"lang\": \"de\"}, \"options\": {\"disable_queuing\": true}}

The record key is the session id, so that the escalations of one session keep their order. Without
an id, the place of the record is the identity: publishing the same file twice asks twice. What was
published stands on standard output, one line each: topic/partition/offset, event id, session.

Exit codes: 0 all published, 2 some were refused here (the others are published), 69 Kafka did not
take all of them, 78 bad configuration.";

/// Publish escalations
///
/// From arguments, from a file (a JSON object, an array of them, or one per line), or one per line
/// from standard input. What the service could not act on is named and left out. Of the
/// configuration only the section kafka is needed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct Args {
    /// A file with escalations; - for standard input, one per line
    #[arg(value_name = "FILE", required_unless_present = "session", conflicts_with_all = Fields::IDS)]
    file: Option<PathBuf>,

    #[command(flatten)]
    fields: Fields,

    /// Publish also what the service will refuse (to see how it does)
    #[arg(long)]
    unchecked: bool,

    /// Print a JSON object for each published record
    #[arg(long)]
    json: bool,
}

/// Publish, then say how it went.
pub async fn run(
    args: Args,
    file: Option<&Path>,
    env: Vec<(String, String)>,
) -> Result<(), Failure> {
    let config = load_kafka(file, env)?;
    warnings_only();
    let input = match &args.file {
        Some(path) if path.as_os_str() == "-" => Input::stdin(),
        Some(path) => Input::file(path).await.map_err(Failure::Usage)?,
        None => Input::one(args.fields.to_json(Clock::system().now())),
    };
    config.kafka.verify_producer().map_err(Failure::Configuration)?;
    let mut work = Work {
        rules: config.rules,
        settings: config.kafka,
        publisher: None,
        args,
        lines: Lines::new(),
        tally: Tally::default(),
    };
    let done = work.all(input).await;
    let tally = work.tally;
    let summary = tally.summary(&work.settings.topics.escalations);
    done?;
    match tally {
        Tally { lost: 1.., .. } => Err(Failure::Unavailable(anyhow!("{summary}"))),
        Tally { refused: 1.., .. } => Err(Failure::Usage(anyhow!("{summary}"))),
        _ => {
            say(&summary);
            Ok(())
        }
    }
}

/// The topic is there; better said now than after the time for an acknowledgement.
async fn find(settings: &kafka::Settings) -> anyhow::Result<()> {
    let (asked, topic) = (settings.clone(), &settings.topics.escalations);
    let ask = move || kafka::partitions(&asked, &asked.topics.escalations, LIMIT);
    let found = tokio::task::spawn_blocking(ask).await??;
    found.map(drop).with_context(|| {
        format!("there is no topic {topic}: make it, or see kafka.escalations_topic")
    })
}

/// How many went which way.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    published: usize,
    refused: usize,
    lost: usize,
}

impl Tally {
    fn summary(&self, topic: &str) -> String {
        let Self { published, refused, lost } = self;
        let mut text = format!("{published} published to {topic}");
        if *refused > 0 {
            text.push_str(&format!(
                ", {refused} refused (see above; --unchecked publishes them too)"
            ));
        }
        if *lost > 0 {
            text.push_str(&format!(", {lost} not acknowledged"));
        }
        text
    }
}

struct Work {
    rules: DecodeRules,
    settings: kafka::Settings,
    /// From the first escalation on that goes.
    publisher: Option<Publisher>,
    args: Args,
    lines: Lines,
    tally: Tally,
}

impl Work {
    /// Read, check and hand over, while receipts come in.
    async fn all(&mut self, mut input: Input) -> Result<(), Failure> {
        let mut receipts = FuturesOrdered::new();
        let mut whose = VecDeque::new();
        let mut is_over = false;
        while !is_over || !whose.is_empty() {
            tokio::select! {
                item = input.next(), if !is_over && whose.len() < ON_THEIR_WAY => {
                    match item.map_err(Failure::Usage)? {
                        None => is_over = true,
                        Some(item) => {
                            if let Some((examined, receipt)) = self.begin(item).await? {
                                whose.push_back(examined);
                                receipts.push_back(receipt.acknowledged());
                            }
                        }
                    }
                }
                Some(result) = receipts.next() => {
                    let examined = whose.pop_front().unwrap_or_default();
                    self.finish(&examined, result)?;
                }
            }
        }
        Ok(())
    }

    /// Check one and hand it over.
    async fn begin(&mut self, item: Item) -> Result<Option<(Examined, Receipt)>, Failure> {
        let examined = escalation::examine(&item, &self.rules, Clock::system().now());
        let place = place_of(item.line);
        if let Some(fault) = &examined.fault {
            let fate = if self.args.unchecked { "published all the same" } else { "not published" };
            say(&format!("{place}: {}: {fate}", harmless(fault)));
            if !self.args.unchecked {
                self.tally.refused += 1;
                return Ok(None);
            }
        }
        for unknown in escalation::unknown(&item) {
            say(&format!("{place}: {}", harmless(&unknown)));
        }
        let record = Outgoing {
            topic: self.settings.topics.escalations.clone(),
            key: examined.session.as_ref().map(|session| session.as_bytes().to_vec()),
            value: item.value,
            headers: vec![("content-type".to_owned(), Some(b"application/json".to_vec()))],
        };
        match self.publisher().await?.hand_over(&record).await {
            Ok(receipt) => Ok(Some((examined, receipt))),
            Err(error) => {
                self.lose(&examined, &error);
                Ok(None)
            }
        }
    }

    /// Nobody waits for a broker to hear that there is nothing to publish.
    async fn publisher(&mut self) -> Result<&Publisher, Failure> {
        let publisher = match self.publisher.take() {
            Some(publisher) => publisher,
            None => {
                find(&self.settings).await.map_err(Failure::Unavailable)?;
                Publisher::start(&self.settings, LIMIT).map_err(Failure::Configuration)?
            }
        };
        Ok(self.publisher.insert(publisher))
    }

    fn finish(
        &mut self,
        examined: &Examined,
        result: anyhow::Result<Position>,
    ) -> Result<(), Failure> {
        match result {
            Ok(position) => {
                self.tally.published += 1;
                self.report(examined, &position)
            }
            Err(error) => {
                self.lose(examined, &error);
                Ok(())
            }
        }
    }

    fn lose(&mut self, examined: &Examined, error: &anyhow::Error) {
        self.tally.lost += 1;
        say(&format!("{}: {error:#}", place_of(examined.line)));
    }

    fn report(&mut self, examined: &Examined, position: &Position) -> Result<(), Failure> {
        let place = position.to_string();
        let id = examined.id.as_deref().unwrap_or(&place);
        let session = examined.session.as_deref();
        if !self.args.json {
            let (id, session) = (harmless(id), harmless(session.unwrap_or("-")));
            return self.lines.put(&format!("{place}  {id}  {session}"));
        }
        let published = Published { source: position, event_id: id, session_id: session };
        let json = serde_json::to_vec(&published).map_err(|error| Failure::Bug(error.into()))?;
        self.lines.put_raw(&json)
    }
}

/// Where an escalation came from, for people.
fn place_of(line: Option<usize>) -> String {
    line.map_or("arguments".to_owned(), |line| format!("line {line}"))
}

/// What `--json` prints of each; `source` is what the outcome will name.
#[derive(Serialize)]
struct Published<'a> {
    event_id: &'a str,
    session_id: Option<&'a str>,
    source: &'a Position,
}
