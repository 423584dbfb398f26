//! The service on a real Apache Kafka and the simulated Desk, judged by what is in the topics.
//!
//! Each test has its own topics, group and Desk.

mod admin;
mod audit;
mod codes;
mod crash;
mod dead_letters;
mod explain;
mod formats;
mod groups;
mod identities;
mod json_log;
mod ledger_away;
mod operator;
mod order;
mod outages;
mod poison;
mod quota;
mod reload;
mod routes;
mod secrets;
mod sizes;
mod traces;
