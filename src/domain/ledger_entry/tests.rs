//! What a claim returns, which owner may change an entry, and how long a history gets.

use proptest::prelude::*;

use super::super::wire::Channel;
use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn position(offset: i64) -> Position {
    Position { topic: "t".into(), partition: 1, offset }
}

fn claim(session: Option<&str>, offset: i64) -> Claim {
    let (session_id, source) = (session.map(Into::into), position(offset));
    Claim {
        key: "k".into(),
        session_id,
        source,
        recorded_at: None,
        first_seen: at(0),
        deadline: None,
        at: at(1),
        origin: RecordOrigin::Kafka,
        expected_version: None,
    }
}

fn answer(text: &str) -> Arc<Message> {
    let value = Some(text.as_bytes().to_vec());
    Message { channel: Channel::Outcomes, key: None, value, headers: vec![] }.into()
}

fn command(number: u8, second: i64) -> LedgerCommand {
    match number {
        0 => LedgerCommand::Claim(Box::new(Claim { at: at(second), ..claim(Some("s"), 1) })),
        1 => LedgerCommand::Claim(Box::new(claim(Some("s"), 2))),
        2 => LedgerCommand::Claim(Box::new(claim(Some("other"), 1))),
        3 => {
            let (snapshot, note) = ("{}".into(), "n".into());
            let position = position(1);
            let (key, value) = (None, None);
            let record = Some(Record { position, timestamp: None, key, value, headers: vec![] });
            let waits_for = WaitsFor::Time;
            LedgerCommand::Park(Park { until: at(second + 9), waits_for, snapshot, note, record })
        }
        6 => {
            let (at, origin) = (at(second), RecordOrigin::Ledger);
            LedgerCommand::Claim(Box::new(Claim { at, origin, ..claim(Some("s"), 1) }))
        }
        7 => {
            let LedgerCommand::Park(park) = command(3, second) else { unreachable!() };
            LedgerCommand::Park(Park { waits_for: WaitsFor::Session, ..park })
        }
        8 => {
            let LedgerCommand::Park(park) = command(3, second) else { unreachable!() };
            let waits_for = WaitsFor::Redelivery;
            LedgerCommand::Park(Park { waits_for, record: None, ..park })
        }
        4 => {
            let answer = answer(&second.to_string());
            LedgerCommand::Settle(Settle { answer, at: at(second), wake: None })
        }
        _ => LedgerCommand::Publish { position: Some(position(second)) },
    }
}

/// Applies commands, given as numbers with their owners; returns the entry and the last result.
fn after(commands: &[(u8, &str)]) -> (Option<LedgerEntry>, CommandResult) {
    let mut entry = None;
    let mut last = CommandResult::Write(WriteResult::Refused);
    for (second, (number, owner)) in (0..).zip(commands) {
        let owner: Arc<str> = (*owner).into();
        let actor = Actor { owner: &owner, now: at(second) };
        let applied = apply(entry.clone(), &command(*number, second), actor);
        entry = applied.next.or(entry);
        last = applied.result;
    }
    (entry, last)
}

fn last_result(commands: &[(u8, &str)]) -> String {
    match after(commands).1 {
        CommandResult::Write(result) => result.is_done().to_string(),
        CommandResult::Claim(ClaimResult::Resumed(PriorClaim { parked_until: None, .. })) => {
            "open".into()
        }
        CommandResult::Claim(ClaimResult::Resumed(_)) => "parked".into(),
        CommandResult::Claim(ClaimResult::Settled { published, answer, .. }) => {
            let text = std::str::from_utf8(answer.value.as_deref().unwrap()).unwrap();
            format!("settled {published} {text}")
        }
        CommandResult::Claim(ClaimResult::Duplicate { first, answered_at }) => {
            format!("duplicate of {first}, answered {}", answered_at.is_some())
        }
        CommandResult::Claim(other) => format!("{other:?}").to_lowercase(),
    }
}

#[test]
fn a_claim_returns_the_state_of_the_entry() {
    let (claim, other_record, other_session) = ((0, "a"), (1, "a"), (2, "a"));
    let (park, settle, publish) = ((3, "a"), (4, "a"), (5, "a"));
    let conflict = "conflict { session_id: some(\"s\") }";
    assert_eq!(last_result(&[claim]), "fresh");
    assert_eq!(last_result(&[claim, claim]), "open");
    assert_eq!(last_result(&[claim, (0, "b")]), "open");
    let (from_ledger, behind) = ((6, "a"), (7, "a"));
    assert_eq!(
        last_result(&[claim, park, claim]),
        "parked { until: 2027-01-15t08:00:10z, waits_for: time }"
    );
    assert_eq!(last_result(&[claim, park, from_ledger]), "parked");
    assert_eq!(last_result(&[claim, park, from_ledger, claim]), "open");
    let waits_for_session = "parked { until: 2027-01-15t08:00:10z, waits_for: session }";
    assert_eq!(last_result(&[claim, behind, claim]), waits_for_session);
    assert_eq!(last_result(&[claim, settle, claim]), "settled false 1");
    assert_eq!(last_result(&[claim, settle, publish, claim]), "settled true 1");
    assert_eq!(last_result(&[claim, other_record]), "duplicate of t/1/1, answered false");
    assert_eq!(last_result(&[claim, park, other_record]), "duplicate of t/1/1, answered false");
    let answered = "duplicate of t/1/1, answered true";
    assert_eq!(last_result(&[claim, settle, other_record]), answered);
    assert_eq!(last_result(&[claim, settle, publish, other_record]), answered);
    assert_eq!(last_result(&[claim, other_session]), conflict);
    assert_eq!(last_result(&[claim, settle, publish, other_session]), conflict);
}

#[test]
fn an_event_that_came_from_the_ledger_stays_there() {
    let state = |commands: &[(u8, &str)]| after(commands).0.unwrap().state;
    let from_ledger = EntryState::Open { origin: RecordOrigin::Ledger };
    let claimed = [(0, "a"), (3, "a"), (6, "b")];
    assert_eq!(state(&claimed), from_ledger);
    let by_zombie = [(0, "a"), (3, "a"), (6, "b"), (0, "a")];
    assert_eq!(state(&by_zombie), from_ledger, "its offset may be committed");
    let released = [(0, "a"), (3, "a"), (6, "b"), (0, "a"), (8, "a")];
    assert!(matches!(state(&released), EntryState::Parked { waits_for: WaitsFor::Time, .. }));
    let redelivered = [(0, "a"), (8, "a")];
    let waits_for_kafka = EntryState::Parked { until: at(10), waits_for: WaitsFor::Redelivery };
    assert_eq!(state(&redelivered), waits_for_kafka);
}

#[test]
fn only_the_last_claimant_changes_an_unsettled_entry() {
    assert_eq!(last_result(&[(3, "a")]), "false", "nothing was claimed");
    assert_eq!(last_result(&[(4, "a")]), "false");
    assert_eq!(last_result(&[(5, "a")]), "false");
    assert_eq!(last_result(&[(0, "a"), (0, "b"), (3, "a")]), "false", "taken over");
    assert_eq!(last_result(&[(0, "a"), (0, "b"), (4, "a")]), "false");
    assert_eq!(
        last_result(&[(0, "a"), (1, "b"), (4, "a")]),
        "true",
        "a duplicate takes nothing over"
    );
    assert_eq!(last_result(&[(0, "a"), (2, "b"), (4, "a")]), "true", "nor does a conflict");
    assert_eq!(last_result(&[(0, "a"), (4, "a"), (4, "a")]), "false", "the first answer stays");
    assert_eq!(last_result(&[(0, "a"), (4, "a"), (3, "a")]), "false");
    assert_eq!(
        last_result(&[(0, "a"), (3, "a"), (4, "a")]),
        "true",
        "parked and past its deadline"
    );
    assert_eq!(last_result(&[(0, "a"), (5, "a")]), "false", "no answer, nothing published");
    assert_eq!(last_result(&[(0, "a"), (4, "a"), (5, "b")]), "true", "a fact anybody may note");
    assert_eq!(last_result(&[(0, "a"), (4, "a"), (5, "a"), (5, "a")]), "false", "once");
}

#[test]
fn a_long_history_keeps_its_beginning_and_its_end() {
    let many: Vec<_> = std::iter::repeat_n([(6, "a"), (3, "a")], 100).flatten().collect();
    let entry = after(&many).0.unwrap();
    let seconds: Vec<_> =
        entry.history.iter().map(|step| step.at.duration_since(at(0)).as_secs()).collect();
    let expected: Vec<_> = (0..8).chain(176..200).collect();
    assert_eq!(seconds, expected);
    assert_eq!(entry.version, 200);
}

proptest! {
    #[test]
    fn a_stored_answer_never_changes(
        commands in prop::collection::vec((0u8..8, prop::sample::select(vec!["a", "b"])), 0..40)
    ) {
        let mut answer = None;
        for length in 0..=commands.len() {
            let Some(entry) = after(&commands[..length]).0 else { continue };
            if answer.is_some() {
                prop_assert_eq!(&answer, &entry.answer);
            }
            let settled = matches!(entry.state, EntryState::Settled { .. } | EntryState::Published { .. });
            prop_assert_eq!(settled, entry.answer.is_some());
            // An offset may be committed only when the record is stored.
            let parked = entry.history.iter().any(|step| step.kind == HistoryKind::Parked);
            let published = matches!(entry.state, EntryState::Published { .. });
            prop_assert_eq!(entry.record.is_some(), parked && !published);
            answer = entry.answer;
        }
    }
}
