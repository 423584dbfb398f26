//! Starts Kafka, PostgreSQL and workers for the integration tests.

pub(crate) mod guard;
pub(crate) mod kafka;
pub(crate) mod outcome_schema;
pub(crate) mod pgbouncer;
pub(crate) mod postgres;
pub(crate) mod programs;
pub(crate) mod relay;
pub(crate) mod stalls;
pub(crate) mod worker;
