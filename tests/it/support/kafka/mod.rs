//! A real Apache Kafka for the tests, and helpers for its topics.
//!
//! [`shared`] is one broker for the whole test process; [`Broker`] is one that a test may stop and
//! start. Looked for in this order: `HANDOFF_TEST_KAFKA=host:port`; Docker, with the image
//! `HANDOFF_TEST_KAFKA_IMAGE`; Java 17 and the jars of Kafka. `HANDOFF_TEST_KAFKA_VIA=given|docker|jvm`
//! forces one of them. A broker started here ends with the test process, however that ends. Without a
//! broker the test fails; it is not skipped.

mod broker;
mod client;
mod container;

mod jvm;
mod launcher;
mod record;

pub(in crate::support) use broker::free_port;
pub(crate) use broker::{Broker, Tools, shared};
pub(crate) use client::{
    add_partitions, alter_topic, commit, committed, create_deleted_topic, create_topic,
    create_topic_on, create_topic_with, create_topics, delete_records, delete_topic,
    high_watermark, high_watermarks, produce, read_all, read_to_end, recreate_topic,
    recreate_topic_with, unique,
};
pub(crate) use record::{Received, Record};
