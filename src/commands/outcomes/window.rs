//! A window over records that come nearly in order of time: it puts them in order, or keeps the
//! last ones.
//!
//! Each partition is read in order, but not all of them at the same pace.
//! This file never holds more than the window is wide.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use jiff::Timestamp;

use super::Shown;
use crate::domain::record::Record;

/// What becomes of the earliest when the window is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overflow {
    /// It is shown.
    Show,
    /// It is not among the last.
    Drop,
}

/// The window.
pub(super) struct Window {
    width: usize,
    overflow: Overflow,
    held: BinaryHeap<Reverse<Held>>,
}

/// When, in which partition, at which offset.
type Place = (Timestamp, i32, i64);

struct Held {
    place: Place,
    shown: Shown,
}

impl Window {
    /// An empty window.
    pub(super) fn new(width: u64, overflow: Overflow) -> Self {
        let width = usize::try_from(width).unwrap_or(usize::MAX);
        Self { width, overflow, held: BinaryHeap::new() }
    }

    /// Take one in; give the earliest out, if it is its turn.
    pub(super) fn push(&mut self, record: &Record, shown: Shown) -> Option<Shown> {
        let time = record.timestamp.unwrap_or(Timestamp::MIN);
        let place = (time, record.position.partition, record.position.offset);
        self.held.push(Reverse(Held { place, shown }));
        if self.held.len() <= self.width {
            return None;
        }
        let Reverse(earliest) = self.held.pop()?;
        (self.overflow == Overflow::Show).then_some(earliest.shown)
    }

    /// What is left, in order.
    pub(super) fn into_sorted(self) -> Vec<Shown> {
        // The latest is the greatest, but the heap has it reversed: smallest last.
        let sorted = self.held.into_sorted_vec();
        sorted.into_iter().rev().map(|Reverse(held)| held.shown).collect()
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.place.cmp(&other.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::Position;

    fn check(times: &[i64], window: (u64, Overflow), (early, rest): (&str, &str)) {
        let mut window = Window::new(window.0, window.1);
        let text = |shown| match shown {
            Shown::Json(json) => String::from_utf8(json).unwrap(),
            Shown::Row(_) => unreachable!("only JSON is put in"),
        };
        let mut given = String::new();
        for (offset, time) in (0..).zip(times) {
            let record = Record {
                position: Position { topic: "t".into(), partition: 0, offset },
                timestamp: Timestamp::from_second(*time).ok(),
                key: None,
                value: None,
                headers: vec![],
            };
            let shown = window.push(&record, Shown::Json(time.to_string().into_bytes()));
            given.extend(shown.map(text));
        }
        let left: String = window.into_sorted().into_iter().map(text).collect();
        assert_eq!((given.as_str(), left.as_str()), (early, rest), "{times:?}");
    }

    #[test]
    fn in_order_or_the_last_ones() {
        check(&[1, 4, 2, 5, 3], (3, Overflow::Show), ("12", "345"));
        check(&[1, 4, 2, 5, 3], (3, Overflow::Drop), ("", "345"));
        check(&[3, 1], (9, Overflow::Drop), ("", "13"));
        check(&[], (1, Overflow::Show), ("", ""));
    }
}
