//! The watermark of a partition: its lowest unfinished offset, up to which offsets are committed.
//!
//! Offsets have gaps (compaction, transactions), so the watermark follows the offsets that were
//! started. It never passes an unfinished offset. It moves backwards only
//! when the offsets do, because the topic shrank or was created again.

use std::collections::BTreeMap;

use super::record::RecordIdentity;

/// The records of one partition that were started and are unfinished, during one assignment.
#[derive(Debug, Default)]
pub(crate) struct Watermark {
    /// By their offsets.
    unfinished: BTreeMap<i64, RecordIdentity>,
    /// The record started last.
    newest: Option<RecordIdentity>,
    /// The last value that [`Watermark::finish`] returned.
    last: Option<i64>,
}

/// What starting a record means for a watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordStart {
    /// The record is new.
    New,
    /// It was started before.
    Again,
    /// The offsets have gone back: the topic shrank, or was deleted and created again. Unfinished
    /// records below this one stay unfinished.
    Rewound {
        /// One past the highest offset started until then.
        from: i64,
        /// The watermark now: the offset to commit.
        watermark: i64,
    },
}

impl Watermark {
    /// Start a record.
    pub(crate) fn start(&mut self, record: RecordIdentity) -> RecordStart {
        // A client that is paused in the middle of a fetch delivers its last record twice; the
        // first delivery may be finished by now.
        if self.newest == Some(record) {
            return RecordStart::Again;
        }
        let before = self.next();
        let is_rewound = record.offset < before;
        if is_rewound {
            self.unfinished.split_off(&record.offset);
            self.last = None;
        }
        self.newest = Some(record);
        self.unfinished.insert(record.offset, record);
        if !is_rewound {
            return RecordStart::New;
        }
        RecordStart::Rewound { from: before, watermark: self.lowest_unfinished() }
    }

    /// Finish a record. Returns the watermark if it moved: the offset to commit. A record that was
    /// started before the offsets went back moves nothing.
    pub(crate) fn finish(&mut self, record: RecordIdentity) -> Option<i64> {
        if self.unfinished.get(&record.offset) != Some(&record) {
            return None;
        }
        self.unfinished.remove(&record.offset);
        let watermark = self.lowest_unfinished();
        // The first value may equal the first offset started; committing that again is harmless.
        let moved = self.last.is_none_or(|last| watermark > last);
        moved.then(|| {
            self.last = Some(watermark);
            watermark
        })
    }

    /// How far reading is ahead of the watermark, in offsets.
    pub(crate) fn span(&self) -> usize {
        usize::try_from(self.next() - self.lowest_unfinished()).unwrap_or(0)
    }

    /// One past the highest offset started.
    fn next(&self) -> i64 {
        self.newest.map_or(0, |newest| newest.offset + 1)
    }

    fn lowest_unfinished(&self) -> i64 {
        self.unfinished.first_key_value().map_or(self.next(), |(offset, _)| *offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::{Position, Record};
    use jiff::Timestamp;
    use proptest::prelude::*;

    /// The record at this offset of the topic that was created in this second.
    fn record(offset: i64, second: i64) -> RecordIdentity {
        let position = Position { topic: "t".into(), partition: 0, offset };
        let timestamp = Timestamp::from_second(second).ok();
        Record { position, timestamp, key: None, value: None, headers: vec![] }.identity()
    }

    fn id(offset: i64) -> RecordIdentity {
        record(offset, 0)
    }

    #[test]
    fn a_topic_that_was_created_again_restarts_the_watermark() {
        let mut watermark = Watermark::default();
        for offset in 0..10 {
            assert_eq!(watermark.start(id(offset)), RecordStart::New);
        }
        assert_eq!(watermark.start(id(9)), RecordStart::Again);
        assert_eq!(watermark.finish(id(0)), Some(1));
        assert_eq!(watermark.start(record(0, 1)), RecordStart::Rewound { from: 10, watermark: 0 });
        assert_eq!(watermark.start(record(1, 1)), RecordStart::New);
        for old in 0..10 {
            assert_eq!(watermark.finish(id(old)), None, "a record of the old topic");
        }
        assert_eq!(watermark.finish(record(1, 1)), Some(0));
        assert_eq!(watermark.finish(record(0, 1)), Some(2));
    }

    #[test]
    fn a_new_record_at_the_highest_offset_is_not_taken_for_the_old_one() {
        let mut watermark = Watermark::default();
        watermark.start(id(0));
        assert_eq!(watermark.finish(id(0)), Some(1));
        let rewound = RecordStart::Rewound { from: 1, watermark: 0 };
        assert_eq!(watermark.start(record(0, 1)), rewound);
        assert_eq!(watermark.finish(record(0, 1)), Some(1));
    }

    #[test]
    fn a_topic_that_lost_its_last_records_keeps_the_unfinished_ones_before_them() {
        let mut watermark = Watermark::default();
        for offset in 5..10 {
            watermark.start(id(offset));
        }
        let rewound = RecordStart::Rewound { from: 10, watermark: 5 };
        assert_eq!(watermark.start(record(8, 1)), rewound);
        assert_eq!(watermark.finish(record(8, 1)), Some(5));
        assert_eq!(watermark.finish(id(9)), None);
        let rest = [5, 6, 7].map(|offset| watermark.finish(id(offset)));
        assert_eq!(rest, [Some(6), Some(7), Some(9)]);
    }

    #[test]
    fn gaps_between_offsets_do_not_stop_the_watermark() {
        let mut watermark = Watermark::default();
        for offset in [3, 7, 20] {
            assert_eq!(watermark.start(id(offset)), RecordStart::New);
        }
        assert_eq!(watermark.finish(id(7)), Some(3));
        assert_eq!(watermark.span(), 18);
        assert_eq!(watermark.finish(id(3)), Some(20));
        assert_eq!(watermark.finish(id(20)), Some(21));
        assert_eq!(watermark.finish(id(20)), None);
        assert_eq!(watermark.span(), 0);
        assert!(watermark.unfinished.is_empty());
    }

    proptest! {
        #[test]
        fn it_never_passes_an_unfinished_offset_never_moves_back_and_ends_complete(
            steps in prop::collection::vec(1i64..4, 1..60),
            order in prop::collection::vec(any::<prop::sample::Index>(), 60),
            read_ahead in 1usize..20,
        ) {
            let offsets: Vec<i64> =
                steps.iter().scan(0, |at, step| { *at += step; Some(*at) }).collect();
            let mut watermark = Watermark::default();
            let (mut unfinished, mut last, mut unread) = (Vec::new(), i64::MIN, offsets.iter());
            for pick in order {
                while unfinished.len() < read_ahead && let Some(offset) = unread.next() {
                    prop_assert_eq!(watermark.start(id(*offset)), RecordStart::New);
                    unfinished.push(*offset);
                }
                if unfinished.is_empty() { break }
                let done = unfinished.swap_remove(pick.index(unfinished.len()));
                if let Some(moved) = watermark.finish(id(done)) {
                    prop_assert!(moved > last);
                    prop_assert!(unfinished.iter().all(|offset| moved <= *offset));
                    last = moved;
                }
            }
            while let Some(done) = unfinished.pop() {
                last = watermark.finish(id(done)).unwrap_or(last);
            }
            let read = offsets.len() - unread.len();
            prop_assert_eq!(last, offsets[read - 1] + 1);
        }
    }
}
