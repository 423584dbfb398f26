//! `handoff`: every escalation gets exactly one final, true answer in time.
//!
//! The map, in reading order. Who may import whom:
//! `main -> commands -> app -> { config, telemetry, consume, deliver, gate, adapters } -> domain`.
//!
//! - `commands`: the command line, one file per subcommand.
//! - `app`: builds, starts, drains and stops everything; the only place with a real clock.
//! - `config`: file and environment become a checked `Config`.
//! - `consume`: records become ordered lanes, deliveries and offsets to commit.
//! - `deliver`: the walk of one event; declares the ports `Desk` and `Outcomes`.
//! - `ledger`: the port of what outlives the process.
//! - `gate`: everybody's way to Desk: concurrency, speed, pauses and probes.
//! - `domain`: what is decided, as pure values.
//! - `adapters`: Kafka, Desk over HTTP, the ledger's databases, the admin port.
//! - `sim`: the simulated Desk and the embedded broker, shipped as tools.
//! - `telemetry`, `pulse`: log, metrics, signs of progress.
//!
//! This crate is the service's own; it never promises a stable library interface.

pub mod adapters;
pub mod app;
pub mod clock;
pub mod commands;
pub mod config;
pub mod consume;
pub mod deliver;
pub mod domain;
pub mod gate;
pub mod health;
pub mod lease;
pub mod ledger;
pub mod sim;
pub mod telemetry;
