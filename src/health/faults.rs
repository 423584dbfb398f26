//! Faults outside the service because of which events cannot be answered: their causes and remedies.
//!
//! What finds a fault reports it, and reports it again while it lasts; what finds it gone clears
//! it. `/ready` says the first one, in the order of [`FaultKind`]. The log gets a line when a fault
//! begins, when its cause changes, every few minutes while it lasts, and at its end.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

/// A fault that lasts is logged again after this time.
const REMINDER: Duration = Duration::from_secs(300);
/// From one line of a kind to the next at least: a fault may come and go, or change its cause, often.
const MIN_INTERVAL: Duration = Duration::from_secs(30);

/// What has failed. One fault of each kind at a time; a kind hides those behind it from `/ready`,
/// because they are often its consequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The consumer client has failed, or cannot join its group before somebody repairs the cause.
    ConsumerFailed,
    /// No broker answers.
    BrokersSilent,
    /// The group assigns no partition, or the client has not rejoined it.
    NoPartitions,
    /// The leader of a partition of ours does not answer, or there is none.
    LeaderSilent,
    /// The escalations may not be read, or their topic is gone.
    ReadingRefused,
    /// No record comes from a partition that has some.
    ReadingStalled,
    /// It cannot be found out where partitions are to be read from.
    StartUnknown,
    /// Outcomes or dead letters are not acknowledged.
    Unacknowledged,
    /// It cannot be found out whether messages have been published before.
    LookupFailed,
}

impl FaultKind {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 9] = [
        Self::ConsumerFailed,
        Self::BrokersSilent,
        Self::NoPartitions,
        Self::LeaderSilent,
        Self::ReadingRefused,
        Self::ReadingStalled,
        Self::StartUnknown,
        Self::Unacknowledged,
        Self::LookupFailed,
    ];

    /// Its name in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsumerFailed => "consumer_failed",
            Self::BrokersSilent => "brokers_silent",
            Self::NoPartitions => "no_partitions",
            Self::LeaderSilent => "leader_silent",
            Self::ReadingRefused => "reading_refused",
            Self::ReadingStalled => "reading_stalled",
            Self::StartUnknown => "start_unknown",
            Self::Unacknowledged => "unacknowledged",
            Self::LookupFailed => "lookup_failed",
        }
    }
}

/// Why events cannot be answered, and what to do about it, as sentences for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What happens, and what the broker said.
    pub cause: String,
    /// What to do; empty where nobody can know that.
    pub remedy: String,
}

/// A fault that is there now. As text: what `/ready` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveFault {
    /// What has failed.
    pub kind: FaultKind,
    /// For how long.
    pub lasts: Duration,
    /// Cause and remedy.
    pub fault: Fault,
}

/// The faults of this moment.
#[derive(Debug, Default)]
pub struct Faults(Mutex<[Slot; FaultKind::ALL.len()]>);

#[derive(Debug, Default)]
struct Slot {
    active: Option<Active>,
    logged: Option<Instant>,
    /// A line has announced this fault, so another one announces its end.
    announced: bool,
}

#[derive(Debug)]
struct Active {
    since: Instant,
    fault: Fault,
}

impl Faults {
    /// Report a fault that is there now, and has been since `since` if it is new.
    pub fn report(&self, kind: FaultKind, since: Instant, fault: Fault) {
        let mut slots = self.0.lock();
        let slot = &mut slots[kind as usize];
        let is_news = slot.active.as_ref().is_none_or(|active| active.fault.cause != fault.cause);
        let since = slot.active.as_ref().map_or(since, |active| active.since);
        let interval = if is_news { MIN_INTERVAL } else { REMINDER };
        if slot.logged.is_none_or(|logged| logged.elapsed() >= interval) {
            slot.logged = Some(Instant::now());
            slot.announced = true;
            warn!(
                reason = kind.as_str(),
                for_s = since.elapsed().as_secs(),
                error = fault.cause,
                repair = fault.remedy,
                "not ready: events cannot be answered"
            );
        }
        slot.active = Some(Active { since, fault });
    }

    /// This fault is gone, if there was one.
    pub fn clear(&self, kind: FaultKind) {
        let mut slots = self.0.lock();
        let slot = &mut slots[kind as usize];
        if let Some(active) = slot.active.take()
            && std::mem::take(&mut slot.announced)
        {
            let after_s = active.since.elapsed().as_secs();
            info!(reason = kind.as_str(), after_s, "fault over: events can be answered again");
        }
    }

    /// The faults of this moment, in the order of [`FaultKind`].
    pub fn active(&self) -> Vec<ActiveFault> {
        let slots = self.0.lock();
        let active = |kind: FaultKind| {
            let Active { since, fault } = slots[kind as usize].active.as_ref()?;
            Some(ActiveFault { kind, lasts: since.elapsed(), fault: fault.clone() })
        };
        FaultKind::ALL.into_iter().filter_map(active).collect()
    }

    /// The first of them, as `/ready` says it.
    pub fn first(&self) -> Option<String> {
        self.active().first().map(ActiveFault::to_string)
    }
}

impl fmt::Display for ActiveFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { cause, remedy } = &self.fault;
        write!(f, "{cause} (for {} s)", self.lasts.as_secs())?;
        if remedy.is_empty() { Ok(()) } else { write!(f, "; {remedy}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(cause: &str) -> Fault {
        Fault { cause: cause.into(), remedy: "do it".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_kind_hides_the_others_until_it_is_cleared() {
        let faults = Faults::default();
        assert_eq!(faults.first(), None);
        let start = Instant::now();
        faults.report(
            FaultKind::LookupFailed,
            start,
            Fault { remedy: String::new(), ..fault("l") },
        );
        faults.report(FaultKind::BrokersSilent, start, fault("b"));
        tokio::time::advance(Duration::from_secs(7)).await;
        faults.report(FaultKind::BrokersSilent, Instant::now(), fault("c"));
        assert_eq!(faults.first().unwrap(), "c (for 7 s); do it", "it lasts since its beginning");
        faults.clear(FaultKind::BrokersSilent);
        assert_eq!(faults.first().unwrap(), "l (for 7 s)");
        faults.clear(FaultKind::LookupFailed);
        assert_eq!(faults.first(), None);
    }

    #[test]
    fn every_kind_has_its_slot() {
        for (index, kind) in FaultKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_lines_of_a_fault_are_throttled() {
        let faults = Faults::default();
        let logged = || faults.0.lock()[FaultKind::BrokersSilent as usize].logged;
        let report = |cause| faults.report(FaultKind::BrokersSilent, Instant::now(), fault(cause));
        report("a");
        let first = logged();
        for _ in 0..29 {
            tokio::time::advance(Duration::from_secs(1)).await;
            report("b");
            faults.clear(FaultKind::BrokersSilent);
            report("a");
        }
        assert_eq!(logged(), first, "it comes and goes");
        tokio::time::advance(Duration::from_secs(1)).await;
        report("b");
        let second = logged();
        assert_ne!(second, first);
        tokio::time::advance(Duration::from_secs(299)).await;
        report("b");
        assert_eq!(logged(), second, "nothing new");
        tokio::time::advance(Duration::from_secs(1)).await;
        report("b");
        assert_ne!(logged(), second, "it still lasts");
    }
}
