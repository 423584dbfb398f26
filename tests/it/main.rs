//! The integration tests: one binary. It never contains a test itself.

mod chaos;
mod cli_kafka;
mod demo;
mod fixture;
mod kafka;
mod ledger;
mod sim_desk;
mod simulation;
mod support;
mod tidy;
