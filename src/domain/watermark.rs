//! The watermark of a partition: its lowest unfinished offset, up to which offsets are committed.
//!
//! Offsets have gaps (compaction, transactions), so the watermark follows the offsets that were
//! started. It never passes an unfinished offset and never moves backwards.

use std::collections::BTreeSet;

/// The offsets of one partition that were started and are unfinished, during one assignment.
#[derive(Debug, Default)]
pub(crate) struct Watermark {
    unfinished: BTreeSet<i64>,
    /// One past the highest offset started.
    next: i64,
    /// The last value that [`Watermark::finish`] returned.
    last: Option<i64>,
}

impl Watermark {
    /// Start an offset. Returns whether it was new.
    pub(crate) fn start(&mut self, offset: i64) -> bool {
        // A client that is paused in the middle of a fetch delivers its last record twice; the
        // first delivery may be finished by now.
        if offset + 1 == self.next {
            return false;
        }
        self.next = self.next.max(offset + 1);
        self.unfinished.insert(offset)
    }

    /// Finish an offset. Returns the watermark if it moved: the offset to commit.
    pub(crate) fn finish(&mut self, offset: i64) -> Option<i64> {
        if !self.unfinished.remove(&offset) {
            return None;
        }
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
        usize::try_from(self.next - self.lowest_unfinished()).unwrap_or(0)
    }

    fn lowest_unfinished(&self) -> i64 {
        self.unfinished.first().copied().unwrap_or(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn gaps_between_offsets_do_not_stop_the_watermark() {
        let mut watermark = Watermark::default();
        for offset in [3, 7, 20] {
            assert!(watermark.start(offset));
        }
        assert_eq!(watermark.finish(7), Some(3));
        assert_eq!(watermark.span(), 18);
        assert_eq!(watermark.finish(3), Some(20));
        assert_eq!(watermark.finish(20), Some(21));
        assert_eq!(watermark.finish(20), None);
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
                    prop_assert!(watermark.start(*offset));
                    unfinished.push(*offset);
                }
                if unfinished.is_empty() { break }
                let done = unfinished.swap_remove(pick.index(unfinished.len()));
                if let Some(moved) = watermark.finish(done) {
                    prop_assert!(moved > last);
                    prop_assert!(unfinished.iter().all(|offset| moved <= *offset));
                    last = moved;
                }
            }
            while let Some(done) = unfinished.pop() {
                last = watermark.finish(done).unwrap_or(last);
            }
            let read = offsets.len() - unread.len();
            prop_assert_eq!(last, offsets[read - 1] + 1);
        }
    }
}
