//! Whether a message is in its topic already: read from when it was written down to the end.
//!
//! Asked after a crash between the acknowledgement and its note in the ledger, after a freeze, and
//! before what may have arrived is sent again. Questions
//! that come together share one reading. A broker that is away is waited for.
//! This file never says "absent" before it has read to the end as it was when asked.

use parking_lot::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::warn;

use super::Settings;
use super::reader::{Reader, Start};
use crate::domain::record::{Position, Record};
use crate::domain::wire::outcome::{Channel, Message};

/// Clocks of brokers and workers may differ by so much.
const SKEW: Duration = Duration::from_secs(300);
const LIMIT: Duration = Duration::from_secs(10);
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The questions that wait, and the right to read.
#[derive(Default)]
pub(super) struct Lookup {
    waiting: Mutex<Vec<Question>>,
    reading: tokio::sync::Mutex<()>,
}

struct Question {
    channel: Channel,
    /// The message, and what it became where the topic refused its size.
    forms: Vec<Message>,
    since: Timestamp,
    answer: oneshot::Sender<Option<Position>>,
}

impl Lookup {
    /// Where this very message has been in its topic since then, if it has.
    pub(super) async fn find_published(
        &self,
        settings: &Settings,
        message: &Message,
        since: Timestamp,
    ) -> Option<Position> {
        loop {
            let (answer, answered) = oneshot::channel();
            let (channel, forms) = (message.channel, forms(message));
            let question = Question { channel, forms, since, answer };
            self.waiting.lock().push(question);
            let turn = self.reading.lock().await;
            let questions = std::mem::take(&mut *self.waiting.lock());
            if !questions.is_empty() {
                let settings = settings.clone();
                let read = spawn_blocking(move || {
                    read(&settings, &questions).map(|found| (questions, found))
                });
                match read.await {
                    Ok(Ok((questions, found))) => reply(questions, found),
                    // Whoever asked asks again.
                    Ok(Err(error)) => {
                        warn!("failed to look up what is published, trying again: {error:#}");
                        sleep(RETRY_AFTER).await;
                    }
                    Err(_) => sleep(RETRY_AFTER).await,
                }
            }
            drop(turn);
            // No answer: the reading failed, or its owner went; ask again.
            if let Ok(found) = answered.await {
                return found;
            }
        }
    }
}

/// For each question, where its message was found.
fn read(settings: &Settings, questions: &[Question]) -> anyhow::Result<Vec<Option<Position>>> {
    let mut found = vec![None; questions.len()];
    for channel in [Channel::Outcomes, Channel::DeadLetters] {
        let asked = questions.iter().filter(|q| q.channel == channel);
        let Some(since) = asked.map(|q| q.since).min() else { continue };
        let since = since.saturating_sub(SKEW).unwrap_or(Timestamp::MIN);
        let topic = settings.topics.of(channel);
        let mut reader = Reader::open(settings, topic, Start::At(since), LIMIT)?;
        while !reader.is_at_end() {
            let Some(record) = reader.next(Duration::from_millis(100))? else { continue };
            for (question, found) in questions.iter().zip(&mut found) {
                if question.channel == channel && question.is_about(&record) {
                    found.get_or_insert_with(|| record.position.clone());
                }
            }
        }
    }
    Ok(found)
}

fn reply(questions: Vec<Question>, found: Vec<Option<Position>>) {
    for (question, found) in questions.into_iter().zip(found) {
        // Whoever asked may have gone.
        drop(question.answer.send(found));
    }
}

/// Everything that a message may have become.
fn forms(message: &Message) -> Vec<Message> {
    let mut forms = vec![message.clone()];
    let mut smaller = message.clone();
    while smaller.truncate() {
        forms.push(smaller.clone());
    }
    forms
}

impl Question {
    fn is_about(&self, record: &Record) -> bool {
        self.forms.iter().any(|form| {
            record.key == form.key && record.value == form.value && record.headers == form.headers
        })
    }
}
