//! The lower bound of cost: a plain loop with a FIFO per session, as a careful team would write it in a day.
//!
//! It consumes, calls, publishes, and commits below a watermark. It keeps the order of each session and nothing else
//! of what `handoff` guarantees: no retry, no ledger, no back-off.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use handoff::config;
use handoff::domain::usersig;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::contestant::environment;
use crate::no_ledger::terminated;

const IN_MEMORY: usize = 2000;

#[derive(Deserialize)]
struct Escalation {
    id: String,
    session_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    error_code: i64,
    agent_id: Option<String>,
}

struct Loop {
    http: reqwest::Client,
    url: String,
    producer: FutureProducer,
    topic: String,
    calls: Semaphore,
}

type Position = (String, i32, i64);
/// By partition: the unfinished offsets, and the offset after the last that was read.
type Open = HashMap<i32, (BTreeSet<i64>, i64)>;

/// Run until SIGTERM.
pub(crate) async fn run() -> Result<()> {
    let config = config::load(None, environment())?;
    let (desk, kafka) = (config.desk, config.kafka);
    drop(rustls::crypto::ring::default_provider().install_default());
    let signature = usersig::sign(&desk.identity, &desk.key.read().await?, now_s(), 86_400);
    let shared = Arc::new(Loop {
        http: reqwest::Client::builder().no_proxy().timeout(desk.timeout).build()?,
        url: format!(
            "{}/v4/desk_http_svc/transfer_to_human?sdkappid={}&identifier={}&usersig={}&contenttype=json",
            desk.endpoint,
            desk.identity.sdkappid,
            desk.identity.identifier,
            signature.expose_secret()
        ),
        producer: kafka.producer_config().create()?,
        topic: kafka.topics.outcomes.clone(),
        calls: Semaphore::new(config.concurrency),
    });
    let consumer: StreamConsumer = kafka.consumer_config().create()?;
    consumer.subscribe(&[&kafka.topics.escalations])?;
    consume(&consumer, &shared).await?;
    shared.producer.flush(Duration::from_secs(5))?;
    match consumer.commit_consumer_state(CommitMode::Sync) {
        Err(error)
            if error.rdkafka_error_code() != Some(rdkafka::error::RDKafkaErrorCode::NoOffset) =>
        {
            Err(error).context("the last commit")
        }
        _ => Ok(()),
    }
}

async fn consume(consumer: &StreamConsumer, shared: &Arc<Loop>) -> Result<()> {
    let in_memory = Arc::new(Semaphore::new(IN_MEMORY));
    let mut open = Open::new();
    let mut last_of_session: HashMap<String, oneshot::Receiver<()>> = HashMap::new();
    let mut tasks: JoinSet<Result<Position>> = JoinSet::new();
    let stop = terminated();
    tokio::pin!(stop);
    let mut stopped = false;
    while !stopped || !tasks.is_empty() {
        tokio::select! {
            signal = &mut stop, if !stopped => stopped = signal.is_ok(),
            Some(done) = tasks.join_next() => finish(consumer, &mut open, done??)?,
            message = consumer.recv(), if !stopped && in_memory.available_permits() > 0 => {
                let Ok(message) = message else { continue };
                let position = (message.topic().to_owned(), message.partition(), message.offset());
                let (open, next) = open.entry(position.1).or_default();
                open.insert(position.2);
                *next = position.2 + 1;
                let event: Escalation = serde_json::from_slice(message.payload().unwrap_or_default())?;
                let room = in_memory.clone().acquire_owned().await?;
                let (done, next) = oneshot::channel();
                let before = last_of_session.insert(event.session_id.clone(), next);
                let turn = Turn { before, done, room };
                tasks.spawn(deliver(shared.clone(), event, position, turn));
            }
        }
    }
    Ok(())
}

/// The position of an event in its session, and in memory.
struct Turn {
    before: Option<oneshot::Receiver<()>>,
    done: oneshot::Sender<()>,
    room: OwnedSemaphorePermit,
}

/// Delivers one event after the previous one of its session.
async fn deliver(
    shared: Arc<Loop>,
    event: Escalation,
    position: Position,
    turn: Turn,
) -> Result<Position> {
    let Turn { before, done, room } = turn;
    if let Some(before) = before {
        before.await.unwrap_or_default();
    }
    let outcome = call(&shared, &event, &position).await?;
    let headers =
        OwnedHeaders::new().insert(Header { key: "handoff-status", value: Some("assigned") });
    let record = FutureRecord::to(&shared.topic).key(&event.session_id).payload(&outcome);
    let sent = shared.producer.send_result(record.headers(headers)).map_err(|(error, _)| error)?;
    done.send(()).unwrap_or_default();
    sent.await?.map_err(|(error, _)| error)?;
    drop(room);
    Ok(position)
}

/// One call, and the outcome that follows from it.
async fn call(shared: &Loop, event: &Escalation, position: &Position) -> Result<String> {
    let body = json!({"SessionId": event.session_id, "SendTipIfNoAgentOnline": 1}).to_string();
    let permit = shared.calls.acquire().await?;
    let url = format!("{}&random={}", shared.url, random());
    let response = shared.http.post(url).header("Content-Type", "application/json").body(body);
    let bytes = response.send().await?.bytes().await?;
    drop(permit);
    let answer: Answer = serde_json::from_slice(&bytes)?;
    ensure!(answer.error_code == 0, "Desk says {}", answer.error_code);
    let outcome = json!({
        "id": format!("{}/final", event.id), "event_id": event.id, "session_id": event.session_id,
        "status": "assigned", "final": true, "agent_id": answer.agent_id,
        "source": {"topic": position.0, "partition": position.1, "offset": position.2},
    });
    Ok(outcome.to_string())
}

/// Commits below the lowest unfinished offset.
fn finish(consumer: &StreamConsumer, open: &mut Open, position: Position) -> Result<()> {
    let (topic, partition, offset) = position;
    let (open, next) = open.entry(partition).or_default();
    open.remove(&offset);
    let mark = open.first().copied().unwrap_or(*next);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, partition, Offset::Offset(mark))?;
    Ok(consumer.store_offsets(&list)?)
}

#[expect(clippy::disallowed_methods, reason = "a contestant by itself")]
fn random() -> u32 {
    fastrand::u32(..)
}

fn now_s() -> i64 {
    crate::kafka::now_us() / 1_000_000
}
