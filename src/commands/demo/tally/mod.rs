//! What was published against what came: exactly one final answer each, and the expected one.
//!
//! It counts everything that comes, what nobody waits for as well, and compares at the end.
//! Values in, values out: this file never prints and never waits.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;
use tokio::time::Instant;

use super::came::{Answer, Came, Letter, What};
use super::scene::{Expected, Scene};
use super::stage::DeskFacts;
use crate::adapters::kafka::Standing;
use crate::domain::record::Position;

/// Everything published and everything that came.
pub(super) struct Tally {
    scenes: Vec<Scene>,
    by_event: HashMap<String, usize>,
    by_place: HashMap<(i32, i64), usize>,
    /// What came of each scene.
    finals: Vec<Vec<Answer>>,
    letters: Vec<Vec<Letter>>,
    /// The scenes in the order of their final answers.
    order: Vec<usize>,
    /// What came of no scene.
    strangers: Vec<String>,
    waited_for: usize,
    plain_done: Option<Instant>,
}

/// What others than the reader of the topics saw.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// Records skipped, as the worker counts them.
    pub(super) skipped: u64,
    /// What the worker's group has committed.
    pub(super) standing: Standing,
    pub(super) desk: DeskFacts,
}

/// Something that is not as it has to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    pub(super) what: String,
    pub(super) expected: String,
    pub(super) got: String,
}

impl Tally {
    pub(super) fn new(scenes: Vec<Scene>) -> Self {
        let ids = scenes.iter().enumerate().filter(|(_, scene)| !scene.event.is_empty());
        let by_event = ids.map(|(index, scene)| (scene.event.clone(), index)).collect();
        let waited_for = scenes.iter().filter(|scene| scene.expected != Expected::Nothing).count();
        Self {
            by_event,
            by_place: HashMap::new(),
            finals: vec![Vec::new(); scenes.len()],
            letters: vec![Vec::new(); scenes.len()],
            order: Vec::new(),
            strangers: Vec::new(),
            waited_for,
            plain_done: None,
            scenes,
        }
    }

    pub(super) fn scenes(&self) -> &[Scene] {
        &self.scenes
    }

    /// Where each record lies, in the order of the scenes.
    pub(super) fn published(&mut self, places: &[Position]) {
        let places = places.iter().map(|place| (place.partition, place.offset));
        self.by_place = places.zip(0..).collect();
    }

    /// The partitions that have records.
    pub(super) fn partitions(&self) -> usize {
        let partitions: BTreeSet<_> =
            self.by_place.keys().map(|(partition, _)| partition).collect();
        partitions.len()
    }

    /// Count it; says which scene it belongs to.
    pub(super) fn take(&mut self, came: &Came) -> Option<&Scene> {
        let (index, is_answer) = match &came.what {
            What::Outcome(answer, _) => (self.by_event.get(&answer.event_id), answer.is_final),
            What::DeadLetter(letter) => {
                (letter.source.and_then(|place| self.by_place.get(&place)), true)
            }
            What::Unreadable(_) => (None, false),
        };
        let Some(&index) = index else {
            self.strangers.push(came.text());
            return None;
        };
        let is_first = self.finals[index].is_empty() && self.letters[index].is_empty();
        if is_answer && is_first && self.scenes[index].expected != Expected::Nothing {
            self.waited_for -= 1;
        }
        match &came.what {
            What::Outcome(answer, _) if answer.is_final => {
                self.finals[index].push(answer.clone());
                self.order.push(index);
            }
            What::DeadLetter(letter) => self.letters[index].push(letter.clone()),
            What::Outcome(..) | What::Unreadable(_) => {}
        }
        if self.scenes[index].plain {
            self.plain_done = Some(came.at);
        }
        Some(&self.scenes[index])
    }

    /// Whatever has to come has come.
    pub(super) fn is_complete(&self) -> bool {
        self.waited_for == 0
    }

    /// Escalations published that have to be answered.
    pub(super) fn escalations(&self) -> usize {
        let is_answered = |scene: &&Scene| matches!(scene.expected, Expected::Outcome(..));
        self.scenes.iter().filter(is_answered).count()
    }

    /// Escalations with a final answer.
    pub(super) fn answered(&self) -> usize {
        self.finals.iter().filter(|finals| !finals.is_empty()).count()
    }

    /// Dead letters: expected, and come.
    pub(super) fn dead_letters(&self) -> (usize, usize) {
        let is_bad = |scene: &&Scene| matches!(scene.expected, Expected::DeadLetter(_));
        let come = self.letters.iter().map(Vec::len).sum();
        (self.scenes.iter().filter(is_bad).count(), come)
    }

    /// Records that are not for the worker.
    pub(super) fn not_for_us(&self) -> u64 {
        self.scenes.iter().filter(|scene| scene.expected == Expected::Nothing).count() as u64
    }

    /// The many that only show the speed, and when the last of them was answered.
    pub(super) fn plain(&self) -> (usize, Option<Instant>) {
        (self.scenes.iter().filter(|scene| scene.plain).count(), self.plain_done)
    }

    /// Final answers by status.
    pub(super) fn statuses(&self) -> BTreeMap<String, usize> {
        let mut statuses = BTreeMap::new();
        for answer in self.finals.iter().flatten() {
            *statuses.entry(answer.status.clone()).or_default() += 1;
        }
        statuses
    }

    /// Everything that is not as it has to be.
    pub(super) fn differences(&self, facts: &Facts) -> Vec<Difference> {
        let mut found: Vec<_> = (0..self.scenes.len())
            .filter(|&index| !self.is_as_expected(index))
            .map(|index| self.difference(index))
            .collect();
        found.extend(self.strangers.iter().map(|stranger| {
            difference("published by the worker", "nothing but what was asked for", stranger)
        }));
        found.extend(self.out_of_order());
        found
            .extend(self.moves().into_iter().filter_map(|(id, moves)| desk_sees(id, moves, facts)));
        if facts.skipped != self.not_for_us() {
            let expected = self.not_for_us().to_string();
            found.push(difference("records skipped", &expected, &facts.skipped.to_string()));
        }
        let Standing { committed, lag } = facts.standing;
        if (committed, lag) != (self.partitions(), 0) {
            let expected = format!("in {} partitions, to their ends", self.partitions());
            let got = format!("in {committed} partitions, {lag} records from their ends");
            found.push(difference("offsets committed", &expected, &got));
        }
        found
    }

    fn is_as_expected(&self, index: usize) -> bool {
        let scene = &self.scenes[index];
        match (scene.expected, &*self.finals[index], &*self.letters[index]) {
            (Expected::Outcome(status, by), [answer], []) => {
                answer.status == status.as_str()
                    && answer.session_id == scene.session
                    && by.is_none_or(|by| answer.confirmed_by.as_deref() == Some(by))
            }
            (Expected::DeadLetter(class), [], [letter]) => letter.class == class.as_str(),
            (Expected::Nothing, [], []) => true,
            _ => false,
        }
    }

    fn difference(&self, index: usize) -> Difference {
        let scene = &self.scenes[index];
        let answers = self.finals[index].iter().map(|answer| match &answer.confirmed_by {
            Some(by) => format!("{} (confirmed by {by})", answer.status),
            None => answer.status.clone(),
        });
        let letters =
            self.letters[index].iter().map(|letter| format!("dead letter ({})", letter.class));
        let got: Vec<_> = answers.chain(letters).collect();
        let got = if got.is_empty() { "nothing".to_owned() } else { got.join(", then ") };
        let id = if scene.event.is_empty() { "a record" } else { &scene.event };
        let what = format!("{id} of {} ({})", scene.session, scene.story);
        difference(&what, &scene.expected.text(), &got)
    }

    /// Answers of one session that overtook each other.
    fn out_of_order(&self) -> Option<Difference> {
        let mut last: HashMap<&str, usize> = HashMap::new();
        for &index in &self.order {
            let scene = &self.scenes[index];
            if let Some(earlier) = last.insert(&scene.session, index).filter(|last| *last > index) {
                let (first, second) = (&scene.event, &self.scenes[earlier].event);
                let expected = format!("{first} before {second}");
                return Some(difference(&scene.session, &expected, "the other way round"));
            }
        }
        None
    }

    /// How often each session has to move.
    fn moves(&self) -> BTreeMap<&str, u64> {
        let mut moves: BTreeMap<&str, u64> = BTreeMap::new();
        for scene in &self.scenes {
            // Several escalations of one session: one transfer.
            let most = moves.entry(&scene.session).or_default();
            *most = scene.moves.max(*most);
        }
        moves
    }
}

fn difference(what: &str, expected: &str, got: &str) -> Difference {
    Difference { what: what.to_owned(), expected: expected.to_owned(), got: got.to_owned() }
}

/// Where Desk saw something else than these many transfers, one call at a time.
fn desk_sees(session: &str, moves: u64, facts: &Facts) -> Option<Difference> {
    let report = facts.desk.sessions.get(session);
    let (acted, overlap) =
        report.map_or((0, 0), |report| (report.transfers_acted, report.max_overlap));
    if acted == moves && overlap <= 1 {
        return None;
    }
    let expected = format!("transfers that took effect: {moves}, one call at a time");
    let got = format!("transfers that took effect: {acted}, up to {overlap} calls at a time");
    Some(difference(&format!("{session}, as Desk saw it"), &expected, &got))
}

#[cfg(test)]
mod tests;
