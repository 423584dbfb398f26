//! What was answered, laid against what was asked.
//!
//! A final outcome finds its escalation by identity, a dead letter its record by position. What
//! answers a record outside of the range says nothing, except that its identity has an answer.
//! This file never judges before everything is taken in: what is missing is known only then.

use std::num::NonZeroU32;

use jiff::Timestamp;

use super::Terms;
use super::answer::{Answer, key, short};
use super::entries::{Entries, Entry, Given, seconds};
use super::escalations::Malformed;
use super::report::{Finding, Kind, Report};
use crate::domain::record::Position;

/// What was asked and answered, so far.
pub struct Matcher {
    terms: Terms,
    entries: Entries,
    malformed: Vec<Malformed>,
    letters: Vec<Letter>,
    report: Report,
}

/// A dead letter of a record of the range.
struct Letter {
    source: (i32, i64),
    is_needed: bool,
}

impl Matcher {
    pub(super) fn new(
        terms: Terms,
        entries: Entries,
        (malformed, report): (Vec<Malformed>, Report),
    ) -> Self {
        Self { terms, entries, malformed, letters: vec![], report }
    }

    /// Take an outcome in.
    pub fn outcome(&mut self, answer: &Answer) {
        if !answer.is_final {
            self.report.interim += 1;
            return;
        }
        let is_ours = answer.source.as_ref().is_none_or(|source| self.terms.range.covers(source));
        let given = given(answer);
        let group = self.entries.group_mut(key(&answer.event_id));
        let is_asked = group.iter().any(|entry| entry.session == given.session);
        if is_ours && !is_asked {
            self.add(Kind::Orphan, answer, "");
            return;
        }
        let Some(lead) = group.first_mut() else {
            self.report.outside += 1;
            return;
        };
        let due = lead.due;
        match lead.given {
            None => {
                lead.given = Some(given);
                self.first(answer, due);
            }
            Some(before) if before == given => self.add(Kind::Repeated, answer, ""),
            Some(Given { session, meaning, .. })
                if (session, meaning) == (given.session, given.meaning) =>
            {
                self.add(Kind::Doubled, answer, "");
            }
            Some(_) => {
                let says = answer.status.map_or("another status", |status| status.as_str());
                let agent = match answer.agent_id.as_str() {
                    "" => String::new(),
                    agent => format!(", {agent}"),
                };
                self.add(Kind::Contradictory, answer, &format!("this one says {says}{agent}"));
            }
        }
    }

    /// Take in an outcome from before the range: it answers an identity that has no answer yet,
    /// and is not judged.
    pub fn earlier(&mut self, answer: &Answer) {
        if let Some(lead) = self.entries.group_mut(key(&answer.event_id)).first_mut()
            && answer.is_final
        {
            lead.given.get_or_insert_with(|| given(answer));
        }
    }

    /// Take in a dead letter of this record.
    pub fn letter(&mut self, source: &Position) {
        if self.terms.range.covers(source) {
            let source = (source.partition, source.offset);
            self.letters.push(Letter { source, is_needed: false });
        } else {
            self.report.outside += 1;
        }
    }

    /// Take in a record that is neither an outcome nor a dead letter.
    pub fn unreadable(&mut self, place: &Position, note: &str) {
        let (source, event_id) = (None, None);
        let place = Some(place.clone());
        let finding = Finding { source, place, event_id, note: note.to_owned() };
        self.report.add(Kind::Unreadable, finding, self.terms.keep);
    }

    /// Identities without a final outcome that are not in time any more.
    pub fn overdue(&self, now: Timestamp) -> usize {
        let now = seconds(now);
        let groups = self.entries.groups();
        groups.filter(|group| group[0].given.is_none() && group[0].due < now).count()
    }

    /// The memory it holds.
    pub fn bytes(&self) -> usize {
        self.entries.bytes()
            + self.malformed.capacity() * size_of::<Malformed>()
            + self.letters.capacity() * size_of::<Letter>()
    }

    /// Everything is taken in, as it was at this time.
    pub fn judge(self, now: Timestamp) -> Report {
        let Self { terms, entries, malformed, mut letters, report } = self;
        letters.sort_unstable_by_key(|letter| letter.source);
        let mut judge = Judge { terms, letters, report, now: seconds(now) };
        for malformed in malformed {
            let found = judge.letters_of(malformed.place);
            judge.needs_letter(malformed, found);
        }
        for group in entries.groups() {
            judge.group(group);
        }
        judge.needless_letters();
        judge.report
    }

    fn first(&mut self, answer: &Answer, due: u32) {
        if let Some(status) = answer.status {
            *self.report.statuses.entry(status).or_default() += 1;
        }
        if let Some(decided_at) = answer.decided_at.filter(|at| at.as_second() > i64::from(due)) {
            self.add(Kind::Late, answer, &format!("decided at {decided_at:.0}"));
        }
    }

    fn add(&mut self, kind: Kind, answer: &Answer, note: &str) {
        let finding = Finding {
            source: answer.source.clone(),
            place: Some(answer.place.clone()),
            event_id: Some(answer.event_id.clone()),
            note: note.to_owned(),
        };
        self.report.add(kind, finding, self.terms.keep);
    }
}

fn given(answer: &Answer) -> Given {
    Given {
        session: short(&[answer.session_id.as_bytes()]),
        meaning: answer.meaning,
        bytes: NonZeroU32::new(answer.bytes).unwrap_or(NonZeroU32::MIN),
    }
}

/// The last pass.
struct Judge {
    terms: Terms,
    letters: Vec<Letter>,
    report: Report,
    now: u32,
}

impl Judge {
    /// The records of one identity.
    fn group(&mut self, group: &[Entry]) {
        self.report.events += 1;
        let lead = &group[0];
        self.report.answered += u64::from(lead.given.is_some());
        // Without an answer it belongs to whoever came first and was not refused.
        let owner = match lead.given {
            Some(given) => Some(given.session),
            None => {
                let kept = group.iter().find(|entry| self.letters_of(entry.place()) == 0);
                kept.map(|entry| entry.session)
            }
        };
        let mut is_claimed = false;
        for entry in group {
            let letters = self.letters_of(entry.place());
            let is_refused = owner != Some(entry.session) || (lead.given.is_none() && letters > 0);
            if is_refused {
                let Entry { due, is_old, .. } = *entry;
                self.needs_letter(Malformed { place: entry.place(), due, is_old }, letters);
                continue;
            }
            if letters > 0 {
                self.add(Kind::LetterOrphan, entry.place());
            }
            if is_claimed {
                self.report.duplicates += 1;
            } else if lead.given.is_none() {
                self.unanswered(lead, entry);
            }
            is_claimed = true;
        }
    }

    fn unanswered(&mut self, lead: &Entry, entry: &Entry) {
        if self.now <= lead.due {
            self.open(entry.place());
        } else if lead.is_old {
            self.report.deleted += 1;
        } else {
            self.add(Kind::Missing, entry.place());
        }
    }

    /// This record needs exactly one dead letter.
    fn needs_letter(&mut self, malformed: Malformed, found: usize) {
        match found {
            0 if self.now <= malformed.due => self.open(malformed.place),
            0 if malformed.is_old => self.report.deleted += 1,
            0 => self.add(Kind::LetterMissing, malformed.place),
            1 => self.report.letters += 1,
            _ => self.add(Kind::LetterDoubled, malformed.place),
        }
    }

    fn needless_letters(&mut self) {
        let mut last = None;
        for letter in std::mem::take(&mut self.letters) {
            if !letter.is_needed && last != Some(letter.source) {
                last = Some(letter.source);
                self.add(Kind::LetterOrphan, letter.source);
            }
        }
    }

    /// How many letters this record has; they are not needless.
    fn letters_of(&mut self, source: (i32, i64)) -> usize {
        let start = self.letters.partition_point(|letter| letter.source < source);
        let of_it = self.letters[start..].iter_mut().take_while(|letter| letter.source == source);
        of_it.map(|letter| letter.is_needed = true).count()
    }

    fn add(&mut self, kind: Kind, place: (i32, i64)) {
        self.report.add(kind, self.finding(place), self.terms.keep);
    }

    fn open(&mut self, place: (i32, i64)) {
        self.report.open(self.finding(place), self.terms.keep);
    }

    fn finding(&self, place: (i32, i64)) -> Finding {
        let source = Some(self.terms.range.position(place));
        Finding { source, place: None, event_id: None, note: String::new() }
    }
}
