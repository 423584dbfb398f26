//! The memory of the audit: 48 bytes for an escalation, independent of the length of its id.
//!
//! Entries are collected in buckets by identity and then sorted, so that all records of one
//! identity are neighbours. A million escalations take about 50 MB.

use std::num::NonZeroU32;

use jiff::Timestamp;

const BUCKETS: usize = 256;

/// A record of the escalations topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RecordId {
    pub(super) partition: u16,
    pub(super) offset: i64,
}

/// One escalation. The first entry of an identity holds the outcome of all of them.
#[derive(Debug, Clone)]
pub(super) struct AuditEntry {
    /// A hash of the identity.
    pub(super) key: u128,
    pub(super) offset: i64,
    /// In seconds since 1970; after this time a missing outcome is a finding.
    pub(super) due: u32,
    /// A hash of the session id.
    pub(super) session: u32,
    pub(super) outcome: Option<OutcomeDigest>,
    pub(super) partition: u16,
    /// Retention may have deleted the outcome.
    pub(super) may_be_trimmed: bool,
    /// It repeats a record that could not be read once.
    pub(super) is_replay: bool,
}

const _: () = assert!(size_of::<AuditEntry>() == 48, "as the head of this file says");

/// A final outcome as hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutcomeDigest {
    pub(super) session: u32,
    /// A hash of status and agent.
    pub(super) meaning: u32,
    /// A hash of the decision. Not zero, so that `Option<OutcomeDigest>` needs no extra word.
    pub(super) decision: NonZeroU32,
}

/// A record that needs exactly one dead letter.
#[derive(Debug, Clone, Copy)]
pub(super) struct MalformedEntry {
    pub(super) record: RecordId,
    /// In seconds since 1970; after this time a missing dead letter is a finding.
    pub(super) due: u32,
    /// Retention may have deleted the dead letter.
    pub(super) may_be_trimmed: bool,
}

impl AuditEntry {
    pub(super) fn record(&self) -> RecordId {
        RecordId { partition: self.partition, offset: self.offset }
    }
}

/// Returns the seconds since 1970, rounded up and clamped to the range of the type.
pub(super) fn seconds(time: Timestamp) -> u32 {
    let whole = time.as_second() + i64::from(time.subsec_nanosecond() > 0);
    u32::try_from(whole.max(0)).unwrap_or(u32::MAX)
}

/// The entries of all escalations. Add all of them, then sort once, then search.
pub(super) struct AuditEntries(Vec<Vec<AuditEntry>>);

impl Default for AuditEntries {
    fn default() -> Self {
        Self(vec![Vec::new(); BUCKETS])
    }
}

impl AuditEntries {
    pub(super) fn push(&mut self, entry: AuditEntry) {
        let bucket = &mut self.0[bucket(entry.key)];
        if bucket.len() == bucket.capacity() {
            // Doubling, as a Vec does by itself, would leave up to half of the memory unused.
            bucket.reserve_exact(bucket.len() / 8 + 32);
        }
        bucket.push(entry);
    }

    /// Sorts the entries by identity and moves the latest deadline of each identity to its first
    /// entry.
    pub(super) fn sort(&mut self) {
        for bucket in &mut self.0 {
            bucket.sort_unstable_by_key(|entry| (entry.key, entry.record()));
            for group in bucket.chunk_by_mut(|a, b| a.key == b.key) {
                let due = group.iter().map(|entry| entry.due).max();
                let may_be_trimmed = group.iter().any(|entry| entry.may_be_trimmed);
                let first = &mut group[0];
                (first.due, first.may_be_trimmed) = (due.unwrap_or(first.due), may_be_trimmed);
            }
        }
    }

    /// Returns the entries of this identity; empty where there is none.
    pub(super) fn group_mut(&mut self, key: u128) -> &mut [AuditEntry] {
        let bucket = &mut self.0[bucket(key)];
        let start = bucket.partition_point(|entry| entry.key < key);
        let rest = &mut bucket[start..];
        let end = rest.partition_point(|entry| entry.key == key);
        &mut rest[..end]
    }

    /// Returns the entries of each identity.
    pub(super) fn groups(&self) -> impl Iterator<Item = &[AuditEntry]> {
        self.0.iter().flat_map(|bucket| bucket.chunk_by(|a, b| a.key == b.key))
    }

    /// Returns the memory that the entries occupy, unused capacity included.
    #[cfg(test)]
    pub(super) fn size_bytes(&self) -> usize {
        self.0.iter().map(|bucket| bucket.capacity() * size_of::<AuditEntry>()).sum()
    }
}

/// Keys are hashes, so their first byte spreads the entries evenly.
fn bucket(key: u128) -> usize {
    (key >> 120) as usize
}
