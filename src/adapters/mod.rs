//! The outside world: one folder or file per system, each as thin as possible.
//!
//! Adapters implement the ports that `deliver`, `consume` and `ledger` declare. They do not import
//! each other, and each sees only its own settings, not the configuration.

pub mod admin;
pub(crate) mod desk;
pub(crate) mod kafka;
pub mod ledger;
pub(crate) mod secret_file;
