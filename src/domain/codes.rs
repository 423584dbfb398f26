//! Desk's error codes and their classes: the table behind `verdict`.
//!
//! A new code is one row here and one in docs/codes.md, or, without a new version, one line under
//! `[desk.verdicts]` in the configuration.

use std::fmt;

use serde::{Deserialize, Serialize};

use self::VerdictClass::{
    Assigned, Misconfigured, NoAgent, Occupied, Reauthenticate, Rejected, Throttled, Transient,
};

/// What a reply to a transfer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictClass {
    /// An agent has the session.
    Assigned,
    /// The session waits in Desk's queue.
    Queued,
    /// No suitable agent is available now.
    NoAgent,
    /// "Cannot be transferred", perhaps because a human has the session already.
    Occupied,
    /// This event cannot succeed.
    Rejected,
    /// The same call may succeed later.
    Transient,
    /// Too fast: the rate of all calls is reduced.
    Throttled,
    /// Desk refused the signature; a new one is made once.
    #[serde(alias = "resign")]
    Reauthenticate,
    /// No event can succeed before a repair.
    Misconfigured,
}

impl VerdictClass {
    /// All classes, in the order of their declaration.
    pub const ALL: [Self; 9] = [
        Self::Assigned,
        Self::Queued,
        Self::NoAgent,
        Self::Occupied,
        Self::Rejected,
        Self::Transient,
        Self::Throttled,
        Self::Reauthenticate,
        Self::Misconfigured,
    ];

    /// Reads the word of the configuration; `resign` is an alias of `reauthenticate`.
    pub fn from_word(word: &str) -> Option<Self> {
        let word = if word == "resign" { "reauthenticate" } else { word };
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }

    /// Whether the reply is about the service and not about the event, so that every other event
    /// would get it too.
    pub fn concerns_all_events(self) -> bool {
        matches!(self, Self::Throttled | Self::Reauthenticate | Self::Misconfigured)
    }

    /// The word in the configuration and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::Queued => "queued",
            Self::NoAgent => "no_agent",
            Self::Occupied => "occupied",
            Self::Rejected => "rejected",
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::Reauthenticate => "reauthenticate",
            Self::Misconfigured => "misconfigured",
        }
    }
}

impl fmt::Display for VerdictClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One code of Desk.
#[derive(Debug, Clone, Copy)]
pub struct CodeRow {
    /// `ErrorCode`.
    pub code: i64,
    /// What it means, unless the configuration overrides it.
    pub class: VerdictClass,
    /// The transfer may have happened although this code came back.
    pub in_doubt: bool,
    /// Its meaning and, for a misconfiguration, what to repair.
    pub text: &'static str,
}

const fn row(code: i64, class: VerdictClass, text: &'static str) -> CodeRow {
    CodeRow { code, class, in_doubt: false, text }
}

const fn in_doubt(code: i64, text: &'static str) -> CodeRow {
    CodeRow { code, class: Transient, in_doubt: true, text }
}

/// All known codes in ascending order: `verdict` searches them by bisection.
pub const CODES: &[CodeRow] = &[
    row(0, Assigned, "done"),
    row(60002, Misconfigured, "HTTP request or URL not readable: check desk.endpoint"),
    row(60003, Rejected, "request JSON not readable"),
    row(
        60004,
        Reauthenticate,
        "account or signature wrong: check desk.identifier and the secret key",
    ),
    row(
        60005,
        Reauthenticate,
        "account or signature wrong: check desk.identifier and the secret key",
    ),
    row(60006, Misconfigured, "SDKAppID not valid: check desk.sdkappid"),
    row(60007, Throttled, "call frequency of this interface exceeded"),
    in_doubt(60008, "service timed out"),
    row(60009, Misconfigured, "resource error: check desk.endpoint or desk.region"),
    row(
        60010,
        Misconfigured,
        "desk.identifier is not an App administrator: make it one in the console",
    ),
    row(60011, Throttled, "request frequency of the SDKAppID exceeded"),
    row(60012, Misconfigured, "SDKAppID missing in the URL: check desk.sdkappid and proxies"),
    in_doubt(60013, "Desk could not read its own response"),
    row(60014, Transient, "account replacement timed out"),
    row(60015, Rejected, "an account in the body is not text"),
    row(60016, Misconfigured, "SDKAppID disabled: see the Tencent console"),
    row(60017, Misconfigured, "requests are disabled for this SDKAppID: see the Tencent console"),
    row(60018, Throttled, "too many requests"),
    row(60019, Throttled, "too many requests"),
    row(60020, Misconfigured, "paid package expired: renew it (takes 5 minutes to act)"),
    row(60021, Misconfigured, "source IP not allowed: add this host in the Tencent console"),
    row(70001, Reauthenticate, "UserSig expired: check this host's clock"),
    row(70003, Reauthenticate, "UserSig not decodable"),
    row(
        70009,
        Reauthenticate,
        "UserSig does not verify: check that the secret key is this SDKAppID's",
    ),
    row(70013, Misconfigured, "UserSig was made for another identifier: check desk.identifier"),
    row(70014, Misconfigured, "UserSig was made for another SDKAppID: check desk.sdkappid"),
    row(70016, Misconfigured, "no key found: check desk.sdkappid against desk.region"),
    row(70020, Misconfigured, "SDKAppID unknown: check desk.sdkappid against desk.region"),
    // Throttled and a bad signature at once; `course` also renews the signature.
    row(70050, Throttled, "signature failed too often: check the secret key"),
    row(70051, Misconfigured, "account blacklisted: see the Tencent console"),
    row(70052, Reauthenticate, "UserSig no longer valid"),
    row(70107, Misconfigured, "account not imported: import desk.identifier or use another"),
    row(70114, Misconfigured, "restricted for security reasons: see the Tencent console"),
    in_doubt(70169, "server-side timeout"),
    row(70206, Rejected, "batch count not legal"),
    row(70398, Misconfigured, "account quota of the free edition used up: upgrade the app"),
    row(70402, Rejected, "parameters illegal"),
    row(
        70403,
        Misconfigured,
        "desk.identifier is not an App administrator: make it one in the console",
    ),
    in_doubt(70500, "server internal error"),
    row(80001, Rejected, "blocked by content safety"),
    row(90001, Rejected, "request JSON not readable"),
    row(90002, Rejected, "MsgBody not as described"),
    row(90005, Rejected, "MsgRandom missing or not an integer"),
    row(90007, Rejected, "MsgBody not an array"),
    row(
        90009,
        Misconfigured,
        "desk.identifier is not an App administrator: make it one in the console",
    ),
    row(90010, Rejected, "body does not match the format"),
    in_doubt(90992, "internal error"),
    in_doubt(90994, "internal error"),
    in_doubt(90995, "internal error"),
    in_doubt(91000, "internal error"),
    row(93000, Rejected, "body over 12 KiB"),
    row(141000, Misconfigured, "not a Desk app: check desk.sdkappid"),
    row(141001, NoAgent, "no agent available"),
    // Tencent says "retry", but the transfer may have happened by then.
    in_doubt(141002, "internal error, retry"),
    row(141003, Occupied, "session cannot be transferred"),
    row(141004, Rejected, "illegal parameters: check the target (agents, group) and the options"),
    row(141005, Rejected, "no such session"),
    row(141006, Rejected, "SessionId malformed"),
    row(141011, NoAgent, "named agent is offline"),
    row(141012, NoAgent, "agent at maximum concurrent sessions"),
    row(141013, NoAgent, "agent on a break"),
    row(141014, Misconfigured, "feature switched off: see the Desk console"),
    row(141015, Rejected, "user account does not exist"),
    row(141016, Occupied, "user already in a human session"),
    row(141017, NoAgent, "assignment failed, nobody online"),
];

// The table is searched by bisection.
const _: () = {
    let mut row = 1;
    while row < CODES.len() {
        assert!(CODES[row - 1].code < CODES[row].code, "CODES must be in ascending order");
        row += 1;
    }
};
