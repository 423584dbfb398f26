//! The judge of a chaos run: what was sent, answered, buried and done by Desk, against each other.
//!
//! It is pure: evidence in, findings out; `judge_tests` shows that each finding can be made.
//! It never forgives: what may be is said where the findings are weighed (`Findings::is_well`).

use std::collections::{BTreeMap, BTreeSet};

use handoff::sim::desk::{CallRecord, Command};
use jiff::Timestamp;

/// A partition and an offset.
pub(super) type Place = (i32, i64);

/// What a record that was sent calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// One dead letter.
    Malformed,
    /// One final outcome per id.
    Event { id: String, session: String, fate: Fate },
}

/// What must become of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// What Desk says.
    Asked,
    /// `rejected`, without a call: a field is invalid.
    Invalid,
    /// `expired`, without a call: it came too late.
    TooLate,
}

/// A record that was sent.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) place: Place,
    pub(super) kind: Kind,
}

/// An outcome.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) place: Place,
    pub(super) event: String,
    pub(super) session: String,
    pub(super) status: String,
    pub(super) agent: Option<String>,
    pub(super) is_final: bool,
    pub(super) source: Place,
    pub(super) decided: Timestamp,
    pub(super) reason: String,
    pub(super) bytes: Vec<u8>,
}

/// A dead letter, by the record it is for.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    pub(super) source: Place,
    pub(super) bytes: Vec<u8>,
}

/// What Desk says of one session.
#[derive(Debug, Clone, Default)]
pub(super) struct AtDesk {
    pub(super) acted: u64,
    pub(super) calls: Vec<CallRecord>,
}

/// Everything there is to judge by.
#[derive(Debug, Clone, Default)]
pub(super) struct Evidence {
    pub(super) sent: Vec<Sent>,
    pub(super) answers: Vec<Answer>,
    pub(super) letters: Vec<Letter>,
    pub(super) desk: BTreeMap<String, AtDesk>,
    /// End of each partition, and what is committed there.
    pub(super) offsets: Vec<(i64, Option<i64>)>,
    /// How long Desk itself can work on a call that got no answer.
    pub(super) settle_ns: u64,
}

/// What is wrong, each with a line for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Without a final outcome or dead letter.
    pub(super) lost: Vec<String>,
    /// Final outcomes of one event that say different things.
    pub(super) contradictory: Vec<String>,
    /// Final outcomes of one event, or letters of one record, that differ in their bytes only.
    pub(super) doubled: Vec<String>,
    /// The same, byte for byte: a consumer drops them by their id.
    pub(super) repeated: Vec<String>,
    /// An outcome that Desk, or the event itself, belies.
    pub(super) untrue: Vec<String>,
    /// Answers and letters that nobody has asked for.
    pub(super) stray: Vec<String>,
    /// Decided before an earlier event of its session.
    pub(super) misordered: Vec<String>,
    /// Published before an earlier event of its session.
    pub(super) overtaken: Vec<String>,
    /// Sessions that Desk transferred more often than they have events.
    pub(super) acted_again: Vec<String>,
    /// Calls of one session that were under way together.
    pub(super) overlapping: Vec<String>,
    /// Transfers made while an earlier one was in doubt.
    pub(super) unasked: Vec<String>,
    /// Partitions not committed to the end.
    pub(super) uncommitted: Vec<String>,
}

impl Findings {
    /// All is well. Repeats may only come from a process that was frozen between handing a
    /// message over and sending it: the documented hole.
    pub(super) fn is_well(&self, frozen: bool) -> bool {
        let repeats_are_explained = frozen || self.repeated.is_empty();
        repeats_are_explained
            && self.named().iter().all(|(name, found)| *name == "repeated" || found.is_empty())
    }

    /// Each by its name.
    pub(super) fn named(&self) -> [(&'static str, &[String]); 12] {
        [
            ("lost", &self.lost),
            ("contradictory", &self.contradictory),
            ("doubled", &self.doubled),
            ("repeated", &self.repeated),
            ("untrue", &self.untrue),
            ("stray", &self.stray),
            ("misordered", &self.misordered),
            ("overtaken", &self.overtaken),
            ("acted again", &self.acted_again),
            ("overlapping", &self.overlapping),
            ("unasked", &self.unasked),
            ("uncommitted", &self.uncommitted),
        ]
    }
}

/// How many outcomes and dead letters there must be in the end.
pub(super) fn expected(sent: &[Sent]) -> (usize, usize) {
    let mut malformed = 0;
    let mut events: BTreeMap<&str, (BTreeSet<&str>, usize)> = BTreeMap::new();
    for record in sent {
        match &record.kind {
            Kind::Malformed => malformed += 1,
            Kind::Event { id, session, .. } => {
                let (sessions, _) = events.entry(id).or_default();
                sessions.insert(session);
            }
        }
    }
    // An id that was used with another session: each of its records there is a dead letter.
    let conflicts = events.values().map(|(sessions, _)| sessions.len() - 1).sum::<usize>();
    (events.len(), malformed + conflicts)
}

/// Judge.
pub(super) fn judge(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    let finals = finals(evidence);
    answers(evidence, &finals, &mut findings);
    letters(evidence, &finals, &mut findings);
    truth(evidence, &finals, &mut findings);
    order(evidence, &finals, &mut findings);
    calls(evidence, &mut findings);
    for (partition, (end, committed)) in evidence.offsets.iter().enumerate() {
        if *end > 0 && *committed != Some(*end) {
            let text = format!("partition {partition}: committed {committed:?} of {end}");
            findings.uncommitted.push(text);
        }
    }
    findings
}

type Finals<'a> = BTreeMap<&'a str, Vec<&'a Answer>>;

fn finals(evidence: &Evidence) -> Finals<'_> {
    let mut finals = Finals::new();
    for answer in evidence.answers.iter().filter(|answer| answer.is_final) {
        finals.entry(&answer.event).or_default().push(answer);
    }
    finals
}

fn fates(evidence: &Evidence) -> BTreeMap<&str, Fate> {
    let fate = |sent: &'_ Sent| match &sent.kind {
        Kind::Event { fate, .. } => Some(*fate),
        Kind::Malformed => None,
    };
    let mut fates = BTreeMap::new();
    for sent in &evidence.sent {
        if let (Kind::Event { id, .. }, Some(fate)) = (&sent.kind, fate(sent)) {
            fates.insert(id.as_str(), fate);
        }
    }
    fates
}

/// Exactly one final outcome per id.
fn answers(evidence: &Evidence, finals: &Finals<'_>, findings: &mut Findings) {
    let fates = fates(evidence);
    for id in fates.keys().filter(|id| !finals.contains_key(*id)) {
        findings.lost.push(format!("event {id} has no final outcome"));
    }
    for (id, all) in finals {
        if !fates.contains_key(id) {
            findings.stray.push(format!("an outcome for {id}, which was never sent"));
        }
        let first = all[0];
        for other in &all[1..] {
            let text = format!("event {id}: outcomes at {:?} and {:?}", first.place, other.place);
            let (one, two) = (what(first), what(other));
            if other.bytes == first.bytes {
                findings.repeated.push(text);
            } else if one != two {
                findings.contradictory.push(format!("{text}: {one:?}, {two:?}"));
            } else {
                findings.doubled.push(text);
            }
        }
    }
}

fn what(answer: &Answer) -> (&str, Option<&str>, &str) {
    (&answer.status, answer.agent.as_deref(), &answer.session)
}

/// Exactly one dead letter per malformed record, and per id used with another session.
fn letters(evidence: &Evidence, finals: &Finals<'_>, findings: &mut Findings) {
    let mut due: BTreeMap<Place, String> = BTreeMap::new();
    for sent in &evidence.sent {
        let text = match &sent.kind {
            Kind::Malformed => "malformed".to_owned(),
            Kind::Event { id, session, .. } => match finals.get(id.as_str()) {
                Some(all) if all[0].session != *session => format!("{id} of another session"),
                _ => continue,
            },
        };
        due.insert(sent.place, text);
    }
    let mut seen: BTreeMap<Place, &Letter> = BTreeMap::new();
    for letter in &evidence.letters {
        let place = letter.source;
        if !due.contains_key(&place) {
            findings.stray.push(format!("a dead letter for {place:?}, which is a good record"));
        }
        match seen.insert(place, letter) {
            Some(first) if first.bytes == letter.bytes => {
                findings.repeated.push(format!("two dead letters for {place:?}"));
            }
            Some(_) => findings.doubled.push(format!("two dead letters for {place:?}")),
            None => {}
        }
    }
    for (place, text) in due.iter().filter(|(place, _)| !seen.contains_key(place)) {
        findings.lost.push(format!("record {place:?} ({text}) has no dead letter"));
    }
}

/// An outcome says what Desk did; nobody is called in vain.
fn truth(evidence: &Evidence, finals: &Finals<'_>, findings: &mut Findings) {
    let fates = fates(evidence);
    let mut with_human: BTreeMap<&str, (bool, usize)> = BTreeMap::new();
    for (id, all) in finals {
        let answer = all[0];
        let status = answer.status.as_str();
        let text = format!("event {id} of {}: {status} ({})", answer.session, answer.reason);
        let fate = fates.get(id).copied();
        if matches!(
            (fate, status),
            (Some(Fate::Invalid), "rejected") | (Some(Fate::TooLate), "expired")
        ) {
            continue;
        }
        if fate != Some(Fate::Asked) {
            findings.untrue.push(text);
            continue;
        }
        let (human, events) = with_human.entry(&answer.session).or_default();
        // What cannot be known is said as such.
        *human |= matches!(status, "assigned" | "queued") || answer.reason.contains("unknown");
        *events += 1;
    }
    for (session, desk) in &evidence.desk {
        let (human, events) = with_human.get(session.as_str()).copied().unwrap_or_default();
        if human != (desk.acted > 0) {
            let did = if human { "did not transfer" } else { "transferred" };
            findings.untrue.push(format!("session {session}: Desk {did} it"));
        }
        // A question is no harm: after a crash nobody knows that no call was out.
        if events == 0 && desk.calls.iter().any(|call| call.command == Command::Transfer) {
            findings.untrue.push(format!("session {session} was called for nothing"));
        }
        if desk.acted > events as u64 {
            let text = format!("session {session}: {} transfers, {events} events", desk.acted);
            findings.acted_again.push(text);
        }
    }
}

/// The events of a session, in the order of their records, are decided and published in it.
fn order(evidence: &Evidence, finals: &Finals<'_>, findings: &mut Findings) {
    let fates = fates(evidence);
    let mut sessions: BTreeMap<&str, Vec<&Answer>> = BTreeMap::new();
    for (id, all) in finals {
        // Whoever came too late waits for nobody.
        if fates.get(id) == Some(&Fate::Asked) && all[0].status != "expired" {
            sessions.entry(&all[0].session).or_default().push(all[0]);
        }
    }
    for (session, mut answers) in sessions {
        answers.sort_by_key(|answer| answer.source);
        for pair in answers.windows(2) {
            let (one, two) = (pair[0], pair[1]);
            let text = format!("session {session}: {} before {}", two.event, one.event);
            if two.decided < one.decided {
                findings.misordered.push(text.clone());
            }
            if one.place.0 != two.place.0 || two.place < one.place {
                findings.overtaken.push(text);
            }
        }
    }
}

/// No two calls of a session at once, and none while an earlier one is in doubt.
fn calls(evidence: &Evidence, findings: &mut Findings) {
    for (session, desk) in &evidence.desk {
        let mut busy_until = 0;
        let mut doubt = false;
        for call in &desk.calls {
            let text = format!("session {session}: {:?} at {} ns", call.command, call.began_ns);
            if call.began_ns < busy_until {
                findings.overlapping.push(text.clone());
            }
            busy_until = busy_until.max(end_of(call, evidence.settle_ns));
            match call.command {
                Command::Transfer => {
                    if doubt {
                        findings.unasked.push(text);
                    }
                    doubt = matches!(call.code, None | Some(141_002 | 60_008));
                }
                // Only an answer ends the doubt.
                Command::State => doubt &= call.code != Some(0),
                Command::End | Command::Other => {}
            }
        }
    }
}

/// A call that gets no answer is over for Desk when Desk cannot be working on it any more.
fn end_of(call: &CallRecord, settle_ns: u64) -> u64 {
    let ended = call.ended_ns.unwrap_or(u64::MAX);
    if call.code.is_some() { ended } else { ended.min(call.began_ns + settle_ns) }
}
