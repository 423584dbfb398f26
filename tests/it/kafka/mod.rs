//! The service on a real Apache Kafka and the simulated Desk: what is claimed, seen in the topics.
//!
//! Every test has its own topics, group and Desk. Nothing here is ever proved on a mock.

mod audit;
mod codes;
mod crash;
mod groups;
mod ledger_away;
mod order;
mod outages;
mod poison;
mod quota;
mod routes;
mod secrets;
mod sizes;
