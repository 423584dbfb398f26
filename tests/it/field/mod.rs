//! Faults seen in the field, one file per kind, each by the smallest input that shows it, on a real
//! Kafka and the real program.

mod broken_log;
