//! One file per outside system, thin: Desk over HTTP, Kafka, the ledger, the admin port.
//!
//! Adapters implement the ports that `deliver` and `consume` declare.
//! They never import each other and never see the configuration, only their own settings.

pub(crate) mod admin;
pub mod desk;
pub mod kafka;
pub mod ledger;
