//! The stream of records: customers of several languages and bots, and what goes wrong with some.
//!
//! The n-th record is the same in each run with the same seed, except for its times.

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::formats::{SourceFormat, WrittenEscalation, WrittenRecord};
use crate::domain::record::Header;
use crate::sim::desk::{InjectedFault, LatencyRange, OddForm, SessionChange, SimulatedState};

/// A record to publish, and how Desk treats its session.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct StreamRecord {
    /// The session and the record's key.
    pub(super) session: String,
    pub(super) value: Vec<u8>,
    pub(super) headers: Vec<Header>,
    pub(super) faults: Vec<InjectedFault>,
    /// The state of the session before the call.
    pub(super) initial: Option<SessionChange>,
}

/// Writes one record after the other.
pub(super) struct EscalationStream {
    rng: Rng,
    written: u64,
    last: Option<Customer>,
}

#[derive(Debug, Clone)]
struct Customer {
    session: String,
    format: SourceFormat,
    language: Language,
    tier: &'static str,
    intent: &'static str,
}

#[derive(Debug, Clone, Copy)]
struct Language {
    code: &'static str,
    reason: &'static str,
}

/// What goes wrong with an escalation.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    Nothing,
    /// Desk transfers, and its answer is lost.
    LostAnswer,
    /// Desk transfers, and does not answer in time.
    TimeOut,
    /// So many calls get this code.
    Code(i64, u32),
    /// Desk transfers, and answers in a form that is not plain JSON.
    OddAnswer,
    Slow,
    /// The session has a human already.
    AlreadyWithAgent,
    /// The customer has left.
    Gone,
    /// The escalation cannot be carried out as it is written.
    Invalid,
    /// The bot sends another kind of record.
    NotAnEscalation,
}

const LANGUAGES: &[(u32, Language)] = &[
    (30, Language { code: "en", reason: "asked for a person" }),
    (25, Language { code: "de", reason: "möchte mit einem Menschen sprechen" }),
    (5, Language { code: "at", reason: "Rückruf gewünscht" }),
    (15, Language { code: "zh", reason: "用户要求人工客服" }),
    (10, Language { code: "es", reason: "quiere hablar con una persona" }),
    (8, Language { code: "ar", reason: "يريد التحدث إلى موظف" }),
    (7, Language { code: "ja", reason: "担当者と話したい" }),
];

const FORMATS: &[(u32, SourceFormat)] = &[
    (48, SourceFormat::Native),
    (12, SourceFormat::CloudEvent),
    (8, SourceFormat::BinaryCloudEvent),
    (12, SourceFormat::Rasa),
    (8, SourceFormat::BotFramework),
    (7, SourceFormat::Chatwoot),
    (5, SourceFormat::KafkaConnect),
];

const TIERS: &[(u32, &str)] = &[(80, "standard"), (20, "vip")];
const INTENTS: &[(u32, &str)] =
    &[(40, "delivery"), (30, "refund_order"), (10, "refund_fee"), (20, "other")];

const TROUBLES: &[(u32, Trouble)] = &[
    (76, Trouble::Nothing),
    (4, Trouble::LostAnswer),
    (2, Trouble::TimeOut),
    // Answered after two more attempts; after being parked twice; never.
    (4, Trouble::Code(141_002, 2)),
    (2, Trouble::Code(141_002, 9)),
    (1, Trouble::Code(141_002, 99)),
    (1, Trouble::Code(60_007, 1)),
    // Usually a fault of the whole account; here of one event, which fails alone.
    (1, Trouble::Code(70_107, 9)),
    (1, Trouble::OddAnswer),
    (3, Trouble::Slow),
    (1, Trouble::AlreadyWithAgent),
    (1, Trouble::Gone),
    (1, Trouble::Invalid),
    (2, Trouble::NotAnEscalation),
];

/// Records that nobody can read: each becomes a dead letter.
const UNREADABLE: [&[u8]; 5] = [
    b"please help me",
    b"\x00\x00\x00\x00\x07\x06s-1\x00",
    b"[{\"session_id\":\"s-1\"}]",
    b"{\"id\":\"evt-x\",\"reason\":\"asked for a person\"}",
    b"{\"session_id\":\"s-1\",\"id\":17.5}",
];

/// An escalation in so many follows another one of its session at once.
const SAME_SESSION: f64 = 0.05;
/// The part of the escalations that name a time after which nobody waits any more.
const IN_A_HURRY: f64 = 0.08;

impl EscalationStream {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed), written: 0, last: None }
    }

    /// The next record, written at `now`.
    pub(super) fn next(&mut self, now: Timestamp) -> StreamRecord {
        self.written += 1;
        let customer = match self.last.take() {
            Some(customer) if self.rng.f64() < SAME_SESSION => customer,
            _ => self.new_customer(),
        };
        let trouble = pick(&mut self.rng, TROUBLES);
        let escalation = self.escalation(&customer, trouble, now);
        let written = match trouble {
            Trouble::NotAnEscalation => WrittenRecord {
                value: json!({"type": "feedback", "session_id": customer.session, "stars": 4}),
                headers: Vec::new(),
            },
            // Only this format has a field that can be wrong in this way.
            Trouble::Invalid => SourceFormat::Native.write(&escalation),
            _ => customer.format.write(&escalation),
        };
        let record = StreamRecord {
            session: customer.session.clone(),
            value: written.value.to_string().into_bytes(),
            headers: written.headers,
            faults: trouble.faults(&customer.session),
            initial: trouble.initial(&customer.session),
        };
        self.last = Some(customer);
        record
    }

    /// A record that cannot be read, one kind after the other.
    pub(super) fn unreadable(&mut self) -> [StreamRecord; UNREADABLE.len()] {
        UNREADABLE.map(|value| StreamRecord {
            session: self.new_session(SourceFormat::Native),
            value: value.to_vec(),
            headers: Vec::new(),
            faults: Vec::new(),
            initial: None,
        })
    }

    fn new_customer(&mut self) -> Customer {
        let format = pick(&mut self.rng, FORMATS);
        Customer {
            session: self.new_session(format),
            format,
            language: pick(&mut self.rng, LANGUAGES),
            tier: pick(&mut self.rng, TIERS),
            intent: pick(&mut self.rng, INTENTS),
        }
    }

    fn new_session(&mut self, format: SourceFormat) -> String {
        if format == SourceFormat::Chatwoot {
            return self.rng.u32(100_000..).to_string();
        }
        let (high, low) = (self.rng.u64(..), self.rng.u64(..));
        let text = format!("{high:016x}{low:016x}");
        let parts = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
        parts.join("-")
    }

    fn escalation(
        &mut self,
        customer: &Customer,
        trouble: Trouble,
        now: Timestamp,
    ) -> WrittenEscalation {
        let rng = &mut self.rng;
        let mut attributes = Map::new();
        attributes.insert("lang".into(), json!(customer.language.code));
        attributes.insert("tier".into(), json!(customer.tier));
        attributes.insert("intent".into(), json!(customer.intent));
        let mut extra = Map::new();
        if rng.f64() < 0.25 {
            extra.insert("priority".into(), json!(rng.u8(0..=9)));
        }
        if rng.f64() < 0.1 {
            extra.insert("target".into(), target(rng));
        }
        if rng.f64() < IN_A_HURRY
            && let Ok(expires_at) = now.checked_add(SignedDuration::from_secs(20))
        {
            extra.insert("expires_at".into(), json!(expires_at.to_string()));
        }
        if let Trouble::Invalid = trouble {
            extra.insert("priority".into(), json!(11));
        }
        WrittenEscalation {
            id: format!("evt-{}", self.written),
            session: customer.session.clone(),
            requested_at: now,
            reason: customer.language.reason,
            attributes,
            extra,
        }
    }
}

fn target(rng: &mut Rng) -> Value {
    match rng.u8(..3) {
        0 => json!({"agents": ["anna@example.com"], "group": 2473}),
        1 => json!({"group": 2480}),
        _ => json!({"agents": ["emre@example.com"], "strict": true}),
    }
}

impl Trouble {
    fn faults(self, session: &str) -> Vec<InjectedFault> {
        let fault = match self {
            Self::LostAnswer => InjectedFault::lost_answer(),
            Self::TimeOut => InjectedFault::hang().with_effect(),
            Self::Code(code, times) => InjectedFault::error(code).times(times),
            Self::OddAnswer => InjectedFault::odd(OddForm::ByteOrderMark),
            Self::Slow => InjectedFault::slow(LatencyRange::between(600, 1_500)),
            Self::Nothing
            | Self::AlreadyWithAgent
            | Self::Gone
            | Self::Invalid
            | Self::NotAnEscalation => return Vec::new(),
        };
        vec![fault.session(session)]
    }

    fn initial(self, session: &str) -> Option<SessionChange> {
        let session_id = session.to_owned();
        match self {
            Self::AlreadyWithAgent => Some(SessionChange {
                session_id,
                state: SimulatedState::Agent,
                agent_id: Some("eve@example.com".into()),
            }),
            Self::Gone => Some(SessionChange {
                session_id,
                state: SimulatedState::NotInSession,
                agent_id: None,
            }),
            _ => None,
        }
    }
}

/// Draws an entry by its weight.
fn pick<T: Copy>(rng: &mut Rng, table: &[(u32, T)]) -> T {
    let total: u32 = table.iter().map(|(weight, _)| weight).sum();
    let mut drawn = rng.u32(..total);
    let entry = table.iter().find(|(weight, _)| {
        let is_here = drawn < *weight;
        drawn = drawn.saturating_sub(*weight);
        is_here
    });
    entry.unwrap_or(&table[0]).1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::fixture;
    use super::*;
    use crate::domain::record::{Position, Record};
    use crate::domain::wire::escalation::{Decoded, decode};

    fn now() -> Timestamp {
        "2026-11-29T10:00:00Z".parse().unwrap()
    }

    fn records(seed: u64, count: usize) -> Vec<StreamRecord> {
        let mut stream = EscalationStream::new(seed);
        (0..count).map(|_| stream.next(now())).collect()
    }

    #[test]
    fn a_seed_decides_every_record() {
        assert_eq!(records(7, 300), records(7, 300));
        assert_ne!(records(7, 300), records(8, 300));
    }

    /// By the configuration with which the demo runs the service.
    #[test]
    fn each_record_is_read_as_the_escalation_that_was_written() {
        let rules = fixture::test_config().rules;
        let (mut routes, mut rejected, mut foreign) = (BTreeMap::<String, u32>::new(), 0, 0);
        for (offset, written) in (0..).zip(records(1, 2_000)) {
            let record = Record {
                position: Position { topic: "t".into(), partition: 0, offset },
                timestamp: Some(now()),
                key: Some(written.session.clone().into_bytes()),
                value: Some(written.value.clone()),
                headers: written.headers.clone(),
            };
            let text = String::from_utf8_lossy(&written.value).into_owned();
            match decode(&record, &rules, now()) {
                Decoded::Event(event) => {
                    assert_eq!(*event.session_id, *written.session, "{text}");
                    assert!(event.id.contains("evt-") || text.contains("conversation_status"));
                    assert_eq!(event.notes, Vec::<String>::new(), "{text}");
                    match event.request {
                        Ok(request) => {
                            let tier = request.attributes.get("tier");
                            *routes.entry(tier.expect("a tier").clone()).or_default() += 1;
                        }
                        Err(_) => rejected += 1,
                    }
                }
                Decoded::NotForUs(_) => foreign += 1,
                Decoded::Malformed(malformed) => panic!("{malformed:?}: {text}"),
            }
        }
        assert!(routes["vip"] > 200 && routes["standard"] > 1_000, "{routes:?}");
        assert!(rejected > 5 && foreign > 10, "{rejected} rejected, {foreign} foreign");
    }

    #[test]
    fn unreadable_records_are_unreadable() {
        let rules = fixture::test_config().rules;
        for written in EscalationStream::new(1).unreadable() {
            let record = Record {
                position: Position { topic: "t".into(), partition: 0, offset: 0 },
                timestamp: Some(now()),
                key: Some(written.session.into_bytes()),
                value: Some(written.value),
                headers: written.headers,
            };
            let decoded = decode(&record, &rules, now());
            assert!(matches!(decoded, Decoded::Malformed(_)), "{decoded:?}");
        }
    }
}
