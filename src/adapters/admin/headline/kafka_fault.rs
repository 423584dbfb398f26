//! What each fault of Kafka means for the line.

use crate::health::FaultKind;

/// The anchor of a fault of Kafka, and what it means for those who wait.
pub(super) fn fault(kind: FaultKind) -> (&'static str, &'static str) {
    match kind {
        FaultKind::ConsumerFailed => ("#not-ready-consumer_failed", "new ones are not read"),
        FaultKind::BrokersSilent => ("#not-ready-brokers_silent", "none is read or answered"),
        FaultKind::NoPartitions => ("#not-ready-no_partitions", "this instance reads none"),
        FaultKind::LeaderSilent => {
            ("#not-ready-leader_silent", "those of some partitions are not read")
        }
        FaultKind::ReadingRefused => ("#not-ready-reading_refused", "new ones are not read"),
        FaultKind::ReadingStalled => {
            ("#not-ready-reading_stalled", "those of some partitions are not read")
        }
        FaultKind::StartUnknown => {
            ("#not-ready-start_unknown", "those of some partitions are not read")
        }
        FaultKind::Unacknowledged => ("#not-ready-unacknowledged", "no bot learns an answer"),
        FaultKind::LookupFailed => {
            ("#not-ready-lookup_failed", "those from before the restart are not answered")
        }
    }
}
