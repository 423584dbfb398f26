//! Sorts records by time in a window of bounded size, or keeps only the last ones.
//!
//! Partitions are read in order, but not at the same pace. The window restores the order across
//! partitions as far as its size allows.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use jiff::Timestamp;

use super::OutputItem;
use crate::domain::record::Record;

/// What happens to the earliest item when the window is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overflow {
    /// It is shown.
    Show,
    /// It is dropped, because only the last items are wanted.
    Drop,
}

/// Items in order of time.
pub(super) struct Window {
    max_items: usize,
    overflow: Overflow,
    items: BinaryHeap<Reverse<WindowItem>>,
}

struct WindowItem {
    sort_key: SortKey,
    item: OutputItem,
}

/// The fields in order of their weight: partition and offset decide between equal times.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct SortKey {
    time: Timestamp,
    partition: i32,
    offset: i64,
}

impl Window {
    pub(super) fn new(max_items: u64, overflow: Overflow) -> Self {
        let max_items = usize::try_from(max_items).unwrap_or(usize::MAX);
        Self { max_items, overflow, items: BinaryHeap::new() }
    }

    /// Adds an item. When the window overflows, returns the earliest item if it is to be shown.
    pub(super) fn push(&mut self, record: &Record, item: OutputItem) -> Option<OutputItem> {
        let sort_key = SortKey {
            time: record.timestamp.unwrap_or(Timestamp::MIN),
            partition: record.position.partition,
            offset: record.position.offset,
        };
        self.items.push(Reverse(WindowItem { sort_key, item }));
        if self.items.len() <= self.max_items {
            return None;
        }
        let Reverse(earliest) = self.items.pop()?;
        (self.overflow == Overflow::Show).then_some(earliest.item)
    }

    /// Returns the remaining items in order.
    pub(super) fn into_sorted(self) -> Vec<OutputItem> {
        // `Reverse` makes a heap with the earliest on top, so its sorted order is the latest first.
        let sorted = self.items.into_sorted_vec();
        sorted.into_iter().rev().map(|Reverse(item)| item.item).collect()
    }
}

impl PartialEq for WindowItem {
    fn eq(&self, other: &Self) -> bool {
        self.sort_key == other.sort_key
    }
}

impl Eq for WindowItem {}

impl PartialOrd for WindowItem {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for WindowItem {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.sort_key.cmp(&other.sort_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::Position;

    /// Returns what overflowed and was shown, and what was left, one digit each.
    fn sort(times: &[i64], max_items: u64, overflow: Overflow) -> (String, String) {
        let mut window = Window::new(max_items, overflow);
        let text = |item| match item {
            OutputItem::Json(json) => String::from_utf8(json).unwrap(),
            OutputItem::Row(_) => unreachable!("only JSON is put in"),
        };
        let mut shown = String::new();
        for (offset, time) in (0..).zip(times) {
            let record = Record {
                position: Position { topic: "t".into(), partition: 0, offset },
                timestamp: Timestamp::from_second(*time).ok(),
                key: None,
                value: None,
                headers: vec![],
            };
            let item = OutputItem::Json(time.to_string().into_bytes());
            shown.extend(window.push(&record, item).map(text));
        }
        (shown, window.into_sorted().into_iter().map(text).collect())
    }

    #[test]
    fn items_are_sorted_or_only_the_last_are_kept() {
        let check = |times: &[i64], max_items, overflow, shown: &str, left: &str| {
            let expected = (shown.to_owned(), left.to_owned());
            assert_eq!(sort(times, max_items, overflow), expected, "{times:?}");
        };
        check(&[1, 4, 2, 5, 3], 3, Overflow::Show, "12", "345");
        check(&[1, 4, 2, 5, 3], 3, Overflow::Drop, "", "345");
        check(&[3, 1], 9, Overflow::Drop, "", "13");
        check(&[], 1, Overflow::Show, "", "");
    }
}
