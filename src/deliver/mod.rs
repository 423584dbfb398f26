//! Delivers one event: acquires a claim permit, claims the event in the ledger, waits for its turn
//! in the session, performs the steps of its [`Course`] until it settles, then stores and publishes
//! the answer.
//!
//! Read [`Delivery::run`] first; `call`, `claim`, `park` and `publish` hold its steps, `ports` what
//! they need from outside. What to do next is decided in [`crate::domain::course`], never here. A
//! failed call is data for the course, and an unavailable broker or database is waited for.

mod answers_ahead;
mod call;
mod claim;
mod dead_letter;
mod duplicate;
mod park;
mod ports;
mod publish;
mod reloadable;
mod session_queues;
#[cfg(test)]
mod tests;
mod wait;

use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info_span, warn};

pub(crate) use self::answers_ahead::FinishedBelow;
pub(crate) use self::dead_letter::send_dead_letter;
pub use self::ports::{Context, DeskApi, OutcomePublisher, Ports, Published, PublishedBy};
pub use self::reloadable::{SharedPolicy, SharedRules};
pub use self::session_queues::{QueueLimits, SessionArrival, SessionQueues, Turn};

use self::call::DeskCall;
use self::claim::Hold;
use self::publish::Unpublished;
use self::wait::Start;
use crate::activity::{DeliveryPhase, UnfinishedEvent};
use crate::domain::course::{Course, Policy, Snapshot, Step};
use crate::domain::event::{Event, Malformed, MalformedClass};
use crate::domain::ledger_entry::{
    Claim, ClaimResult, PriorClaim, RecordOrigin, RoomName, WaitsFor, key,
};
use crate::domain::record::Record;
use crate::domain::signal::Attempt;
use crate::domain::wire::outcome::Outcome;
use crate::gate::{Caller, SessionHash};
use crate::ledger::Ledger as _;
use crate::telemetry::traces::EventSpan;
use crate::telemetry::{LoggedEventId, LoggedId};

/// The delivery of one event.
pub(crate) struct Delivery<'a, P: Ports> {
    /// What all deliveries share.
    pub(crate) context: &'a Context<P>,
    /// The rules of its course. Rules that are replaced meanwhile are for other events.
    pub(crate) policy: &'a Policy,
    /// The event.
    pub(crate) event: &'a Event,
    /// The record it came from.
    pub(crate) record: &'a Record,
    /// Its turn in its session.
    pub(crate) turn: &'a Turn,
    /// Where its record was read.
    pub(crate) origin: RecordOrigin,
    /// Whether its record may have been read before.
    pub(crate) read_before: ReadBefore,
    /// See [`Claim::expected_version`].
    pub(crate) expected_version: Option<i64>,
    /// Whether it was parked behind others of its session when it was read.
    pub(crate) waited_for_session: bool,
    /// The waiting room in which it waits while nobody of its plan is online; `None`: alone.
    pub(crate) room: Option<RoomName>,
    /// Bound the events that wait in memory for a retry. An event that finds no free slot is parked
    /// instead, so that those that fail leave room for those that were never tried.
    pub(crate) retry_slots: &'a Semaphore,
    /// Whether Desk has to be called: an answer that is stored already needs no claim permit.
    pub(crate) needs_call: bool,
    /// Whether its first call here repeats an earlier one: it was parked before.
    pub(crate) attempt: Attempt,
    /// Cancelled when the partition is being revoked: the delivery then ends unless it is in doubt.
    pub(crate) draining: &'a CancellationToken,
    /// Set when Kafka does not deliver the record any more, because its topic was deleted.
    pub(crate) record_is_gone: &'a AtomicBool,
    /// Of its partition.
    pub(crate) finished_below: &'a FinishedBelow,
    /// Where it notes how far it is, for `/status`.
    pub(crate) progress: &'a UnfinishedEvent,
    /// Receives the events of the delivery. It must not block.
    pub(crate) on_event: &'a EventSink<'a>,
    /// Of this try.
    pub(crate) span: EventSpan,
}

/// Whether Kafka may have delivered a record before, in an assignment that has ended: then it may
/// have been answered, and the ledger may have forgotten it since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadBefore {
    /// The group's committed offset proves that it was not.
    Never,
    /// The group has lost its offset, or had read the record when it committed.
    Maybe,
}

/// Receives the events of a delivery or dead letter. It must not block.
pub(crate) type EventSink<'a> = dyn Fn(TaskEvent) + Send + Sync + 'a;

/// What a delivery reports before it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskEvent {
    /// The answer is stored and enqueued, so the next event of the session may go on.
    Settled {
        /// Whether the session was assigned to an agent or queued for one.
        found_agent: bool,
    },
    /// The event's ledger entry cannot be read. A restart would not help.
    Blocked,
    /// The event is claimed; if it was blocked, it is no longer.
    Claimed,
}

/// How a delivery ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The final answer is acknowledged by the broker.
    Published,
    /// The event is parked in the ledger, so its offset may be committed.
    Parked {
        /// When it is due by itself.
        until: Timestamp,
        /// What it waits for.
        waits_for: WaitsFor,
    },
    /// The event was parked already, and stays so.
    StaysParked,
    /// The entry has changed since it was read in the ledger: the ledger keeps it, and it is read again.
    Changed,
    /// Another record with this id has the answer; this record gets none.
    Duplicate,
    /// The record may have been read before, and is older than what the ledger remembers: it may have
    /// been answered, and gets nothing.
    BeyondMemory,
    /// The partition is being revoked; its next owner finishes the event.
    Released,
    /// Another instance owns the event.
    Fenced,
    /// The event's ledger entry cannot be read.
    Blocked,
}

impl<P: Ports> Delivery<'_, P> {
    /// Deliver the event. Every log line on the way carries the event, its session and its record.
    pub(crate) async fn run(&self) -> Ended {
        let ids = self.span.ids();
        let (trace_id, span_id) = ids.unzip();
        let span = info_span!(
            "escalation",
            event_id = %LoggedEventId { id: &self.event.id, session: &self.event.session_id },
            session = %LoggedId(&self.event.session_id),
            kafka.partition = self.record.position.partition,
            kafka.offset = self.record.position.offset,
            trace_id = trace_id.as_deref().or(self.event.trace_id()),
            span_id,
        );
        match self.deliver().instrument(span).await {
            Ok(()) => Ended::Published,
            Err(ended) => {
                if matches!(ended, Ended::Fenced | Ended::Blocked) {
                    self.progress.enter(DeliveryPhase::Blocked);
                }
                ended
            }
        }
    }

    async fn deliver(&self) -> Result<(), Ended> {
        if self.is_beyond_memory().await {
            self.wake_parked(false).await;
            return Err(Ended::BeyondMemory);
        }
        let start = self.wait_for_start().await?;
        self.progress.enter(DeliveryPhase::Claiming);
        let token = self.acquire_token().await?;
        let now = self.context.clock.now();
        let mut claim = self.first_claim(now);
        let claimed = self.context.ledger.claim(claim.clone()).await;
        self.turn.set_stored(matches!(claimed, ClaimResult::Settled { .. }));
        let mut course = match claimed {
            ClaimResult::Fresh => {
                let course = Course::new(self.event, self.policy, now);
                course.shadow_routes().for_each(|route| self.context.metrics.shadow_match(route));
                course
            }
            ClaimResult::Resumed(prior) => {
                // Nobody has woken it: the events ahead of it are not answered.
                if self.waited_for_session && is_deadline(prior.parked_until, self.event.deadline) {
                    self.turn.set_out_of_turn();
                }
                self.resume(prior, now)
            }
            ClaimResult::Parked { waits_for, .. } => {
                return Err(self.stay_parked(&waits_for, start).await);
            }
            ClaimResult::Changed => return Err(self.leave_changed(start).await),
            ClaimResult::Settled { answer, published, at } => {
                drop(start);
                let stored = Unpublished { message: answer, stored_at: at, token: None };
                return self.finish_stored(claim, stored, published).await;
            }
            ClaimResult::Duplicate { first, answered_at } => {
                self.report_duplicate(&first, answered_at);
                self.wake_parked(false).await;
                return Err(Ended::Duplicate);
            }
            ClaimResult::Unreadable { why } => {
                error!(error = why, "blocked: the ledger entry of an event cannot be read");
                self.report(TaskEvent::Blocked);
                return Err(Ended::Blocked);
            }
            ClaimResult::Conflict { .. } => {
                drop(start);
                self.wake_parked(false).await;
                return Err(self.reject_conflicting_id().await);
            }
        };
        match course.first_span() {
            Some(first) => self.span.link_to(first),
            None => course.set_first_span(self.span.traceparent()),
        }
        self.report(TaskEvent::Claimed);
        self.progress.observe(&course);
        self.progress.enter(DeliveryPhase::Queued);
        let claimed_at = Instant::now();
        let mut must_park = matches!(start, Start::Park);
        while must_park || self.wait_for_turn_or_release(&claim, &course).await? {
            if self.may_park_behind() {
                return Err(self.park_behind(&course, &claim).await);
            }
            self.turn.stay();
            must_park = false;
        }
        let hold = Hold::new(start.into_permit(), token, claimed_at);
        let outcome = self.decide(&mut course, &mut claim, hold).await?;
        self.progress.enter(DeliveryPhase::Publishing);
        self.publish_answer(claim.key, &outcome, course.last_verdict()).await
    }

    /// Perform the steps of the course until it settles.
    async fn decide(
        &self,
        course: &mut Course<'_>,
        claim: &mut Claim,
        mut hold: Hold,
    ) -> Result<Outcome, Ended> {
        let mut retry_slot = None;
        loop {
            hold = match course.next(self.context.clock.now()) {
                Step::Settle(outcome) => return Ok(*outcome),
                Step::Wait(wait) => {
                    // An event of the ledger was counted when it was read.
                    if retry_slot.is_none() && self.origin == RecordOrigin::Kafka {
                        retry_slot = self.retry_slots.try_acquire().ok();
                        if retry_slot.is_none() && self.may_park_instead(wait) {
                            drop(hold);
                            return Err(self.park(course, claim, wait, WaitsFor::Time).await);
                        }
                    }
                    self.back_off(course, claim, hold, wait).await?
                }
                Step::Park(wait) => {
                    drop(hold);
                    return Err(self.park(course, claim, wait, WaitsFor::Time).await);
                }
                Step::AwaitAgent(wait) => {
                    drop(hold);
                    let room = self.room.clone().filter(|room| course.may_wait_in(room));
                    let waits_for = room.map_or(WaitsFor::Time, WaitsFor::Agent);
                    return Err(self.park(course, claim, wait, waits_for).await);
                }
                Step::PublishInterim(interim) => {
                    self.publish_interim(course, claim, hold, *interim).await?
                }
                Step::Call(command, body) => {
                    self.call(course, claim, hold, DeskCall { command, body }).await?
                }
            };
        }
    }

    /// The course of an event that was claimed before.
    fn resume(&self, prior: PriorClaim, now: Timestamp) -> Course<'_> {
        let (event, policy) = (self.event, self.policy);
        self.progress.was_claimed_again(prior.first_seen);
        // A snapshot of another version that cannot be read counts as none. The course is in doubt
        // all the same: that follows from the claim, not from the snapshot.
        let snapshot: Snapshot =
            prior.snapshot.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let mut course = match prior.parked_until {
            Some(_) => Course::resumed(event, policy, snapshot, now),
            // Past its deadline when it was first seen: no call was ever made.
            None if prior.first_seen >= event.deadline => Course::new(event, policy, now),
            None => Course::interrupted(event, policy, snapshot, now),
        };
        if prior.is_early {
            course.on_resumed_early();
        }
        if let Some(given_up) = prior.given_up {
            course.give_up(given_up);
        }
        course
    }

    /// Whether the event may have been answered and pruned from the ledger since. One
    /// that may still be called has to be answered in any case.
    async fn is_beyond_memory(&self) -> bool {
        let is_overdue = self.event.deadline <= self.context.clock.now();
        let is_candidate = is_overdue && self.read_before == ReadBefore::Maybe;
        is_candidate
            && is_forgotten(self.context, key::of_event(&self.event.id, self.record), self.record)
                .await
    }

    /// The id belongs to an event of another session: this record is malformed.
    async fn reject_conflicting_id(&self) -> Ended {
        let malformed = conflicting_id(self.event);
        let read_before = self.read_before;
        let malformed = Some(&malformed);
        send_dead_letter(self.context, self.record, malformed, read_before, self.on_event).await
    }

    /// The event as the gate knows it.
    fn caller(&self, attempt: Attempt) -> Caller {
        let session = SessionHash::of(&self.event.session_id);
        Caller { rank: self.turn.rank(), session, attempt }
    }

    fn report(&self, event: TaskEvent) {
        (self.on_event)(event);
    }
}

/// Whether the ledger has no entry of this record, and may have pruned it. Such a record is counted.
async fn is_forgotten<P: Ports>(context: &Context<P>, key: String, record: &Record) -> bool {
    // A record without a timestamp has no age.
    let Some(recorded) = record.timestamp else { return false };
    let is_forgotten = context.ledger.forgot(key.into(), recorded).await;
    if is_forgotten {
        let skipped = context.metrics.beyond_memory.inc() + 1;
        // There may be millions of them.
        if skipped.is_power_of_two() {
            warn!(
                kafka.partition = record.position.partition,
                kafka.offset = record.position.offset,
                recorded = %recorded,
                skipped,
                "record skipped: older than the ledger's memory"
            );
        }
    }
    is_forgotten
}

/// Ledgers store microseconds.
fn is_deadline(until: Option<Timestamp>, deadline: Timestamp) -> bool {
    until.is_some_and(|until| until.as_microsecond() == deadline.as_microsecond())
}

fn conflicting_id(event: &Event) -> Malformed {
    let error = format!("the id {:?} was used with another session before", event.id);
    Malformed { class: MalformedClass::ConflictingId, error }
}
