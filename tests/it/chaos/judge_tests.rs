//! The judge can fail: each finding from evidence that is good but for one thing.
//!
//! It never runs anything.

use handoff::sim::desk::{CallRecord, Command};

use super::judge::{Answer, AtDesk, Evidence, Fate, Findings, Kind, Letter, Sent, expected, judge};

fn sent(offset: i64, id: &str, session: &str, fate: Fate) -> Sent {
    let kind = Kind::Event { id: id.into(), session: session.into(), fate };
    Sent { place: (0, offset), kind }
}

fn answer(offset: i64, event: &str, session: &str, status: &str) -> Answer {
    Answer {
        place: (0, offset),
        event: event.into(),
        session: session.into(),
        status: status.into(),
        agent: (status == "assigned").then(|| "anna".into()),
        is_final: true,
        source: (0, offset),
        decided: jiff::Timestamp::from_second(1_000 + offset).unwrap(),
        reason: String::new(),
        bytes: format!("{event} {status} {offset}").into(),
    }
}

fn call(began: u64, command: Command, code: Option<i64>) -> CallRecord {
    CallRecord { seq: began, command, began_ns: began, ended_ns: Some(began + 5), code }
}

/// Two events of one session, a repeated id, one invalid, one too late, one malformed, one id of another session.
fn good() -> Evidence {
    let transfers = |calls: &[CallRecord]| AtDesk { acted: 1, calls: calls.to_vec() };
    let both = [
        call(10, Command::Transfer, Some(0)),
        call(20, Command::Transfer, Some(141_003)),
        call(30, Command::State, Some(0)),
    ];
    Evidence {
        sent: vec![
            sent(0, "a", "s", Fate::Asked),
            sent(1, "b", "s", Fate::Asked),
            sent(2, "b", "s", Fate::Asked),
            sent(3, "c", "invalid", Fate::Invalid),
            sent(4, "d", "late", Fate::TooLate),
            Sent { place: (0, 5), kind: Kind::Malformed },
            sent(6, "e", "mine", Fate::Asked),
            sent(7, "e", "other", Fate::Asked),
        ],
        answers: vec![
            answer(0, "a", "s", "assigned"),
            answer(1, "b", "s", "assigned"),
            answer(3, "c", "invalid", "rejected"),
            answer(4, "d", "late", "expired"),
            answer(6, "e", "mine", "assigned"),
        ],
        letters: [5, 7].map(|offset| Letter { source: (0, offset), bytes: vec![] }).into(),
        desk: [
            ("s".to_owned(), transfers(&both)),
            ("mine".to_owned(), transfers(&[call(10, Command::Transfer, Some(0))])),
        ]
        .into(),
        offsets: vec![(8, Some(8)), (0, None)],
        settle_ns: 100,
    }
}

/// The names of what is found.
fn found(findings: &Findings) -> Vec<&'static str> {
    let named = findings.named();
    named.iter().filter(|(_, found)| !found.is_empty()).map(|(name, _)| *name).collect()
}

#[track_caller]
fn check(spoil: impl FnOnce(&mut Evidence), expected: &[&str]) {
    let mut evidence = good();
    spoil(&mut evidence);
    let findings = judge(&evidence);
    assert_eq!(found(&findings), expected, "{findings:?}");
    assert_eq!(findings.is_well(false), expected.is_empty());
}

#[test]
fn good_evidence_is_good() {
    check(|_| {}, &[]);
    assert_eq!(expected(&good().sent), (5, 2));
}

#[test]
fn a_lost_outcome_and_a_lost_letter_are_found() {
    check(|e| drop(e.answers.remove(3)), &["lost"]);
    check(|e| drop(e.letters.remove(0)), &["lost"]);
    check(|e| drop(e.letters.remove(1)), &["lost"]);
    check(|e| e.answers[3].is_final = false, &["lost"]);
    check(|e| drop(e.answers.remove(4)), &["lost", "untrue", "stray", "acted again"]);
}

#[test]
fn a_second_outcome_is_repeated_doubled_or_contradictory() {
    let again = |e: &mut Evidence| {
        let place = (0, 90);
        e.answers.push(Answer { place, ..e.answers[0].clone() });
    };
    check(again, &["repeated"]);
    let bytes = |e: &mut Evidence| {
        again(e);
        e.answers.last_mut().unwrap().bytes = vec![1];
    };
    check(bytes, &["doubled"]);
    let status = |e: &mut Evidence| {
        bytes(e);
        e.answers.last_mut().unwrap().status = "failed".into();
    };
    check(status, &["contradictory"]);
    let agent = |e: &mut Evidence| {
        bytes(e);
        e.answers.last_mut().unwrap().agent = Some("ben".into());
    };
    check(agent, &["contradictory"]);
}

#[test]
fn repeats_are_explained_by_a_freeze_only() {
    let mut evidence = good();
    evidence.answers.push(evidence.answers[0].clone());
    assert!(judge(&evidence).is_well(true));
    assert!(!judge(&evidence).is_well(false));
}

#[test]
fn a_second_letter_and_one_for_a_good_record_are_found() {
    check(|e| e.letters.push(e.letters[0].clone()), &["repeated"]);
    check(|e| e.letters.push(Letter { bytes: vec![1], ..e.letters[0].clone() }), &["doubled"]);
    check(|e| e.letters.push(Letter { source: (0, 1), bytes: vec![] }), &["stray"]);
    check(|e| e.answers.push(answer(9, "x", "nobody", "expired")), &["untrue", "stray"]);
}

#[test]
fn an_outcome_that_desk_belies_is_found() {
    check(|e| e.answers[4].status = "rejected".into(), &["untrue"]);
    check(|e| e.desk.get_mut("mine").unwrap().acted = 0, &["untrue"]);
    check(|e| e.answers[2].status = "assigned".into(), &["untrue"]);
    check(|e| e.answers[3].status = "failed".into(), &["untrue"]);
    let called = |session: &str| {
        let (session, calls) =
            (session.to_owned(), vec![call(1, Command::Transfer, Some(141_005))]);
        move |e: &mut Evidence| drop(e.desk.insert(session, AtDesk { acted: 0, calls }))
    };
    check(called("late"), &["untrue"]);
    check(called("other"), &["untrue"]);
    check(|e| e.desk.get_mut("mine").unwrap().acted = 2, &["acted again"]);
}

#[test]
fn the_order_of_a_session_is_watched() {
    let decided = |e: &mut Evidence| e.answers[0].decided = e.answers[4].decided;
    check(decided, &["misordered"]);
    check(|e| e.answers[0].place = (0, 80), &["overtaken"]);
    check(|e| e.answers[0].place = (1, 0), &["overtaken"]);
    let too_late = |e: &mut Evidence| {
        decided(e);
        e.answers[1].status = "expired".into();
    };
    check(too_late, &[]);
}

#[test]
fn calls_together_and_calls_in_doubt_are_found() {
    let calls = |calls: &[CallRecord]| {
        let calls = calls.to_vec();
        move |e: &mut Evidence| e.desk.get_mut("mine").unwrap().calls = calls
    };
    let transfer = |began, code| call(began, Command::Transfer, code);
    let state = |began, code| call(began, Command::State, code);
    check(calls(&[transfer(10, Some(60_014)), transfer(14, Some(0))]), &["overlapping"]);
    check(calls(&[transfer(10, None), transfer(20, Some(0))]), &["unasked"]);
    check(calls(&[transfer(10, Some(141_002)), transfer(20, Some(0))]), &["unasked"]);
    let unanswered = [transfer(10, None), state(20, None), transfer(30, Some(0))];
    check(calls(&unanswered), &["unasked"]);
    let asked = [transfer(10, None), state(20, Some(0)), transfer(30, Some(0))];
    check(calls(&asked), &[]);
    // One that nobody answers is over for Desk when its time is up.
    let hung = CallRecord { ended_ns: None, ..transfer(10, None) };
    check(calls(&[hung, state(110, Some(0))]), &[]);
    check(calls(&[hung, state(109, Some(0))]), &["overlapping"]);
}

#[test]
fn an_offset_that_is_not_committed_is_found() {
    check(|e| e.offsets[0].1 = Some(7), &["uncommitted"]);
    check(|e| e.offsets[0].1 = None, &["uncommitted"]);
}
