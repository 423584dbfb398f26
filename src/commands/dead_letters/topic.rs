//! The dead-letter topic as it is when a command begins: which dead letters were replayed, and which
//! are wanted.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::anyhow;

use super::SelectionArgs;
use super::plan::class;
use crate::adapters::kafka::{Boundary, KafkaSettings, RangeReader};
use crate::commands::{CHECK_HEADER, Failure};
use crate::domain::record::{Position, Record};
use crate::domain::wire::replay::marked;

/// How long the brokers may take to deliver the next record.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// The dead letters that are wanted.
pub(super) struct DeadLetterTopic<'a> {
    reader: RangeReader,
    args: &'a SelectionArgs,
    /// The offsets of the dead letters that were replayed, by partition.
    replayed: HashMap<i32, HashSet<i64>>,
}

/// A dead letter, and whether it was replayed.
pub(super) struct FoundLetter {
    pub(super) record: Record,
    pub(super) is_replayed: bool,
}

impl<'a> DeadLetterTopic<'a> {
    /// Reads the markers of the whole topic.
    pub(super) fn open(settings: &KafkaSettings, args: &'a SelectionArgs) -> Result<Self, Failure> {
        let topic = &settings.topics.dead_letters;
        if let Some(other) = args.positions.iter().find(|position| *position.topic != **topic) {
            return Err(Failure::Usage(anyhow!("{other} is not in {topic}")));
        }
        let mut reader =
            RangeReader::open(settings, topic, TIMEOUT).map_err(Failure::Unavailable)?;
        let mut replayed: HashMap<i32, HashSet<i64>> = HashMap::new();
        reader
            .read(|record| {
                if let Some(of) = marked(&record).filter(|of| *of.topic == **topic) {
                    replayed.entry(of.partition).or_default().insert(of.offset);
                }
            })
            .map_err(Failure::Unavailable)?;
        if !args.partitions.is_empty()
            && let Err(missing) = reader.select_partitions(&args.partitions)
        {
            return Err(Failure::Usage(anyhow!("{topic} has no partition {}", missing.0)));
        }
        let (since, until) = args.times();
        if let Some(until) = until {
            reader.end_at(&Boundary::At(until)).map_err(Failure::Unavailable)?;
        }
        if let Some(since) = since {
            reader.start_at(&Boundary::At(since)).map_err(Failure::Unavailable)?;
        }
        Ok(Self { reader, args, replayed })
    }

    /// Takes each dead letter that is wanted, in the order of its partition, until `take` breaks.
    pub(super) fn read(
        &self,
        mut take: impl FnMut(FoundLetter) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        let read = self.reader.read_until(|record| {
            if is_letter(&record) && self.is_wanted(&record) {
                take(self.found(record))
            } else {
                ControlFlow::Continue(())
            }
        });
        read.map_err(Failure::Unavailable)
    }

    /// The dead letter at this position.
    pub(super) fn at(&self, position: &Position) -> Result<Option<FoundLetter>, Failure> {
        let record = self.reader.record_at(position.partition, position.offset);
        let record = record.map_err(Failure::Unavailable)?;
        // After a compaction the next record may be read instead.
        let record = record.filter(|record| record.position == *position && is_letter(record));
        Ok(record.map(|record| self.found(record)))
    }

    fn found(&self, record: Record) -> FoundLetter {
        let Position { partition, offset, .. } = &record.position;
        let of_partition = self.replayed.get(partition);
        let is_replayed = of_partition.is_some_and(|offsets| offsets.contains(offset));
        FoundLetter { record, is_replayed }
    }

    fn is_wanted(&self, record: &Record) -> bool {
        let SelectionArgs { positions, classes, .. } = self.args;
        (positions.is_empty() || positions.contains(&record.position))
            && (classes.is_empty() || classes.contains(&class(record)))
    }
}

/// Neither a marker nor a record of `handoff check --write`.
fn is_letter(record: &Record) -> bool {
    marked(record).is_none() && record.header(CHECK_HEADER.0) != Some(CHECK_HEADER.1)
}
