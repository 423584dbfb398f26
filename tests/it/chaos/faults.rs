//! The faults of a run: what they do, for people, and how long events may wait because of them.
//!
//! [`injector`](super::injector) draws and performs them.

use std::fmt;
use std::time::Duration;

use handoff::sim::desk::FaultSchedule;

use super::environment::APPEND_TIME;
use super::piles::Pile;
use super::settings::SESSION_TIMEOUT;

/// Until the partitions of a worker that is down are served again, and the records that arrived
/// meanwhile are answered: the group's rebalance, calls in doubt, slow start.
const RECOVERY: Duration = Duration::from_secs(10);
/// The same where only some calls failed.
const DESK_RECOVERY: Duration = Duration::from_secs(5);
/// How long a freeze is: a pause of several session time-outs.
pub(super) const FREEZE: Duration = Duration::from_secs(20);

/// How soon a worker must notice that a connection was dropped in silence.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);

/// What a worker is connected to.
#[derive(Debug, Clone, Copy)]
pub(super) enum ConnectedTo {
    Broker,
    Database,
}

/// A fault; times in milliseconds.
pub(super) enum Fault {
    Kill {
        worker: usize,
        down: u64,
    },
    KillAll {
        down: u64,
    },
    RollingRestart,
    Pause {
        worker: usize,
        time: u64,
    },
    Freeze {
        worker: usize,
    },
    StopBroker {
        down: u64,
    },
    KillBroker {
        down: u64,
    },
    RefuseOutcomes {
        by: Refusal,
        time: u64,
    },
    StopDatabase {
        down: u64,
    },
    /// The file has the new password only after this time; 0: before it is valid.
    RotatePassword {
        late: u64,
    },
    /// All connections to the broker or the database are dropped in silence.
    DropConnections {
        of: ConnectedTo,
    },
    DeskOutage {
        closes_port: bool,
        time: u64,
    },
    DeskFaults(&'static str, FaultSchedule),
    Throttle {
        limit: u32,
        time: u64,
    },
    StallLog {
        worker: usize,
        time: u64,
    },
    /// The topic of the escalations is deleted and created again so many times, under load; all workers
    /// may be killed meanwhile.
    MakeTopicAgain {
        times: u32,
        kills: bool,
    },
    Pile(Pile),
}

/// Why the broker refuses what the workers publish.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refusal {
    /// The largest record that the topic takes is smaller than any outcome.
    Size,
    /// The topic takes only records of this very millisecond.
    Timestamp,
}

impl Refusal {
    /// The settings of a topic that refuses.
    pub(super) fn topic_settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Size => &[APPEND_TIME, ("max.message.bytes", "100")],
            // Only timestamps of the publisher are judged.
            Self::Timestamp => &[("message.timestamp.before.max.ms", "0")],
        }
    }
}

impl Fault {
    /// The names of all kinds, as `scripts/chaos --only` takes them.
    pub(super) const KINDS: [&str; 14] = [
        "kill",
        "restart",
        "pause",
        "freeze",
        "broker",
        "refuse",
        "database",
        "password",
        "connections",
        "desk",
        "throttle",
        "log",
        "topic",
        "pile",
    ];

    /// The name of its kind.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Kill { .. } | Self::KillAll { .. } => "kill",
            Self::RollingRestart => "restart",
            Self::Pause { .. } => "pause",
            Self::Freeze { .. } => "freeze",
            Self::StopBroker { .. } | Self::KillBroker { .. } => "broker",
            Self::RefuseOutcomes { .. } => "refuse",
            Self::StopDatabase { .. } => "database",
            Self::RotatePassword { .. } => "password",
            Self::DropConnections { .. } => "connections",
            Self::DeskOutage { .. } | Self::DeskFaults(..) => "desk",
            Self::Throttle { .. } => "throttle",
            Self::StallLog { .. } => "log",
            Self::MakeTopicAgain { .. } => "topic",
            Self::Pile(_) => "pile",
        }
    }

    /// Whether it begins only when no earlier fault explains that an event waits: so that this one
    /// cannot hide, or so that no worker has just been stopped with events in work.
    pub(super) fn needs_calm(&self) -> bool {
        matches!(self, Self::Pile(_) | Self::StallLog { .. } | Self::MakeTopicAgain { .. })
    }

    /// How long after it events may still wait because of it if it begins in calm; `None`: it must delay
    /// no event that Desk answers. The limit of a throttling Desk is above the rate of the records: it
    /// adds to the delay of an earlier fault, and must not delay the others.
    pub(super) fn aftermath_in_calm(&self) -> Option<Duration> {
        self.aftermath().filter(|_| !matches!(self, Self::Throttle { .. }))
    }

    /// How long after it events may still wait because of it; `None`: it must delay no event that
    /// Desk answers.
    pub(super) fn aftermath(&self) -> Option<Duration> {
        // The group notices a killed member after its session time-out.
        let of_kill = |down: u64| Duration::from_millis(down).max(SESSION_TIMEOUT) + RECOVERY;
        match self {
            Self::Kill { down, .. } | Self::KillAll { down } => Some(of_kill(*down)),
            // A worker may be killed meanwhile.
            Self::StopBroker { .. }
            | Self::KillBroker { .. }
            | Self::RefuseOutcomes { .. }
            | Self::RotatePassword { .. }
            | Self::StopDatabase { .. } => Some(of_kill(0)),
            Self::Pause { time, .. } | Self::DeskOutage { time, .. } => {
                Some(Duration::from_millis(*time) + RECOVERY)
            }
            Self::Freeze { .. } => Some(FREEZE + RECOVERY),
            Self::DropConnections { .. } => Some(NOTICED_WITHIN + RECOVERY),
            Self::RollingRestart | Self::Throttle { .. } => Some(RECOVERY),
            Self::DeskFaults(..) => Some(DESK_RECOVERY),
            // It ends when everything is answered.
            Self::MakeTopicAgain { .. } => Some(Duration::ZERO),
            Self::StallLog { .. } | Self::Pile(_) => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { worker, down } => write!(f, "kill worker {worker}, down {down} ms"),
            Self::KillAll { down } => write!(f, "kill all workers, down {down} ms"),
            Self::RollingRestart => f.write_str("rolling restart"),
            Self::Pause { worker, time } => write!(f, "pause worker {worker} for {time} ms"),
            Self::Freeze { worker } => write!(f, "freeze worker {worker} for {FREEZE:.0?}"),
            Self::KillBroker { down } => write!(f, "kill the broker, down {down} ms"),
            Self::StopBroker { down } => write!(f, "stop the broker, down {down} ms"),
            Self::RefuseOutcomes { by, time } => {
                write!(f, "the broker refuses outcomes and dead letters for {time} ms ({by:?})")
            }
            Self::StopDatabase { down } => write!(f, "stop the database, down {down} ms"),
            Self::RotatePassword { late } => {
                write!(f, "rotate the password, the file follows after {late} ms")
            }
            Self::DropConnections { of } => {
                write!(f, "drop the connections to the {of:?} in silence")
            }
            Self::DeskOutage { closes_port: true, time } => {
                write!(f, "Desk closes its port for {time} ms")
            }
            Self::DeskOutage { time, .. } => write!(f, "Desk cuts connections for {time} ms"),
            Self::DeskFaults(name, schedule) => {
                let queries = if schedule.faults.len() > 1 { ", state queries too" } else { "" };
                write!(f, "Desk: {} x {name}{queries}", schedule.faults[0].times)
            }
            Self::Throttle { limit, time } => {
                write!(f, "Desk allows {limit} calls per second for {time} ms")
            }
            Self::StallLog { worker, time } => {
                write!(f, "nobody reads the log of worker {worker} for {time} ms")
            }
            Self::MakeTopicAgain { times, kills } => {
                let kills = if *kills { ", and kill all workers" } else { "" };
                write!(f, "delete the input topic and create it again, {times} times{kills}")
            }
            Self::Pile(pile) => write!(f, "{pile}"),
        }
    }
}

/// Number of faults by target; those of workers are counted in `WorkerCounts`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FaultCounts {
    pub(super) broker: usize,
    pub(super) refusals: usize,
    pub(super) database: usize,
    pub(super) passwords: usize,
    pub(super) dropped_connections: usize,
    pub(super) desk: usize,
    pub(super) topics: usize,
    pub(super) piles: usize,
}
