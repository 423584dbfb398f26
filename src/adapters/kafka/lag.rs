//! How far a partition has been read, by the client's statistics.
//!
//! Offsets are more than records: a transaction ends with a control record, and the records of an
//! aborted one are skipped. The service sees none of them, but the client's position does, and it is
//! committed when everything that was received is finished. So a partition that was read to its end
//! has no lag.

use rdkafka::statistics::Partition;

/// Records between the committed offset and the end of the partition, those that an open
/// transaction holds back included; `None` while either is unknown.
pub(super) fn lag(partition: &Partition) -> Option<i64> {
    let known = |offset: i64| (offset >= 0).then_some(offset);
    Some((known(partition.hi_offset)? - known(partition.committed_offset)?).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// librdkafka's value for an offset that is not known.
    const UNKNOWN: i64 = -1001;

    fn partition(committed: i64, end: i64) -> Partition {
        Partition {
            committed_offset: committed,
            stored_offset: UNKNOWN,
            app_offset: UNKNOWN,
            next_offset: end,
            hi_offset: end,
            ls_offset: end,
            ..Partition::default()
        }
    }

    #[test]
    fn lag_is_known_with_both_offsets() {
        assert_eq!(lag(&partition(5, 17)), Some(12));
        assert_eq!(lag(&partition(UNKNOWN, 17)), None, "nothing was ever committed");
        assert_eq!(lag(&partition(5, UNKNOWN)), None, "nothing was fetched yet");
    }

    #[test]
    fn what_an_open_transaction_holds_back_counts() {
        let held = Partition { ls_offset: 5, next_offset: 5, ..partition(5, 8) };
        assert_eq!(lag(&held), Some(3));
    }
}
