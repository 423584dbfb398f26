//! The integration tests, in one binary. What needs no Kafka and no database: `tidy`, `simulation`,
//! `sim_desk`, `demo`, `schemas`, `supervision` (`scripts/fast` runs the first two).
//!
//! - `tidy`: the house rules: words, structure, documents against the code.
//! - `simulation`: the event loop and the deliveries in seeded worlds with injected faults.
//! - `sim_desk`: the simulated Desk over HTTP.
//! - `demo`: `handoff demo`, run as a user runs it.
//! - `kafka`: the service on a real Kafka, judged by what is in the topics.
//! - `ledger`: one suite for the ledgers in memory, in SQLite and in PostgreSQL.
//! - `cli_kafka`: the commands that use Kafka, judged by output and exit code.
//! - `chaos`: workers, Kafka, database and Desk break at random; a checker compares the results.
//! - `field`: faults seen in the field, one file per kind, by the smallest input that shows each.
//! - `examples`: the programs under `examples/` against the service, run as a user runs them.
//! - `formats`: records of other systems, as fixtures and changed at random.
//! - `page`: the live page in a real browser (programs in `tests/page/`), in every state that it can show.
//! - `recipes`: the commands of `docs/recipes/` print what the pages say.
//! - `fixture`: whether the Kafka fixture does what the other tests rely on.
//! - `schemas`: the documents in schemas/ against the types, the documents' examples and `handoff schema`.
//! - `status`: the samples of `/status` against its schema.
//! - `supervision`: `handoff health` and the messages to systemd.
//! - `support`: starts Kafka, PostgreSQL and workers for the tests.

mod chaos;
mod cli_kafka;
mod demo;
mod examples;
mod field;
mod fixture;
mod formats;
mod kafka;
mod ledger;
mod page;
mod recipes;
mod schemas;
mod sim_desk;
mod simulation;
mod status;
mod supervision;
mod support;
mod tidy;
