//! The names and help texts of the metrics. Units become part of a name by way of [`Unit`]; the library
//! adds `_total` to counters.

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::collectors::{DroppedLines, LimitsCollector};
use super::labels::{ClassLabel, KindLabel, ReasonLabel};
use super::{Metrics, RebalanceKind};
use crate::domain::event::MalformedClass;
use crate::domain::signal::ShutReason;
use crate::domain::wire::reading::SkipReason;
use crate::telemetry::process::ProcessCollector;
use crate::telemetry::{REVISION, VERSION};

impl Metrics {
    /// All metrics of the process, for a scrape.
    pub(super) fn registry(&self) -> Registry {
        let mut root = Registry::default();
        root.register_collector(Box::new(ProcessCollector));
        let registry = root.sub_registry_with_prefix("handoff");
        let labels = vec![("version", VERSION), ("revision", REVISION)];
        registry.register("build", "The version that runs", Info::new(labels));
        self.register_state(registry);
        self.register_answers(registry);
        self.register_desk(registry);
        self.register_kafka(registry);
        self.register_storage(registry);
        root
    }

    fn register_state(&self, r: &mut Registry) {
        r.register("healthy", "1 while /health answers 200", self.healthy.clone());
        r.register("ready", "1 while /ready answers 200", self.ready.clone());
        let help = "Unfinished events, in memory and parked, by what they wait for";
        r.register("unfinished_events", help, self.unfinished.clone());
        r.register("events_in_memory", "Events and dead letters in memory", self.in_memory.clone());
        let help = "When the oldest unfinished event was first read; 0: none";
        let (name, gauge) = ("oldest_unfinished_timestamp", self.oldest_unfinished.clone());
        r.register_with_unit(name, help, Unit::Seconds, gauge);
        r.register("sessions", "Sessions with unfinished events", self.sessions.clone());
        let help = "Unfinished events that are parked in the ledger";
        r.register("parked_events", help, self.parked.clone());
        let help = "1 while the intake is paused for this reason";
        r.register("intake_paused", help, self.intake_paused.clone());
        let help = "0 while the configuration file has a version that cannot be used";
        r.register("config_last_reload_successful", help, self.reload_successful.clone());
        let help = "When the configuration was last taken from its file";
        let (name, gauge) = ("config_last_reload_success_timestamp", self.reload_time.clone());
        r.register_with_unit(name, help, Unit::Seconds, gauge);
        r.register_collector(Box::new(LimitsCollector(self.limits.clone())));
        r.register_collector(Box::new(DroppedLines));
    }

    fn register_answers(&self, r: &mut Registry) {
        r.register("outcomes", "Final outcomes acknowledged", self.outcomes.clone());
        let help = "Interim outcomes acknowledged";
        r.register("interim_outcomes", help, self.interim_outcomes.clone());
        let help = "Outcomes and dead letters that are published and not acknowledged yet";
        r.register("outcomes_unacknowledged", help, self.unacknowledged.clone());
        let help = "When the oldest unacknowledged outcome or dead letter was enqueued; 0: none";
        let (name, gauge) = ("oldest_unacknowledged_timestamp", self.oldest_unacknowledged.clone());
        r.register_with_unit(name, help, Unit::Seconds, gauge);
        r.register("dead_letters", "Dead letters acknowledged", self.dead_letters.clone());
        let help = "Time from requested_at to the final outcome's decision";
        r.register_with_unit("event_duration", help, Unit::Seconds, self.event_duration.clone());
        let help = "Transfers that were sent for an event until its final outcome";
        r.register("transfers_per_event", help, self.transfers.clone());
        let help = "Escalations for which a shadow route would have been used";
        r.register("route_shadow_matches", help, self.shadow_matches.clone());
    }

    fn register_desk(&self, r: &mut Registry) {
        let help = "Calls to Desk without a reply yet";
        r.register("desk_calls_in_flight", help, self.in_flight.clone());
        r.register("desk_calls", "Calls to Desk by verdict", self.calls.clone());
        let help = "Duration of a call to Desk";
        r.register_with_unit("desk_call_duration", help, Unit::Seconds, self.call_duration.clone());
        let help = "Transfers that may have taken effect although no answer says so";
        r.register("calls_in_doubt", help, self.calls_in_doubt.clone());
        r.register("gate_shut", "1 while the gate is shut for this reason", self.gate_shut.clone());
        let help = "The part of the quota for transfers that this instance may use";
        r.register("quota_share", help, self.quota_share.clone());
        let help = "The part of its share of which throttling deprives this instance; 0: none";
        r.register("slowed", help, self.slowed.clone());
        let help = "When the signature of the calls expires; 0: none was made yet";
        let (name, gauge) = ("signature_expiry_timestamp", self.signature_expiry.clone());
        r.register_with_unit(name, help, Unit::Seconds, gauge);
    }

    fn register_kafka(&self, r: &mut Registry) {
        let help = "Partitions assigned to this process";
        r.register("assigned_partitions", help, self.partitions.clone());
        let help = "Partitions of the escalation topic; 0: not known yet";
        r.register("topic_partitions", help, self.topic_partitions.clone());
        r.register("rebalances", "Changes of the assigned partitions", self.rebalances.clone());
        let help = "Records between the committed offset and the end of the partition";
        r.register("consumer_lag", help, self.lag.clone());
        r.register("commit_failures", "Offset commits that failed", self.commit_failures.clone());
        r.register("events_decoded", "Records read as escalations", self.decoded.clone());
        r.register("records_skipped", "Records that are no escalation", self.skipped.clone());
        let help = "Records with the id of another one, not answered";
        r.register("duplicates", help, self.duplicates.clone());
        let help = "Records older than what the ledger remembers, skipped";
        r.register("records_beyond_memory", help, self.beyond_memory.clone());
        let help = "Records removed from the topic before they were read, at most";
        r.register("records_removed_unread", help, self.removed_unread.clone());
    }

    fn register_storage(&self, r: &mut Registry) {
        r.register("ledger_up", "0 while the ledger is unavailable", self.ledger_up.clone());
        let help = "Duration of a transaction that stores a batch of changes";
        r.register_with_unit(
            "ledger_write_duration",
            help,
            Unit::Seconds,
            self.ledger_write.clone(),
        );
        let help = "Sizes of the SQLite ledger's files";
        r.register_with_unit("ledger_file", help, Unit::Bytes, self.ledger_files.clone());
    }

    /// An alert on a change needs the series to exist before the first change.
    pub(super) fn start_at_zero(&self) {
        for reason in ShutReason::ALL {
            drop(self.gate_shut.get_or_create(&ReasonLabel { reason: reason.as_str() }));
        }
        for reason in SkipReason::ALL {
            drop(self.skipped.get_or_create(&ReasonLabel { reason: reason.as_str() }));
        }
        // An increase from nothing to 1 is none for Prometheus, and the first dead letter is worth an alert.
        for class in MalformedClass::ALL {
            drop(self.dead_letters.get_or_create(&ClassLabel { class: class.as_str() }));
        }
        for kind in RebalanceKind::ALL {
            drop(self.rebalances.get_or_create(&KindLabel { kind: kind.as_str() }));
        }
    }
}
