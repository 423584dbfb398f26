//! Faults seen in the field, one file per kind, each by the smallest input that shows it, on a real
//! Kafka and the real program.

mod beside;
mod beyond_memory;
mod broken_log;
mod broker_away;
mod dropped_connections;
mod dropped_database_connection;
mod flood_of_one_session;
mod growing_log;
mod hanging_broker;
mod hanging_sessions;
mod late_stamp;
mod metrics_formats;
mod moved_desk;
mod new_partitions;
mod no_broker_answers;
mod odd_events;
mod odd_replies;
mod outcomes_refused;
mod parked_night;
mod paused_workers;
mod permissions;
mod pgbouncer;
mod poison_session;
mod refused_configuration;
mod retries_pile;
mod reused_id;
mod rotated_password;
mod stop_without_brokers;
mod throttling;
mod topic_made_again;
mod transactions;
mod two_brokers;
mod unreleased_instance;
mod waiting_room;
