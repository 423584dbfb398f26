//! The entries of the audit: 48 bytes for an escalation, however long its identity.
//!
//! They are gathered in buckets by identity, so that none is large and growing one costs little;
//! then sorted, so that the records of one identity are neighbours.
//! This file never decides what an entry means.

use std::num::NonZeroU32;

use jiff::Timestamp;

const BUCKETS: usize = 256;

/// One escalation. What is known of the answer stands in the first of its identity.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The identity.
    pub(super) key: u128,
    pub(super) offset: i64,
    /// Past this second it must be answered.
    pub(super) due: u32,
    pub(super) session: u32,
    /// The final answer.
    pub(super) given: Option<Given>,
    pub(super) partition: u16,
    /// Its answer may have been deleted from the topic.
    pub(super) is_old: bool,
}

const _: () = assert!(size_of::<Entry>() == 48, "as the head of this file says");

/// A final answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) session: u32,
    pub(super) meaning: u32,
    pub(super) bytes: NonZeroU32,
}

impl Entry {
    pub(super) fn place(&self) -> (i32, i64) {
        (i32::from(self.partition), self.offset)
    }
}

/// The seconds of a time, rounded up; what is too early or late is the earliest or latest.
pub(super) fn seconds(time: Timestamp) -> u32 {
    let whole = time.as_second() + i64::from(time.subsec_nanosecond() > 0);
    u32::try_from(whole.max(0)).unwrap_or(u32::MAX)
}

/// All entries.
pub(super) struct Entries(Vec<Vec<Entry>>);

impl Default for Entries {
    fn default() -> Self {
        Self(vec![Vec::new(); BUCKETS])
    }
}

impl Entries {
    /// One more.
    pub(super) fn push(&mut self, entry: Entry) {
        let bucket = &mut self.0[bucket(entry.key)];
        if bucket.len() == bucket.capacity() {
            // Doubling would waste as much as is used.
            bucket.reserve_exact(bucket.len() / 8 + 32);
        }
        bucket.push(entry);
    }

    /// No more will come: bring the records of each identity together.
    pub(super) fn sort(&mut self) {
        for bucket in &mut self.0 {
            bucket.sort_unstable_by_key(|entry| (entry.key, entry.place()));
            for group in bucket.chunk_by_mut(|a, b| a.key == b.key) {
                let due = group.iter().map(|entry| entry.due).max();
                let is_old = group.iter().any(|entry| entry.is_old);
                let lead = &mut group[0];
                (lead.due, lead.is_old) = (due.unwrap_or(lead.due), is_old);
            }
        }
    }

    /// The records of this identity; empty: there is none.
    pub(super) fn group_mut(&mut self, key: u128) -> &mut [Entry] {
        let bucket = &mut self.0[bucket(key)];
        let start = bucket.partition_point(|entry| entry.key < key);
        let rest = &mut bucket[start..];
        let end = rest.partition_point(|entry| entry.key == key);
        &mut rest[..end]
    }

    /// The records of each identity.
    pub(super) fn groups(&self) -> impl Iterator<Item = &[Entry]> {
        self.0.iter().flat_map(|bucket| bucket.chunk_by(|a, b| a.key == b.key))
    }

    /// The memory they hold.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|bucket| bucket.capacity() * size_of::<Entry>()).sum()
    }
}

fn bucket(key: u128) -> usize {
    (key >> 120) as usize
}
