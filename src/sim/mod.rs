//! Stand-ins for the systems around the service: Desk, Kafka and the ledger.
//!
//! `handoff desk` and `handoff demo` use the first two, and the tests all three, so that a trial
//! on a laptop runs what the tests verify. [`desk`] and [`broker`] speak the real protocols over
//! real sockets; the service cannot tell them from the real systems.

pub(crate) mod broker;
pub mod desk;
pub mod ledger;
