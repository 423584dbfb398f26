//! What a replay does with each dead letter, and how many there are of each class.

use std::collections::BTreeMap;

use crate::domain::record::Record;
use crate::domain::wire::dead_letter::DeadLetter;
use crate::domain::wire::replay::{NotReplayable, Replay};

/// The rules of a replay.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlanRules {
    /// A record that was replayed this often is refused.
    pub(super) max_replays: u32,
}

/// What is done with a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Planned {
    /// It is published.
    Replay(Box<Replay>),
    /// It was replayed before.
    Replayed,
    /// It cannot be replayed.
    Refused(ReplayRefusal),
}

/// Why a dead letter is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplayRefusal {
    /// Its record was replayed as often as is allowed.
    TooOften(u32),
    /// It is not whole.
    NotReplayable(NotReplayable),
}

impl Planned {
    /// Judges a dead letter; `is_replayed` says whether the topic has a marker for it.
    pub(super) fn of(record: Record, is_replayed: bool, rules: PlanRules) -> Self {
        if is_replayed {
            return Self::Replayed;
        }
        match Replay::of(record) {
            Err(why) => Self::Refused(ReplayRefusal::NotReplayable(why)),
            Ok(replay) if replay.count >= rules.max_replays => {
                Self::Refused(ReplayRefusal::TooOften(replay.count))
            }
            Ok(replay) => Self::Replay(Box::new(replay)),
        }
    }

    /// The state of the dead letter, for people.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Replay(_) => "new".into(),
            Self::Replayed => "replayed".into(),
            Self::Refused(refusal) => refusal.words(),
        }
    }
}

impl ReplayRefusal {
    /// The reason, for people.
    pub(super) fn words(self) -> String {
        match self {
            Self::TooOften(count) => format!("replayed {count} times already"),
            Self::NotReplayable(NotReplayable::NoSource) => "not of handoff".into(),
            Self::NotReplayable(NotReplayable::Omitted) => "a part of it was left out".into(),
        }
    }
}

/// The class in the headers of a dead letter.
pub(super) fn class(record: &Record) -> String {
    DeadLetter::read(&record.headers).class.unwrap_or_else(|| "unknown".into())
}

/// The numbers of dead letters by class.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ReplayPlan {
    classes: BTreeMap<String, PlanCounts>,
    refusals: BTreeMap<String, u64>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct PlanCounts {
    replay: u64,
    replayed: u64,
    refused: u64,
}

impl ReplayPlan {
    /// Adds a dead letter of this class.
    pub(super) fn add(&mut self, class: String, planned: &Planned) {
        let counts = self.classes.entry(class).or_default();
        match planned {
            Planned::Replay(_) => counts.replay += 1,
            Planned::Replayed => counts.replayed += 1,
            Planned::Refused(refusal) => {
                counts.refused += 1;
                *self.refusals.entry(refusal.words()).or_default() += 1;
            }
        }
    }

    fn total(&self) -> PlanCounts {
        let mut total = PlanCounts::default();
        for counts in self.classes.values() {
            total.replay += counts.replay;
            total.replayed += counts.replayed;
            total.refused += counts.refused;
        }
        total
    }

    /// How many are to be published.
    pub(super) fn to_replay(&self) -> u64 {
        self.total().replay
    }

    /// How many cannot be replayed.
    pub(super) fn refused(&self) -> u64 {
        self.total().refused
    }

    /// The plan, for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |name: &str, PlanCounts { replay, replayed, refused }: PlanCounts| {
            format!(
                "{name:<16}{replay:>9} to replay{replayed:>9} replayed before{refused:>9} refused"
            )
        };
        let mut lines: Vec<_> =
            self.classes.iter().map(|(class, counts)| line(class, *counts)).collect();
        lines.push(line("total", self.total()));
        lines.extend(self.refusals.iter().map(|(why, count)| format!("refused: {count} {why}")));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Malformed, MalformedClass};
    use crate::domain::record::{Header, Position};
    use crate::domain::wire::dead_letter::dead_letter;

    const RULES: PlanRules = PlanRules { max_replays: 2 };

    fn dead_letter_with(headers: &[(&str, &str)]) -> Record {
        let text = |(name, value): &(&str, &str)| -> Header {
            ((*name).to_owned(), Some(value.as_bytes().to_vec()))
        };
        let position = Position { topic: "t".into(), partition: 0, offset: 1 };
        let headers = headers.iter().map(text).collect();
        let record = Record { position, timestamp: None, key: None, value: None, headers };
        let malformed = Malformed { class: MalformedClass::NullValue, error: "x".into() };
        let message = dead_letter(record.clone(), &malformed, jiff::Timestamp::UNIX_EPOCH);
        Record { headers: message.headers, ..record }
    }

    #[test]
    fn a_dead_letter_is_replayed_unless_it_was_or_comes_back_each_time() {
        let check = |record: Record, is_replayed, expected: &str| {
            assert_eq!(Planned::of(record, is_replayed, RULES).words(), expected);
        };
        check(dead_letter_with(&[]), false, "new");
        check(dead_letter_with(&[]), true, "replayed");
        check(dead_letter_with(&[("handoff-replay-count", "1")]), false, "new");
        check(
            dead_letter_with(&[("handoff-replay-count", "2")]),
            false,
            "replayed 2 times already",
        );
        check(dead_letter_with(&[("handoff-replay-count", "2")]), true, "replayed");
        let foreign = Record { headers: vec![], ..dead_letter_with(&[]) };
        check(foreign, false, "not of handoff");
        let mut truncated = dead_letter_with(&[]);
        truncated.headers.push(("handoff-value-omitted".into(), Some(b"9".to_vec())));
        check(truncated, false, "a part of it was left out");
    }

    #[test]
    fn the_plan_counts_by_class() {
        let mut plan = ReplayPlan::default();
        for is_replayed in [false, false, true] {
            plan.add("not_json".into(), &Planned::of(dead_letter_with(&[]), is_replayed, RULES));
        }
        let too_often = dead_letter_with(&[("handoff-replay-count", "7")]);
        plan.add("bad_id".into(), &Planned::of(too_often, false, RULES));
        assert_eq!((plan.to_replay(), plan.refused()), (2, 1));
        let lines: Vec<_> = plan
            .lines()
            .iter()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let expected = [
            "bad_id 0 to replay 0 replayed before 1 refused",
            "not_json 2 to replay 1 replayed before 0 refused",
            "total 2 to replay 1 replayed before 1 refused",
            "refused: 1 replayed 7 times already",
        ];
        assert_eq!(lines, expected);
    }
}
