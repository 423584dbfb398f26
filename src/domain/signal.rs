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
    /// Desk said "too fast" and named the shortest wait, if it named one.
    Throttled(Option<Duration>),
    /// Desk refused the signature. Only the next call, which carries a new one, shows whether
    /// anything is misconfigured.
    Reauthenticating,
    /// No call can succeed until the text is followed.
    Misconfigured(String),
    /// Desk works but has no `get_session_state`; the text is the cause.
    StateQueryUnsupported(String),
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
