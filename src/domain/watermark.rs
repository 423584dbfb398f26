//! The watermark of one partition: which offset may be committed.
//!
//! Offsets may have holes (compaction, transactions), so what counts is what was started and
//! is not finished yet. This file never lets the watermark pass an unfinished offset, nor
//! move backwards.

use std::collections::BTreeSet;

/// What was started and finished in one partition during one assignment.
#[derive(Debug, Default)]
pub struct Watermark {
    unfinished: BTreeSet<i64>,
    /// One past the highest offset started.
    next: i64,
    /// The last watermark handed out.
    committed: Option<i64>,
}

impl Watermark {
    /// A record is to be worked on. False: it is already, or it was just now (a client that is
    /// paused in the middle of a delivery hands its last record out twice).
    pub fn start(&mut self, offset: i64) -> bool {
        if offset + 1 == self.next {
            return false;
        }
        self.next = self.next.max(offset + 1);
        self.unfinished.insert(offset)
    }

    /// A record has its final answer. Returns the offset to commit, when it moved.
    pub fn finish(&mut self, offset: i64) -> Option<i64> {
        if !self.unfinished.remove(&offset) {
            return None;
        }
        let mark = self.unfinished.first().copied().unwrap_or(self.next);
        let moved = self.committed.is_none_or(|committed| mark > committed);
        // A mark equal to the first offset started says nothing new, but is harmless.
        moved.then(|| {
            self.committed = Some(mark);
            mark
        })
    }

    /// How far reading is ahead of the watermark, in offsets.
    pub fn span(&self) -> usize {
        let lowest = self.unfinished.first().copied().unwrap_or(self.next);
        usize::try_from(self.next - lowest).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn holes_in_the_offsets_hold_nothing_up() {
        let mut progress = Watermark::default();
        for offset in [3, 7, 20] {
            assert!(progress.start(offset));
        }
        assert_eq!(progress.finish(7), Some(3));
        assert_eq!(progress.span(), 18);
        assert_eq!(progress.finish(3), Some(20));
        assert_eq!(progress.finish(20), Some(21));
        assert_eq!(progress.finish(20), None);
        assert_eq!(progress.span(), 0);
        assert!(progress.unfinished.is_empty());
    }

    proptest! {
        #[test]
        fn never_past_a_hole_never_backwards_and_at_the_end_complete(
            steps in prop::collection::vec(1i64..4, 1..60),
            order in prop::collection::vec(any::<prop::sample::Index>(), 60),
            read_ahead in 1usize..20,
        ) {
            let offsets: Vec<i64> =
                steps.iter().scan(0, |at, step| { *at += step; Some(*at) }).collect();
            let mut progress = Watermark::default();
            let (mut open, mut last, mut fed) = (Vec::new(), i64::MIN, offsets.iter());
            for pick in order {
                while open.len() < read_ahead && let Some(offset) = fed.next() {
                    prop_assert!(progress.start(*offset));
                    open.push(*offset);
                }
                if open.is_empty() { break }
                let done = open.swap_remove(pick.index(open.len()));
                if let Some(mark) = progress.finish(done) {
                    prop_assert!(mark > last);
                    prop_assert!(open.iter().all(|unfinished| mark <= *unfinished));
                    last = mark;
                }
            }
            while let Some(done) = open.pop() {
                last = progress.finish(done).unwrap_or(last);
            }
            let read = offsets.len() - fed.len();
            prop_assert_eq!(last, offsets[read - 1] + 1);
        }
    }
}
