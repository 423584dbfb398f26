//! The events and dead letters that are being worked on, each in a task of its own.
//!
//! A task walks, says when its answer is settled, and publishes. The turn in its session passes on
//! as soon as the answer is settled; the offset only when it is acknowledged.
//! This file never loses a task: each one ends in `next`, cancelled and panicked ones too.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::assignment::{Key, Place};
use super::said::{Said, teller};
use super::session_queues::SessionQueues;
use crate::deliver::{
    Context, Delivered, Delivery, Ports, TaskEvent, Turn, deliver, send_dead_letter,
};
use crate::domain::course::Policy;
use crate::domain::event::{Event, Malformed};
use crate::domain::ledger_entry::{EntryState, RecoveredEntry};
use crate::domain::record::Record;
use crate::domain::wire::escalation::{DecodeRules, Decoded, decode};
use crate::gate::{Rank, Ticket};
use crate::ledger::{Ledger as _, Recovered};

/// So many parked events do not count as unfinished, and so many bytes of theirs.
const MAX_PARKED: usize = 10_000;
const MAX_PARKED_BYTES: usize = 16 * 1024 * 1024;

/// What a former owner has taken from us is taken back after so many times of what Desk needs to
/// settle: if it lives, it asks what became of the call that it took for ours, and answers.
const TAKEN_BACK_AFTER: u32 = 3;
/// Between two tries, whatever the policy.
const AT_LEAST: Duration = Duration::from_secs(1);

/// One event or dead letter in work.
#[derive(Debug)]
pub(super) struct Job {
    place: Place,
    ticket: Ticket,
    /// The session, of an event.
    session: Option<Arc<str>>,
    /// The deadline, of an event.
    due: Option<Timestamp>,
    size_bytes: usize,
    /// Put away in the ledger: it holds no offset.
    parked: bool,
    abort: AbortHandle,
}

impl Job {
    /// A dead letter; an event has a session, its place there and a deadline besides.
    fn new(place: Place, size_bytes: usize, abort: AbortHandle) -> Self {
        Self { place, ticket: 0, session: None, due: None, size_bytes, parked: false, abort }
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Its delivery came to an end.
    Delivered(Delivered),
    /// It was fenced.
    Cancelled,
    /// A bug: its record has no answer.
    Panicked,
}

/// What happened to the work.
pub(super) enum Happened {
    /// A job ended.
    Ended(Job, Ended),
    /// A job was put away in the ledger.
    Parked(Place),
    /// What the last owner of these partitions left open.
    LookedUp { partitions: Vec<i32>, epoch: u64, found: Recovered },
}

/// All of them.
pub(super) struct Jobs<P: Ports> {
    context: Arc<Context<P>>,
    rules: DecodeRules,
    tasks: JoinSet<Delivered>,
    running: HashMap<tokio::task::Id, Job>,
    session_queues: SessionQueues,
    turns: HashMap<Ticket, Arc<Turn>>,
    said: (mpsc::UnboundedSender<Said>, mpsc::UnboundedReceiver<Said>),
    lookups: JoinSet<(Vec<i32>, u64, Recovered)>,
    /// Of each assignment the look-up that is under way.
    looking_up: HashMap<u64, AbortHandle>,
    /// Those that wait for a row of the ledger that cannot be read, with what they have in `due` else.
    stuck: HashMap<tokio::task::Id, Option<(Timestamp, Ticket)>>,
    /// Deadlines of the events that are not settled.
    due: BTreeSet<(Timestamp, Ticket)>,
    /// Of all events, and of the parked among them.
    bytes: usize,
    parked_bytes: usize,
    parked: usize,
    tickets: Ticket,
}

impl<P: Ports> Jobs<P> {
    pub(super) fn new(context: Arc<Context<P>>, rules: DecodeRules) -> Self {
        Self {
            context,
            rules,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            session_queues: SessionQueues::default(),
            turns: HashMap::new(),
            said: mpsc::unbounded_channel(),
            lookups: JoinSet::new(),
            looking_up: HashMap::new(),
            parked: 0,
            stuck: HashMap::new(),
            due: BTreeSet::new(),
            bytes: 0,
            parked_bytes: 0,
            tickets: 0,
        }
    }

    /// Begin to work on a record. False: it is not for us.
    pub(super) fn begin(&mut self, record: Record, at: (Place, &CancellationToken)) -> bool {
        let now = self.context.clock.now();
        let intake = decode(&record, &self.rules, now);
        self.begin_read(intake, (record, false), at)
    }

    /// Go on with what was left open, judged by when it was first seen.
    pub(super) fn take_up(&mut self, row: RecoveredEntry, at: (Place, &CancellationToken)) -> bool {
        // It was accepted once, and nobody delivers it again: no rule of today turns it away.
        let intake = decode(&row.record, &self.rules.of_accepted(), row.first_seen);
        let answered = matches!(row.state, EntryState::Settled { .. });
        self.begin_read(intake, (row.record, answered), at)
    }

    /// Ask the ledger what was left open in these partitions.
    pub(super) fn look_up(
        &mut self,
        topic: &Arc<str>,
        (partitions, epoch): (Vec<i32>, u64),
        after: Duration,
    ) {
        let (context, topic) = (self.context.clone(), topic.clone());
        let look_up = self.lookups.spawn(async move {
            sleep(after).await;
            let found = context.ledger.recover(topic, partitions.clone()).await;
            (partitions, epoch, found)
        });
        self.looking_up.insert(epoch, look_up);
    }

    /// Nobody waits any more for what was left open in other assignments than these.
    pub(super) fn stop_look_ups(&mut self, but: impl Fn(u64) -> bool) {
        self.looking_up.retain(|epoch, look_up| {
            let wanted = but(*epoch);
            if !wanted {
                look_up.abort();
            }
            wanted
        });
    }

    fn begin_read(
        &mut self,
        intake: Decoded,
        (record, answered): (Record, bool),
        at: (Place, &CancellationToken),
    ) -> bool {
        match intake {
            Decoded::NotForUs => return false,
            Decoded::Malformed(malformed) => self.send_dead_letter(record, malformed, at),
            Decoded::Event(event) => self.delivery(*event, (record, answered), at),
        }
        true
    }

    /// Recovered events and the bytes they hold.
    pub(super) fn load(&self) -> (usize, usize) {
        let bytes = self.bytes - self.parked_bytes.min(MAX_PARKED_BYTES);
        (self.running.len() - self.parked.min(MAX_PARKED), bytes)
    }

    /// Sessions with unsettled events.
    pub(super) fn sessions(&self) -> usize {
        self.session_queues.len()
    }

    /// The earliest deadline of an event that is not settled, and could be.
    pub(super) fn oldest_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due)
    }

    /// How many wait for a row of the ledger that cannot be read.
    pub(super) fn stuck(&self) -> usize {
        self.stuck.len()
    }

    /// How many still run for these assignments.
    pub(super) fn running_in(&self, leaving: &[Key]) -> usize {
        self.running.values().filter(|job| leaving.contains(&job.place.key())).count()
    }

    /// Cancel what still runs for these assignments; whether anything of theirs may be on its way.
    pub(super) fn cancel(&self, leaving: &[Key]) -> bool {
        let theirs = self.running.values().filter(|job| leaving.contains(&job.place.key()));
        let mut theirs: Vec<_> = theirs.collect();
        theirs.sort_by_key(|job| job.place.offset);
        for job in &theirs {
            job.abort.abort();
        }
        !theirs.is_empty()
    }

    /// The next thing that happens.
    pub(super) async fn next(&mut self) -> Happened {
        loop {
            tokio::select! {
                biased;
                Some(said) = self.said.1.recv() => {
                    if let Some(parked) = self.hear(&said) {
                        return Happened::Parked(parked);
                    }
                }
                Some(looked_up) = self.lookups.join_next() => {
                    match looked_up {
                        Ok((partitions, epoch, found)) => {
                            self.looking_up.remove(&epoch);
                            return Happened::LookedUp { partitions, epoch, found };
                        }
                        Err(stopped) if stopped.is_cancelled() => {}
                        // Its partitions stay held.
                        Err(panicked) => {
                            let text = format!("looking up what was left open: {panicked}: a bug");
                            error!("{text}; its partitions begin nothing before a restart");
                            self.context.health.report_bug(text);
                        }
                    }
                }
                Some(joined) = self.tasks.join_next_with_id() => {
                    let (id, ended) = match joined {
                        Ok((id, delivered)) => (id, Ended::Delivered(delivered)),
                        Err(error) if error.is_panic() => (error.id(), Ended::Panicked),
                        Err(error) => (error.id(), Ended::Cancelled),
                    };
                    self.stuck.remove(&id);
                    if let Some(job) = self.running.remove(&id) {
                        self.clear(&job);
                        return Happened::Ended(job, ended);
                    }
                }
            }
        }
    }

    fn send_dead_letter(
        &mut self,
        record: Record,
        malformed: Malformed,
        at: (Place, &CancellationToken),
    ) {
        let (place, draining) = (at.0, at.1.clone());
        let context = self.context.clone();
        let size_bytes = record.size_bytes();
        let said = self.said.0.clone();
        let abort = self.tasks.spawn(async move {
            let tell = teller(&said);
            loop {
                let delivered = send_dead_letter(&context, &record, &malformed, &tell).await;
                if !is_taken_back(delivered, &draining, &context.policy).await {
                    return delivered;
                }
            }
        });
        self.keep(Job::new(place, size_bytes, abort));
    }

    fn delivery(
        &mut self,
        event: Event,
        (record, answered): (Record, bool),
        at: (Place, &CancellationToken),
    ) {
        let (place, draining) = at;
        self.tickets += 1;
        let ticket = self.tickets;
        let (session, due) = (event.session_id.clone(), event.deadline);
        let turn = Turn::new(Rank { requested_at: event.requested_at, ticket });
        match self.session_queues.join(&session, ticket) {
            None => turn.give(),
            Some(before) => self.turns[&before].precedes(&turn),
        }
        self.turns.insert(ticket, turn.clone());
        self.due.insert((due, ticket));
        let size_bytes = record.size_bytes();
        let task = Task {
            context: self.context.clone(),
            calls: event.request.is_ok() && !answered,
            event,
            record,
            turn,
            draining: draining.clone(),
            said: self.said.0.clone(),
        };
        let abort = self.tasks.spawn(task.run());
        let (session, due) = (Some(session), Some(due));
        self.keep(Job { ticket, session, due, ..Job::new(place, size_bytes, abort) });
    }

    fn keep(&mut self, job: Job) {
        self.bytes += job.size_bytes;
        self.running.insert(job.abort.id(), job);
    }

    /// A task said something; returns its place when it was put away.
    fn hear(&mut self, said: &Said) -> Option<Place> {
        let job = self.running.get_mut(&said.task)?;
        match said.told {
            TaskEvent::Parked => {
                if !std::mem::replace(&mut job.parked, true) {
                    self.parked += 1;
                    self.parked_bytes += job.size_bytes;
                }
                Some(job.place)
            }
            TaskEvent::Settled => {
                let (session, due, ticket) = (job.session.clone(), job.due, job.ticket);
                self.pass_on(session, due, ticket);
                None
            }
            TaskEvent::Stuck => {
                let due = job.due.map(|due| (due, job.ticket));
                if let Some(due) = due {
                    self.due.remove(&due);
                }
                self.stuck.insert(said.task, due);
                None
            }
            TaskEvent::Claimed => {
                self.due.extend(self.stuck.remove(&said.task).flatten());
                None
            }
        }
    }

    /// The session goes on with its next event.
    fn pass_on(&mut self, session: Option<Arc<str>>, due: Option<Timestamp>, ticket: Ticket) {
        let (Some(session), Some(due)) = (session, due) else { return };
        self.due.remove(&(due, ticket));
        self.turns.remove(&ticket);
        let next = self.session_queues.leave(&session, ticket);
        // A task that is gone by now leaves its lane when it is joined.
        if let Some(turn) = next.and_then(|ticket| self.turns.get(&ticket)) {
            turn.give();
        }
    }

    fn clear(&mut self, job: &Job) {
        self.bytes -= job.size_bytes;
        if job.parked {
            self.parked -= 1;
            self.parked_bytes -= job.size_bytes;
        }
        self.pass_on(job.session.clone(), job.due, job.ticket);
    }
}

/// Left open although the partition is still ours: whoever took it from us had lost the
/// partition without knowing it yet, and will not answer. True: it is our turn again.
async fn is_taken_back(
    delivered: Delivered,
    draining: &CancellationToken,
    policy: &Policy,
) -> bool {
    if delivered != Delivered::LeftOpen {
        return false;
    }
    tokio::select! {
        biased;
        () = draining.cancelled() => false,
        () = sleep((policy.settle * TAKEN_BACK_AFTER).max(AT_LEAST)) => true,
    }
}

/// What the task of an event carries.
struct Task<P: Ports> {
    context: Arc<Context<P>>,
    event: Event,
    record: Record,
    /// Its answer is not known without a call.
    calls: bool,
    turn: Arc<Turn>,
    draining: CancellationToken,
    said: mpsc::UnboundedSender<Said>,
}

impl<P: Ports> Task<P> {
    async fn run(self) -> Delivered {
        let delivery = Delivery {
            event: &self.event,
            record: &self.record,
            turn: &self.turn,
            calls: self.calls,
            draining: &self.draining,
        };
        let tell = teller(&self.said);
        loop {
            let delivered = deliver(&self.context, &delivery, &tell).await;
            if !is_taken_back(delivered, &self.draining, &self.context.policy).await {
                return delivered;
            }
        }
    }
}
