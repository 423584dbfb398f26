//! Checks a chaos run: what was published, answered and sent to the dead-letter topic, and what Desk
//! recorded, must agree.
//!
//! This is pure: evidence in, findings out. `checker_tests` shows that each finding is detected. Which
//! findings are acceptable is decided in [`Findings::are_acceptable`] only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use handoff::sim::desk::{ApiCommand, CallRecord};
use jiff::Timestamp;

use super::duty::{Duty, TopicLife};
use super::freshness::{Disturbance, freshness};

/// Partition and offset of a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RecordPosition(pub(super) i32, pub(super) i64);

impl fmt::Debug for RecordPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

/// What must come of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RecordKind {
    /// One dead letter.
    Malformed,
    /// One final outcome per id.
    Event { id: String, session: String, expected: ExpectedResult },
}

/// The expected outcome of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExpectedResult {
    /// What Desk decides.
    FromDesk,
    /// `rejected` without a call, because a field is invalid.
    Rejected,
    /// `expired` without a call, because its deadline had passed.
    Expired,
    /// `failed`, because Desk always refuses its session.
    Failed,
}

/// A record that was sent.
#[derive(Debug, Clone)]
pub(super) struct SentRecord {
    /// The number of its topic: topics of one name follow each other.
    pub(super) topic: usize,
    pub(super) position: RecordPosition,
    pub(super) kind: RecordKind,
    /// When the broker appended it.
    pub(super) arrived: Timestamp,
    /// Whether it belongs to a pile beside the ordinary records.
    pub(super) is_in_pile: bool,
}

/// A published outcome.
#[derive(Debug, Clone)]
pub(super) struct ObservedOutcome {
    pub(super) position: RecordPosition,
    pub(super) event: String,
    pub(super) session: String,
    pub(super) status: String,
    pub(super) agent: Option<String>,
    pub(super) is_final: bool,
    pub(super) source: RecordPosition,
    pub(super) decided: Timestamp,
    /// When the broker appended it.
    pub(super) published: Timestamp,
    pub(super) reason: String,
    pub(super) bytes: Vec<u8>,
}

/// A published dead letter, by the position of its malformed record.
#[derive(Debug, Clone)]
pub(super) struct ObservedDeadLetter {
    pub(super) source: RecordPosition,
    /// When the broker appended that record; a topic that is created again has others at its positions.
    pub(super) source_arrived: Timestamp,
    pub(super) bytes: Vec<u8>,
}

/// What Desk recorded about a session.
#[derive(Debug, Clone, Default)]
pub(super) struct DeskSession {
    /// Transfers that took effect.
    pub(super) transfers: u64,
    pub(super) calls: Vec<CallRecord>,
}

/// Everything that the check is based on.
#[derive(Debug, Clone, Default)]
pub(super) struct Evidence {
    pub(super) sent: Vec<SentRecord>,
    /// The name of the escalations topic, and the topics that had it; the last one is there.
    pub(super) input: String,
    pub(super) topics: Vec<TopicLife>,
    /// The keys of all ledger entries.
    pub(super) claimed: BTreeSet<String>,
    pub(super) outcomes: Vec<ObservedOutcome>,
    pub(super) dead_letters: Vec<ObservedDeadLetter>,
    pub(super) desk: BTreeMap<String, DeskSession>,
    /// End and committed offset of each partition.
    pub(super) offsets: Vec<(i64, Option<i64>)>,
    /// How long Desk may still execute a call that got no answer, in nanoseconds.
    pub(super) settle_ns: u64,
    /// When events could not be answered in time.
    pub(super) disturbances: Vec<Disturbance>,
}

/// The findings by kind, each with a line for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Without a final outcome or dead letter.
    pub(super) lost: Vec<String>,
    /// Final outcomes of one event that differ in status, agent or session.
    pub(super) contradictory: Vec<String>,
    /// Final outcomes of one event, or dead letters of one record, that differ only in other bytes.
    pub(super) duplicate: Vec<String>,
    /// Identical outcomes or dead letters, which a consumer can drop by their id.
    pub(super) repeated: Vec<String>,
    /// Outcomes that contradict what Desk did or the event itself.
    pub(super) untrue: Vec<String>,
    /// Outcomes and dead letters that no record called for.
    pub(super) unexpected: Vec<String>,
    /// Decided before an earlier event of the same session.
    pub(super) decided_out_of_order: Vec<String>,
    /// Published before an earlier event of the same session.
    pub(super) published_out_of_order: Vec<String>,
    /// Sessions with more effective transfers than events.
    pub(super) transferred_again: Vec<String>,
    /// Overlapping calls of one session.
    pub(super) overlapping: Vec<String>,
    /// Transfers called while an earlier one was in doubt.
    pub(super) called_in_doubt: Vec<String>,
    /// Partitions not committed to the end.
    pub(super) uncommitted: Vec<String>,
    /// Events beside the piles that waited for no reason; judged in long runs.
    pub(super) late: Vec<String>,
}

impl Findings {
    /// Whether a run in which processes were paused so often may have these findings. A process that
    /// is paused between enqueueing a message and sending it may repeat the message, and one that is
    /// paused between its last check and a call makes this call when it resumes. ARCHITECTURE.md
    /// documents both limits.
    pub(super) fn are_acceptable(&self, pauses: usize) -> bool {
        let repeats_are_explained = pauses > 0 || self.repeated.is_empty();
        let calls_are_explained = self.overlapping.len() + self.called_in_doubt.len() <= pauses;
        let explainable = ["repeated", "overlapping", "called in doubt"];
        repeats_are_explained
            && calls_are_explained
            && self
                .named()
                .iter()
                .all(|(name, found)| explainable.contains(name) || found.is_empty())
    }

    /// Name and findings of each kind.
    pub(super) fn named(&self) -> [(&'static str, &[String]); 13] {
        [
            ("lost", &self.lost),
            ("contradictory", &self.contradictory),
            ("duplicate", &self.duplicate),
            ("repeated", &self.repeated),
            ("untrue", &self.untrue),
            ("unexpected", &self.unexpected),
            ("decided out of order", &self.decided_out_of_order),
            ("published out of order", &self.published_out_of_order),
            ("transferred again", &self.transferred_again),
            ("overlapping", &self.overlapping),
            ("called in doubt", &self.called_in_doubt),
            ("uncommitted", &self.uncommitted),
            ("late", &self.late),
        ]
    }
}

/// How many outcomes and dead letters a run must end with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExpectedCounts {
    pub(super) outcomes: usize,
    pub(super) dead_letters: usize,
}

pub(super) fn expected_counts(sent: &[SentRecord]) -> ExpectedCounts {
    let mut malformed = 0;
    let mut events: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for record in sent {
        match &record.kind {
            RecordKind::Malformed => malformed += 1,
            RecordKind::Event { id, session, .. } => {
                events.entry(id).or_default().insert(session);
            }
        }
    }
    // Each record that uses an id again for another session is sent to the dead-letter topic.
    let conflicts = events.values().map(|sessions| sessions.len() - 1).sum::<usize>();
    ExpectedCounts { outcomes: events.len(), dead_letters: malformed + conflicts }
}

pub(super) fn check(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    let finals = finals(evidence);
    check_outcomes(evidence, &finals, &mut findings);
    check_dead_letters(evidence, &finals, &mut findings);
    check_against_desk(evidence, &finals, &mut findings);
    check_order(evidence, &finals, &mut findings);
    check_calls(evidence, &mut findings);
    findings.late = freshness(evidence).late();
    for (partition, (end, committed)) in evidence.offsets.iter().enumerate() {
        if *end > 0 && *committed != Some(*end) {
            let text = format!("partition {partition}: committed {committed:?} of {end}");
            findings.uncommitted.push(text);
        }
    }
    findings
}

type Finals<'a> = BTreeMap<&'a str, Vec<&'a ObservedOutcome>>;

fn finals(evidence: &Evidence) -> Finals<'_> {
    let mut finals = Finals::new();
    for outcome in evidence.outcomes.iter().filter(|outcome| outcome.is_final) {
        finals.entry(&outcome.event).or_default().push(outcome);
    }
    finals
}

fn expected_results(evidence: &Evidence) -> BTreeMap<&str, ExpectedResult> {
    let expected = evidence.sent.iter().filter_map(|sent| match &sent.kind {
        RecordKind::Event { id, expected, .. } => Some((id.as_str(), *expected)),
        RecordKind::Malformed => None,
    });
    expected.collect()
}

/// Exactly one final outcome per id.
fn check_outcomes(evidence: &Evidence, finals: &Finals<'_>, findings: &mut Findings) {
    let expected = expected_results(evidence);
    for (id, duty) in evidence.duties() {
        let is_due =
            duty == Duty::Answer || duty == Duty::AnswerIfClaimed && evidence.is_claimed(id);
        if is_due && !finals.contains_key(id) {
            findings.lost.push(format!("event {id} has no final outcome ({duty:?})"));
        }
    }
    for (id, all) in finals {
        if !expected.contains_key(id) {
            findings.unexpected.push(format!("an outcome for {id}, which was never sent"));
        }
        let first = all[0];
        for other in &all[1..] {
            let text =
                format!("event {id}: outcomes at {:?} and {:?}", first.position, other.position);
            let (one, two) = (content(first), content(other));
            if other.bytes == first.bytes {
                findings.repeated.push(text);
            } else if one != two {
                findings.contradictory.push(format!("{text}: {one:?}, {two:?}"));
            } else {
                findings.duplicate.push(text);
            }
        }
    }
}

fn content(outcome: &ObservedOutcome) -> (&str, Option<&str>, &str) {
    (&outcome.status, outcome.agent.as_deref(), &outcome.session)
}

/// Exactly one dead letter per malformed record, and per id used with another session.
fn check_dead_letters(evidence: &Evidence, finals: &Finals<'_>, findings: &mut Findings) {
    type RecordId = (RecordPosition, Timestamp);
    let mut possible: BTreeMap<RecordId, (String, bool)> = BTreeMap::new();
    for sent in &evidence.sent {
        let text = match &sent.kind {
            RecordKind::Malformed => "malformed".to_owned(),
            RecordKind::Event { id, session, .. } => match finals.get(id.as_str()) {
                Some(all) if all[0].session != *session => format!("{id} of another session"),
                _ => continue,
            },
        };
        let is_due = match evidence.duty_to(sent) {
            Duty::Answer => true,
            Duty::AnswerIfClaimed => evidence.is_dead_letter_claimed(sent),
            Duty::Nothing => false,
        };
        possible.insert((sent.position, sent.arrived), (text, is_due));
    }
    let mut seen: BTreeMap<RecordId, &ObservedDeadLetter> = BTreeMap::new();
    for dead_letter in &evidence.dead_letters {
        let position = dead_letter.source;
        let record = (position, dead_letter.source_arrived);
        if !possible.contains_key(&record) {
            findings
                .unexpected
                .push(format!("a dead letter for {position:?}, which is a valid record"));
        }
        match seen.insert(record, dead_letter) {
            Some(first) if first.bytes == dead_letter.bytes => {
                findings.repeated.push(format!("two dead letters for {position:?}"));
            }
            Some(_) => findings.duplicate.push(format!("two dead letters for {position:?}")),
            None => {}
        }
    }
    for (record, (text, is_due)) in &possible {
        if *is_due && !seen.contains_key(record) {
            let (position, arrived) = record;
            let text = format!("record {position:?} of {arrived} ({text}) has no dead letter");
            findings.lost.push(text);
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct AnsweredSession {
    is_transferred: bool,
    events: usize,
}

/// An outcome agrees with what Desk did, and no session is called without need.
fn check_against_desk(evidence: &Evidence, finals: &Finals<'_>, findings: &mut Findings) {
    let expected = expected_results(evidence);
    let mut sessions: BTreeMap<&str, AnsweredSession> = BTreeMap::new();
    for (id, all) in finals {
        let outcome = all[0];
        let status = outcome.status.as_str();
        let text = format!("event {id} of {}: {status} ({})", outcome.session, outcome.reason);
        let expected = expected.get(id).copied();
        if matches!(
            (expected, status),
            (Some(ExpectedResult::Rejected), "rejected")
                | (Some(ExpectedResult::Expired), "expired")
        ) {
            continue;
        }
        let may_be_called = expected == Some(ExpectedResult::FromDesk)
            || expected == Some(ExpectedResult::Failed) && status == "failed";
        if !may_be_called {
            findings.untrue.push(text);
            continue;
        }
        let session = sessions.entry(&outcome.session).or_default();
        // The reason of such an outcome says that its effect is unknown.
        session.is_transferred |=
            matches!(status, "assigned" | "queued") || outcome.reason.contains("unknown");
        session.events += 1;
    }
    let left = evidence.left_when_killed(|id| finals.contains_key(id));
    for (session, desk) in evidence.desk.iter().filter(|(session, _)| !left.contains(*session)) {
        let AnsweredSession { is_transferred, events } =
            sessions.get(session.as_str()).copied().unwrap_or_default();
        if is_transferred != (desk.transfers > 0) {
            let did = if is_transferred { "did not transfer" } else { "transferred" };
            findings.untrue.push(format!("session {session}: Desk {did} it"));
        }
        // A state query is allowed: after a crash the worker cannot know that no call was sent.
        if events == 0 && desk.calls.iter().any(|call| call.command == ApiCommand::Transfer) {
            findings.untrue.push(format!("session {session} was called without need"));
        }
        if desk.transfers > events as u64 {
            let text = format!("session {session}: {} transfers, {events} events", desk.transfers);
            findings.transferred_again.push(text);
        }
    }
}

/// The events of a session are decided and published in the order of their records.
fn check_order(evidence: &Evidence, finals: &Finals<'_>, findings: &mut Findings) {
    let expected = expected_results(evidence);
    let topic = |sent: &SentRecord| match &sent.kind {
        RecordKind::Event { id, .. } => Some(((id.clone(), sent.position), sent.topic)),
        RecordKind::Malformed => None,
    };
    let topics: BTreeMap<_, _> = evidence.sent.iter().filter_map(topic).collect();
    let topic = |outcome: &ObservedOutcome| topics.get(&(outcome.event.clone(), outcome.source));
    let mut sessions: BTreeMap<&str, Vec<&ObservedOutcome>> = BTreeMap::new();
    for (id, all) in finals {
        // An expired event does not wait for its predecessors.
        if expected.get(id) == Some(&ExpectedResult::FromDesk) && all[0].status != "expired" {
            sessions.entry(&all[0].session).or_default().push(all[0]);
        }
    }
    for (session, mut outcomes) in sessions {
        outcomes.sort_by_key(|outcome| (topic(outcome), outcome.source));
        for pair in outcomes.windows(2) {
            let (one, two) = (pair[0], pair[1]);
            // A topic that is created again begins a new order.
            if topic(one) != topic(two) {
                continue;
            }
            let text = format!("session {session}: {} before {}", two.event, one.event);
            if two.decided < one.decided {
                findings.decided_out_of_order.push(text.clone());
            }
            if one.position.0 != two.position.0 || two.position < one.position {
                findings.published_out_of_order.push(text);
            }
        }
    }
}

/// No two calls of a session at once, and none while an earlier one is in doubt.
fn check_calls(evidence: &Evidence, findings: &mut Findings) {
    for (session, desk) in &evidence.desk {
        let mut busy_until = 0;
        let mut in_doubt = false;
        for call in &desk.calls {
            let text = format!("session {session}: {:?} at {} ns", call.command, call.began_ns);
            if call.began_ns < busy_until {
                findings.overlapping.push(text.clone());
            }
            busy_until = busy_until.max(end_of_call(call, evidence.settle_ns));
            match call.command {
                ApiCommand::Transfer => {
                    if in_doubt {
                        findings.called_in_doubt.push(text);
                    }
                    in_doubt = matches!(call.code, None | Some(141_002 | 60_008));
                }
                // Only an answer resolves the doubt.
                ApiCommand::State => in_doubt &= call.code != Some(0),
                ApiCommand::End | ApiCommand::Other => {}
            }
        }
    }
}

/// When the effect of a call is certain. Desk may execute a call without an answer for `settle_ns`.
fn end_of_call(call: &CallRecord, settle_ns: u64) -> u64 {
    let ended = call.ended_ns.unwrap_or(u64::MAX);
    if call.code.is_some() { ended } else { ended.min(call.began_ns + settle_ns) }
}
