//! `handoff` answers every escalation with exactly one final outcome, in time.
//!
//! The map, in reading order. A module imports only what stands to the right of it:
//! `main -> commands -> app -> { config, adapters } -> consume -> deliver ->
//! { gate, ledger, lease, health, activity, telemetry } -> domain`.
//!
//! - [`commands`]: the command line, a file or folder per subcommand.
//! - [`app`]: the composition root: builds every part and runs the service through its phases.
//! - [`config`]: reads file and environment into a checked [`config::Config`].
//! - [`adapters`]: Kafka, Desk's API, the ledger's databases, the admin port.
//! - [`consume`]: partitions and session queues, a task per event, the offsets to commit.
//! - [`deliver`]: the delivery of one event; declares the ports it needs from the adapters.
//! - [`gate`]: admission control towards Desk: permits, rate limiter, circuit breaker.
//! - [`ledger`]: the port of the database that outlives the process.
//! - [`lease`]: whether this process may still act for its partitions.
//! - [`health`]: what `/health` and `/ready` say.
//! - [`activity`]: what the service is doing and has done lately, for `/status` and the page.
//! - [`telemetry`]: logs, metrics and traces.
//! - [`domain`]: every decision, as pure functions of values.
//! - [`sim`]: the simulated Desk and the embedded broker, shipped as tools.
//! - [`clock`] and `task`: time, random numbers, spawning. Everything but `domain` may use them.
//!
//! The crate serves its own binary, tests and benchmark: its interface is not stable.

pub mod activity;
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
mod task;
pub mod telemetry;
