//! What a delivery needs from outside: the ports [`DeskApi`], [`OutcomePublisher`] and
//! [`Ledger`], and the [`Context`] that all deliveries share. `adapters` implements the ports.

use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;

use super::SharedPolicy;
use crate::activity::Activity;
use crate::clock::{Clock, Rng};
use crate::domain::record::Position;
use crate::domain::reply::Reply;
use crate::domain::request::DeskCommand;
use crate::domain::wire::Message;
use crate::gate::Gate;
use crate::health::Health;
use crate::lease::{FencingToken, Lease};
use crate::ledger::Ledger;
use crate::telemetry::{DeadLetterLog, Metrics, Traces};

/// Desk's API.
pub trait DeskApi: Send + Sync + 'static {
    /// Make one call, with a UserSig that was created after `signature_after`.
    fn call(
        &self,
        command: DeskCommand,
        body: Vec<u8>,
        signature_after: Option<Timestamp>,
    ) -> impl Future<Output = Reply> + Send;
}

/// The outcome topic and the dead-letter topic.
pub trait OutcomePublisher: Send + Sync + 'static {
    /// Publish a message that nobody else can have published while the lease accepts `token`.
    /// The message is enqueued before this returns, so that messages are sent in the order of the
    /// calls. The future completes once the broker has acknowledged it, however long that takes.
    fn publish(
        &self,
        message: Arc<Message>,
        token: FencingToken,
    ) -> impl Future<Output = Published> + Send;

    /// Remove every message that is enqueued and not sent, because its event may have another
    /// owner by now. Messages of events that are still ours are published again.
    fn purge(&self);

    /// The position of this very message in its topic, searched from `since` on.
    fn find_published(
        &self,
        message: &Message,
        since: Timestamp,
    ) -> impl Future<Output = Option<Position>> + Send;
}

/// A message is in its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Where it is.
    pub position: Position,
    /// Who published it.
    pub by: PublishedBy,
}

/// Who published a message: each outcome is counted and logged by its publisher only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishedBy {
    /// This process.
    Us,
    /// Another instance, or this one before its restart.
    PreviousOwner,
}

/// The types of the three ports.
pub trait Ports: Send + Sync + 'static {
    /// Desk's API.
    type Desk: DeskApi;
    /// The outcome and dead-letter topics.
    type Outcomes: OutcomePublisher;
    /// The ledger.
    type Ledger: Ledger;
}

/// What all deliveries share.
pub struct Context<P: Ports> {
    /// Desk's API.
    pub desk: P::Desk,
    /// The outcome and dead-letter topics.
    pub outcomes: P::Outcomes,
    /// The ledger.
    pub ledger: P::Ledger,
    /// Admission control towards Desk.
    pub gate: Arc<Gate>,
    /// The rules of every course; they may be replaced while the service runs.
    pub policy: SharedPolicy,
    /// The wall clock.
    pub clock: Clock,
    /// Random numbers for back-off.
    pub rng: Rng,
    /// Whether this process may still act for its partitions.
    pub lease: Arc<Lease>,
    /// The state behind `/health` and `/ready`.
    pub health: Arc<Health>,
    /// What `/status` shows.
    pub activity: Arc<Activity>,
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// Limits the log lines about dead letters.
    pub dead_letter_log: DeadLetterLog,
    /// Begins the spans of deliveries.
    pub traces: Traces,
}
