//! The buckets of the histograms.

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// 5 ms to 10 s: Desk gives a call up after 3 s, `desk.timeout_ms` is 5 s by default.
pub(super) fn call_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 12))
}

/// 10 ms to 25 min: an escalation lives for 10 min by default.
pub(super) fn event_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.5, 14))
}

/// 0.5 ms to 4 s: a commit of a local SSD, and one that waits for a slow network or disk.
pub(super) fn write_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 14))
}

/// One is the rule, none what expires; many are a cascade, or an event for which nobody is online.
pub(super) fn transfer_buckets() -> Histogram {
    Histogram::new([0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0])
}
