//! The delivery of one event: wait until it is near its call and claim it; in its turn ask the course
//! for a step, perform it, tell the course, until settled; then write the answer down, publish it,
//! and note that it is published.
//!
//! Here are the ports the delivery needs (`Desk`, `OutcomePublisher`, `Ledger`) and nothing that implements
//! them. A failed call is data for the course; a broker or database that is away is waited for.
//! This file never decides anything about an escalation; `domain::course` does.

mod claim;
mod park;
mod publish;
mod session_queues;
mod wait;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use self::claim::{claim_in_time, claim_of_event, claim_of_letter, is_old};
use self::park::{announce, leave, parking, remembered};
use self::publish::{hand_over, publish_once};
pub use self::session_queues::{SessionQueues, Turn};
use self::wait::{GivenUp, approach, my_turn, steady, until};
use crate::clock::{Clock, Rng};
use crate::domain::course::{CompletedCall, Course, Moment, Policy, Step};
use crate::domain::event::{Event, Malformed, MalformedClass};
use crate::domain::ledger_entry::{Claim, ClaimResult, Parking};
use crate::domain::record::{Position, Record};
use crate::domain::reply::Reply;
use crate::domain::request::DeskCommand;
use crate::domain::wire::dead_letter::dead_letter;
use crate::domain::wire::outcome::{Message, Outcome};
use crate::gate::{CallPermit, ClaimPermit, Gate};
use crate::health::Health;
use crate::lease::{FencingToken, Lease};
use crate::ledger::Ledger;
use crate::telemetry::Metrics;

/// Tencent's side, as the delivery needs it.
pub trait DeskApi: Send + Sync + 'static {
    /// Make one call; a signature made before `signature_after` is not good enough.
    fn call(
        &self,
        command: DeskCommand,
        body: Vec<u8>,
        signature_after: Option<Timestamp>,
    ) -> impl Future<Output = Reply> + Send;
}

/// The outcome and dead-letter topics, as the delivery needs them.
pub trait OutcomePublisher: Send + Sync + 'static {
    /// Publish what nobody else could since the process was `steady`. Handed over at once, in the
    /// order of the calls; done once acknowledged, however long that takes.
    fn publish(
        &self,
        message: Arc<Message>,
        steady: FencingToken,
    ) -> impl Future<Output = Published> + Send;

    /// Forget what was handed over and has not left: its event is somebody else's by now. What of
    /// it was for events that still are ours is published again.
    fn purge(&self);

    /// Where this very message has been in its topic since then, if it has.
    fn find_published(
        &self,
        message: &Message,
        since: Timestamp,
    ) -> impl Future<Output = Option<Position>> + Send;
}

/// A message is in its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Where.
    pub place: Position,
    /// False: a successor, or an earlier life, had done it.
    pub by_us: bool,
}

/// The ports of a delivery, together.
pub trait Ports: Send + Sync + 'static {
    /// Tencent's side.
    type Desk: DeskApi;
    /// The outcome and dead-letter topics.
    type Outcomes: OutcomePublisher;
    /// What is remembered.
    type Ledger: Ledger;
}

/// What every delivery shares.
pub struct Context<P: Ports> {
    /// Tencent's side.
    pub desk: P::Desk,
    /// The outcome and dead-letter topics.
    pub outcomes: P::Outcomes,
    /// What is remembered.
    pub ledger: P::Ledger,
    /// The worker's gate towards Desk.
    pub gate: Arc<Gate>,
    /// The rules of every course.
    pub policy: Policy,
    /// The time.
    pub clock: Clock,
    /// Random numbers, for back-off.
    pub rng: Rng,
    /// Whether this process may still believe that its partitions are its own.
    pub lease: Arc<Lease>,
    /// What `/health` and `/ready` say.
    pub health: Arc<Health>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl<P: Ports> Context<P> {
    fn moment(&self) -> Moment {
        Moment { now: self.clock.now(), jitter: self.rng.jitter() }
    }
}

/// One event and its place in this process.
pub struct Delivery<'a> {
    /// The event.
    pub event: &'a Event,
    /// The record it came from.
    pub record: &'a Record,
    /// Its turn in its session.
    pub turn: &'a Turn,
    /// Its answer is not known without a call.
    pub calls: bool,
    /// The partition is being given up: stop where nothing is in doubt.
    pub draining: &'a CancellationToken,
}

/// What happens on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEvent {
    /// It is put away in the ledger; its offset need not wait for it.
    Parked,
    /// Its answer is written down and handed over; its session may go on.
    Settled,
    /// It waits for a row of the ledger that cannot be read; a restart would not help.
    Stuck,
    /// It is ours; what it waited for, if it did, is repaired.
    Claimed,
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// Its final answer is acknowledged.
    Published,
    /// Another record with this id has the answer.
    Duplicate,
    /// Left for the partition's next owner; nothing is in doubt, or it is somebody else's.
    LeftOpen,
}

/// Delivery one event to its acknowledged final answer; `tell` hears what happens on the way.
pub async fn deliver<P: Ports>(
    context: &Context<P>,
    delivery: &Delivery<'_>,
    tell: impl Fn(TaskEvent),
) -> Delivered {
    let Ok(near) = approach(context, delivery).await else { return Delivered::LeftOpen };
    let Ok(steady) = steady(context, delivery).await else { return Delivered::LeftOpen };
    let now = context.clock.now();
    let mut claim = claim_of_event(delivery.event, delivery.record, now);
    let (event, policy) = (delivery.event, &context.policy);
    let mut course = match context.ledger.claim(claim.clone()).await {
        ClaimResult::Fresh => Course::new(event, policy, now),
        ClaimResult::Resumed(resumed) => {
            let memory = remembered(resumed.memory.as_deref());
            match resumed.parked_until {
                Some(due) => Course::resumed(event, policy, memory, (due, now)),
                // It was too late from the beginning: no call was ever out.
                None if resumed.first_seen >= event.deadline => Course::new(event, policy, now),
                None => Course::interrupted(event, policy, memory, now),
            }
        }
        ClaimResult::Settled { answer, published, at } => {
            drop(near);
            if let Err(GivenUp) = my_turn(context, delivery, event.deadline).await {
                return Delivered::LeftOpen;
            }
            if published {
                tell(TaskEvent::Settled);
            } else {
                publish_once(context, claim.key, (answer, at), &tell).await;
            }
            return Delivered::Published;
        }
        ClaimResult::Duplicate => {
            info!(event.id = %event.id, source = %event.source, "id seen before: not answered again");
            return Delivered::Duplicate;
        }
        ClaimResult::Unreadable { why } => {
            error!(event.id = %event.id, source = %event.source, "an event waits for the ledger: {why}");
            tell(TaskEvent::Stuck);
            return Delivered::LeftOpen;
        }
        ClaimResult::Conflict { .. } => {
            drop(near);
            return send_dead_letter(context, delivery.record, &conflict(event), &tell).await;
        }
    };
    tell(TaskEvent::Claimed);
    let claimed = Instant::now();
    // A doubt waits longer: it can be asked after only when nothing else of the session is out.
    if let Err(GivenUp) = my_turn(context, delivery, course.gives_up_at()).await {
        if !course.in_doubt() {
            leave(context, &claim, &course, now).await;
        }
        return Delivered::LeftOpen;
    }
    let steady = (!is_old(claimed)).then_some(steady);
    let parts = (near, (&mut claim, steady), &tell);
    let Some(outcome) = decide(context, delivery, &mut course, parts).await else {
        return Delivered::LeftOpen;
    };
    let message = Arc::new(outcome.to_message(event));
    let steady = context.lease.token().await;
    if !context.ledger.settle(claim.key.clone(), message.clone(), outcome.decided_at).await {
        warn!(event.id = %event.id, "somebody else has taken it over, and answers");
        return Delivered::LeftOpen;
    }
    let answer = (message, outcome.decided_at);
    let published = hand_over(context, Some(steady), answer, || tell(TaskEvent::Settled)).await;
    context.ledger.published(claim.key, Some(published.place)).await;
    // Else whoever did has counted and told it.
    if published.by_us {
        context.metrics.outcome(outcome.status, outcome.elapsed());
        log(&outcome);
    }
    Delivered::Published
}

/// Send a malformed record to the dead letters, once.
pub async fn send_dead_letter<P: Ports>(
    context: &Context<P>,
    record: &Record,
    malformed: &Malformed,
    tell: impl Fn(TaskEvent),
) -> Delivered {
    let now = context.clock.now();
    let claim = claim_of_letter(record, now);
    let key = claim.key.clone();
    let steady = context.lease.token().await;
    match context.ledger.claim(claim).await {
        ClaimResult::Settled { published: true, .. }
        | ClaimResult::Duplicate
        | ClaimResult::Conflict { .. } => {}
        ClaimResult::Settled { answer, at, .. } => {
            publish_once(context, key, (answer, at), |_| {}).await;
        }
        ClaimResult::Unreadable { why } => {
            error!(source = %record.position, "a malformed record waits for the ledger: {why}");
            tell(TaskEvent::Stuck);
            return Delivered::LeftOpen;
        }
        ClaimResult::Fresh | ClaimResult::Resumed(_) => {
            let letter = Arc::new(dead_letter(record.clone(), malformed, now));
            if !context.ledger.settle(key.clone(), letter.clone(), now).await {
                return Delivered::LeftOpen;
            }
            warn!(
                source = %record.position,
                class = malformed.class.as_str(),
                "malformed record goes to the dead letters: {}",
                malformed.error
            );
            let published = hand_over(context, Some(steady), (letter, now), || {}).await;
            context.ledger.published(key, Some(published.place)).await;
            if published.by_us {
                context.metrics.dead_letter(malformed.class);
            }
        }
    }
    Delivered::Published
}

/// Delivery until the final answer is known; `None`: given up for the partition's next owner.
async fn decide<P: Ports>(
    context: &Context<P>,
    delivery: &Delivery<'_>,
    course: &mut Course<'_>,
    (mut near, (claim, mut claimed), tell): (
        Option<ClaimPermit>,
        (&mut Claim, Option<FencingToken>),
        &impl Fn(TaskEvent),
    ),
) -> Option<Outcome> {
    // No call begins once the process was frozen since the claim: it may be somebody else's. None
    // is out while it is put away.
    let is_still =
        |claimed: Option<FencingToken>| claimed.is_some_and(|it| context.lease.accepts(it));
    let mut put_away = false;
    loop {
        let now = context.clock.now();
        match course.next(now) {
            Step::Settle(outcome) => return Some(*outcome),
            Step::Wait(wait) => {
                drop(near.take());
                if until(context, (delivery, course), sleep(wait)).await.is_none() {
                    leave(context, claim, course, now).await;
                    return None;
                }
            }
            Step::Park(wait) => {
                drop(near.take());
                let due = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
                // From now on its offset may be committed: nobody delivers the record again.
                let record = Some(delivery.record.clone());
                let parking = Parking { record, ..parking(course, due) };
                if !context.ledger.park(claim.key.clone(), parking).await {
                    return None;
                }
                tell(TaskEvent::Parked);
                (claimed, put_away) = (None, true);
                until(context, (delivery, course), sleep(wait)).await?;
            }
            Step::PublishInterim(tell) => {
                drop(near.take());
                if !announce(context, claim, course, *tell).await {
                    return None;
                }
                (claimed, put_away) = (None, true);
            }
            Step::Call(..) if !is_still(claimed) => {
                if put_away && near.is_none() {
                    let approach = context.gate.acquire_claim(delivery.turn.rank());
                    near = until(context, (delivery, course), approach).await?;
                    continue;
                }
                // The intent before the act, as for the first burst.
                claimed = claim_in_time(context, (delivery, course), claim).await?;
                put_away &= claimed.is_none();
            }
            Step::Call(command, body) => {
                let pass = context.gate.acquire_call(delivery.turn.rank(), command);
                match until(context, (delivery, course), pass).await {
                    Some(Some(pass))
                        // The clock may have been set meanwhile: past the end nothing is called.
                        if context.clock.now() >= course.gives_up_at()
                            || !is_still(claimed) =>
                    {
                        drop(pass);
                    }
                    Some(Some(pass)) => {
                        drop(near.take());
                        call(context, (delivery, course), (command, body), pass).await;
                    }
                    Some(None) => {}
                    None => {
                        leave(context, claim, course, now).await;
                        return None;
                    }
                }
            }
        }
    }
}

async fn call<P: Ports>(
    context: &Context<P>,
    (delivery, course): (&Delivery<'_>, &mut Course<'_>),
    (command, body): (DeskCommand, Vec<u8>),
    pass: CallPermit,
) {
    let begun = context.clock.now();
    let started = Instant::now();
    let mut calling = pin!(context.desk.call(command, body, course.signature_after()));
    let under_way = poll_fn(|task| Poll::Ready(calling.as_mut().poll(task))).await;
    // Only now, so that nothing of the next event delays this call.
    delivery.turn.call_started();
    let reply = match under_way {
        Poll::Ready(reply) => reply,
        Poll::Pending => calling.await,
    };
    let took = started.elapsed();
    let call = CompletedCall { command, begun, reply };
    let heard = course.on_reply(&call, context.moment());
    context.metrics.desk_call(command, heard.verdict, took);
    debug!(
        desk.command = command.as_str(),
        desk.verdict = heard.verdict,
        desk.code = call.reply.answer().map(|answer| answer.desk.code),
        duration_ms = took.as_millis() as u64,
        "called Desk"
    );
    let next = if course.is_settled() {
        delivery.turn.rank_behind()
    } else {
        delivery.turn.call_returned();
        None
    };
    pass.report(&heard.signal, next);
}

fn conflict(event: &Event) -> Malformed {
    let error = format!("the id {:?} was used with another session before", event.id);
    Malformed { class: MalformedClass::ConflictingId, error }
}

/// The one line per outcome.
fn log(outcome: &Outcome) {
    info!(
        event.id = %outcome.event_id,
        session.id = %outcome.session_id,
        status = outcome.status.as_str(),
        agent.id = outcome.agent_id,
        desk.code = outcome.desk.as_ref().map(|desk| desk.code),
        attempts = outcome.attempts,
        kafka.partition = outcome.source.partition,
        kafka.offset = outcome.source.offset,
        duration_ms = outcome.elapsed_ms,
        reason = outcome.reason,
        "escalation answered"
    );
}

#[cfg(test)]
mod tests;
