//! What one reply says about the service as a whole: the input of the gate.
//!
//! A [`Course`](super::course::Course) decides what a reply means for its own event. The [`Signal`] is
//! the rest: whether Desk works, throttles us, or refuses every call. The gate's circuit breaker and
//! rate limiter read it. It is defined here because the metrics need [`ShutReason`] and the gate
//! needs the metrics.

use std::time::Duration;

/// What a reply tells the gate's circuit breaker and rate limiter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Desk works.
    Success,
    /// Nothing came back that Desk sent; the text is the cause.
    NoResponse(String),
    /// As [`Signal::NoResponse`], from a host, path or proxy that may be the wrong one.
    Misrouted(String),
    /// Desk said "too fast" and named the shortest wait, if it named one.
    Throttled(Option<Duration>),
    /// Desk refused the signature. Only the next call, which carries a new one, shows whether
    /// anything is misconfigured.
    Reauthenticating,
    /// Desk refused the call for a reason that usually concerns all calls: none can succeed until the
    /// text is followed. The gate needs a second session that says so.
    Misconfigured(String),
    /// Desk works but has no `get_session_state`; the text is the cause.
    StateQueryUnsupported(String),
}

impl Signal {
    /// Whether nothing came back that Desk sent.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::NoResponse(_) | Self::Misrouted(_))
    }
}

/// Whether a call repeats an earlier one of its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// No: the first pass through the event's targets.
    First,
    /// Yes: the event was refused, throttled, met a fault or found nobody online before.
    Again,
}

/// Why the gate is shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ShutReason {
    /// Somebody has to repair the configuration, the account or the network.
    Misconfigured,
    /// Desk does not answer.
    Unreachable,
}

impl ShutReason {
    /// All reasons, in the order of their declaration.
    pub const ALL: [Self; 2] = [Self::Misconfigured, Self::Unreachable];

    /// The word in the log, in the metric and in `/ready`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Misconfigured => "misconfigured",
            Self::Unreachable => "unreachable",
        }
    }
}
