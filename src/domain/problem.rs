//! What an unfinished event waits for, in one word: the same on the page, in lists and in JSON.
//!
//! A word must not hide trouble, so there is none for "in work".

use super::ledger_entry::WaitsFor;
use super::verdict::VerdictClass;

/// What an unfinished event waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// A call to Desk is in flight.
    Calling,
    /// A call may have taken effect: the session's state is queried first.
    InDoubt,
    /// A call failed, or its route is closed: it waits for its next attempt.
    WaitingRetry,
    /// Nobody suitable is online: it is tried again.
    NoAgentOnline,
    /// The gate is shut, or verifies a refusal.
    GateShut,
    /// It waits for its turn at Desk: the quota, Desk's throttling, or `desk.concurrency`.
    RateLimited,
    /// It waits for an earlier event of its session.
    BehindInSession,
    /// It is decided; its outcome is not acknowledged by the brokers.
    Unpublished,
    /// It waits for the ledger, or for the lease.
    Blocked,
}

impl Problem {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 9] = [
        Self::Calling,
        Self::InDoubt,
        Self::WaitingRetry,
        Self::NoAgentOnline,
        Self::GateShut,
        Self::RateLimited,
        Self::BehindInSession,
        Self::Unpublished,
        Self::Blocked,
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Calling => "calling",
            Self::InDoubt => "in_doubt",
            Self::WaitingRetry => "waiting_retry",
            Self::NoAgentOnline => "no_agent_online",
            Self::GateShut => "gate_shut",
            Self::RateLimited => "rate_limited",
            Self::BehindInSession => "behind_in_session",
            Self::Unpublished => "unpublished",
            Self::Blocked => "blocked",
        }
    }

    /// The problem with this word, if there is one.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|problem| problem.as_str() == word)
    }

    /// Of a parked event, by what it waits for and what came back last.
    pub fn of_parked(waits_for: &WaitsFor, is_in_doubt: bool, last: Option<VerdictClass>) -> Self {
        match waits_for {
            WaitsFor::Agent(_) => Self::NoAgentOnline,
            WaitsFor::Session => Self::BehindInSession,
            WaitsFor::Time | WaitsFor::Redelivery if is_in_doubt => Self::InDoubt,
            WaitsFor::Time | WaitsFor::Redelivery if last == Some(VerdictClass::NoAgent) => {
                Self::NoAgentOnline
            }
            WaitsFor::Time | WaitsFor::Redelivery => Self::WaitingRetry,
        }
    }

    /// What happens next, in words.
    pub const fn next(self) -> &'static str {
        match self {
            Self::Calling => "Desk answers, or the call times out",
            Self::InDoubt => "asks for the state of the session",
            Self::WaitingRetry => "tried again",
            Self::NoAgentOnline => "tried again, in its turn",
            Self::GateShut => "called when the gate opens",
            Self::RateLimited => "called when it is its turn",
            Self::BehindInSession => "follows the earlier events of its session",
            Self::Unpublished => "the brokers acknowledge its outcome",
            Self::Blocked => "goes on when the ledger answers",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_stands_for_one_problem() {
        for problem in Problem::ALL {
            assert_eq!(Problem::from_word(problem.as_str()), Some(problem));
        }
        assert_eq!(Problem::from_word("running"), None);
    }

    #[test]
    fn a_parked_event_says_what_it_waits_for() {
        let of = |waits_for, is_in_doubt, last| Problem::of_parked(&waits_for, is_in_doubt, last);
        let no_agent = Some(VerdictClass::NoAgent);
        assert_eq!(of(WaitsFor::Agent("r".into()), true, None), Problem::NoAgentOnline);
        assert_eq!(of(WaitsFor::Session, true, no_agent), Problem::BehindInSession);
        assert_eq!(of(WaitsFor::Time, true, no_agent), Problem::InDoubt);
        assert_eq!(of(WaitsFor::Time, false, no_agent), Problem::NoAgentOnline);
        assert_eq!(of(WaitsFor::Redelivery, false, None), Problem::WaitingRetry);
    }
}
