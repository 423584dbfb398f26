//! The section `[kafka]`: topics and librdkafka's properties, without a broker.

use super::{check, good};

#[test]
fn topic_names_are_legal_and_distinct() {
    check(
        "[kafka]\noutcomes_topic = \"a b\"\ndead_letters_topic = \"handoff.escalations\"",
        &[],
        &[
            "`kafka.outcomes_topic` = \"a b\" in F: must be a topic's name: 1 to 249 of a-z, A-Z, \
             0-9, '.', '_', '-'",
            "`kafka.dead_letters_topic` = \"handoff.escalations\" must not be the topic of \
             `kafka.escalations_topic`",
        ],
    );
}

#[test]
fn each_broker_is_a_host_and_a_port() {
    let servers = |text: &'static str| [("HANDOFF__KAFKA__BOOTSTRAP_SERVERS", text)];
    let good = |text| good("", &servers(text)).kafka.bootstrap_servers;
    assert_eq!(good("kafka-1:9092, 10.0.0.2:1,[::1]:65535"), "kafka-1:9092,10.0.0.2:1,[::1]:65535");
    for wrong in [
        "kafka",
        "kafka:",
        ":9092",
        "a:9092,",
        "a:9092;b:9092",
        "a:0",
        "http://a:9092",
        "a b:1",
        "::1:1",
    ] {
        let refused = format!(
            "`kafka.bootstrap_servers` = {wrong:?} in the environment: must be host:port pairs \
             separated by commas, as \"kafka-1:9092,kafka-2:9092\""
        );
        check("", &servers(wrong), &[&refused]);
    }
}

#[test]
fn properties_are_passed_through_under_librdkafkas_names() {
    let config = good(
        "[kafka.properties]\nsecurity.protocol = \"ssl\"\n\"client.id\" = \"file\"\n\
         [kafka.consumer_properties]\n\"fetch.min.bytes\" = 10\n\"check.crcs\" = true",
        &[
            ("HANDOFF__KAFKA__PROPERTIES__CLIENT_ID", "007"),
            ("HANDOFF__KAFKA__PRODUCER_PROPERTIES__LINGER_MS", "0.5"),
        ],
    );
    let listed = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    assert_eq!(listed(&config.kafka.properties), ["client.id=007", "security.protocol=ssl"]);
    assert_eq!(
        listed(&config.kafka.consumer_properties),
        ["check.crcs=true", "fetch.min.bytes=10"]
    );
    assert_eq!(listed(&config.kafka.producer_properties), ["linger.ms=0.5"]);
}

#[test]
fn properties_that_guarantees_depend_on_are_refused() {
    check(
        "[kafka.consumer_properties]\n\"enable.auto.commit\" = true\n\
         [kafka.producer_properties]\nacks = 1\n\"message.timeout.ms\" = 0",
        &[("HANDOFF__KAFKA__PROPERTIES__BOOTSTRAP_SERVERS", "b:1")],
        &[
            "`kafka.properties.bootstrap.servers` in the environment cannot be passed to librdkafka: \
             use `kafka.bootstrap_servers`",
            "`kafka.consumer_properties.enable.auto.commit` in F cannot be passed to librdkafka: \
             handoff commits offsets itself, below the lowest unfinished record",
            "`kafka.producer_properties.acks` in F cannot be passed to librdkafka: it is always all: \
             an acknowledged outcome must survive the loss of a broker",
            "`kafka.producer_properties.message.timeout.ms` in F cannot be passed to librdkafka: \
             handoff sets it, below the session time-out",
        ],
    );
}

/// Where there is no offset, the service applies `latest`; what was removed unread skips nothing more.
#[test]
fn the_client_never_resets_to_the_end() {
    let reset = |value: &str| {
        let text = format!("[kafka.consumer_properties]\n\"auto.offset.reset\" = \"{value}\"");
        let config = good(&text, &[]).kafka.consumer_config();
        config.get("auto.offset.reset").map(str::to_owned)
    };
    for value in ["latest", "Largest", "end", "earliest"] {
        assert_eq!(reset(value).as_deref(), Some("earliest"), "{value}");
    }
    assert_eq!(reset("error").as_deref(), Some("error"));
}

#[test]
fn sasl_settings_are_complete_and_supported() {
    check(
        "[kafka.properties]\n\"security.protocol\" = \"SASL_SSL\"\n\
         \"sasl.mechanism\" = \"GSSAPI\"\n\"sasl.username\" = \"u\"",
        &[],
        &[
            "`kafka.properties.sasl.mechanism` = \"GSSAPI\": must be one of PLAIN, SCRAM-SHA-256, \
             SCRAM-SHA-512; this build supports no others",
            "`kafka.properties.sasl.password` is missing: set \
             HANDOFF__KAFKA__PROPERTIES__SASL_PASSWORD, or \"sasl.password\" under \
             [kafka.properties]",
        ],
    );
    check(
        "[kafka.consumer_properties]\n\"security.protocol\" = \"sasl_plaintext\"\n\
         \"sasl.username\" = \"u\"\n\"sasl.password\" = \"p\"",
        &[],
        &["`kafka.properties.sasl.mechanism` is missing: \"security.protocol\" needs one of \
           PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"],
    );
}

#[test]
fn the_group_protocol_decides_who_sets_the_session_timeout() {
    let drain = "[drain]\ntimeout_ms = 50000\n";
    let session = "[kafka.consumer_properties]\n\"session.timeout.ms\" = 60000\n";
    good(&format!("{drain}{session}"), &[]);
    let broker = ("HANDOFF__KAFKA__PROPERTIES__GROUP_PROTOCOL", "Consumer");
    let kafka = good(drain, &[broker]).kafka;
    let strategy = kafka.consumer_config().get("partition.assignment.strategy").map(str::to_owned);
    assert_eq!(strategy, None, "the broker assigns");
    check(
        session,
        &[broker],
        &["`kafka.consumer_properties.session.timeout.ms` cannot be set together with \
           \"group.protocol\" = \"consumer\": the broker sets it, remove it here"],
    );
    check(
        "",
        &[
            ("HANDOFF__KAFKA__PROPERTIES__GROUP_PROTOCOL", "new"),
            ("HANDOFF__KAFKA__PROPERTIES__SESSION_TIMEOUT_MS", "soon"),
            ("HANDOFF__KAFKA__PROPERTIES__MAX_POLL_INTERVAL_MS", "never"),
        ],
        &[
            "`kafka.properties.group.protocol` = \"new\": must be classic or consumer",
            "`kafka.properties.max.poll.interval.ms` = \"never\": must be a whole number from 1 to \
             86400000",
            "`kafka.properties.session.timeout.ms` = \"soon\": must be a whole number from 1 to \
             3600000",
        ],
    );
}

#[test]
fn the_poll_interval_is_at_least_the_session_timeout() {
    check(
        "[kafka.consumer_properties]\n\"max.poll.interval.ms\" = 44999",
        &[],
        &["`kafka.consumer_properties.max.poll.interval.ms` = 44999 must be at least the \
           consumer's \"session.timeout.ms\" = 45000: raise the first, or lower the second under \
           [kafka.consumer_properties]"],
    );
    good("[kafka.consumer_properties]\n\"max.poll.interval.ms\" = 45000", &[]);
    let kip848 = "[kafka.consumer_properties]\n\"max.poll.interval.ms\" = 44999\n\
                  \"group.protocol\" = \"consumer\"";
    good(kip848, &[]);
}
