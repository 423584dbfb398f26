//! The checker detects each kind of finding: evidence without a finding is changed in one place.

use handoff::sim::desk::{ApiCommand, CallRecord};
use jiff::Timestamp;

use super::checker::{
    DeskSession, Evidence, ExpectedCounts, ExpectedResult, Findings, ObservedDeadLetter,
    ObservedOutcome, RecordKind, RecordPosition, SentRecord, check as run_checker, expected_counts,
};
use super::duty::TopicLife;
use super::freshness::{Disturbance, freshness};

pub(super) fn sent(offset: i64, id: &str, session: &str, expected: ExpectedResult) -> SentRecord {
    let kind = RecordKind::Event { id: id.into(), session: session.into(), expected };
    SentRecord {
        topic: 0,
        position: RecordPosition(0, offset),
        kind,
        arrived: at(offset),
        is_in_pile: false,
    }
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000 + second).unwrap()
}

fn outcome(offset: i64, event: &str, session: &str, status: &str) -> ObservedOutcome {
    ObservedOutcome {
        position: RecordPosition(0, offset),
        event: event.into(),
        session: session.into(),
        status: status.into(),
        agent: (status == "assigned").then(|| "anna".into()),
        is_final: true,
        source: RecordPosition(0, offset),
        decided: at(offset),
        published: at(offset + 5),
        reason: String::new(),
        bytes: format!("{event} {status} {offset}").into(),
    }
}

pub(super) fn dead_letter(offset: i64) -> ObservedDeadLetter {
    let source = RecordPosition(0, offset);
    ObservedDeadLetter { source, source_arrived: at(offset), bytes: vec![] }
}

pub(super) fn call(began: u64, command: ApiCommand, code: Option<i64>) -> CallRecord {
    CallRecord { seq: began, command, began_ns: began, ended_ns: Some(began + 5), code }
}

/// Two events of one session, a repeated id, an invalid, an expired and a malformed record, and an id
/// reused for another session.
fn without_findings() -> Evidence {
    let transfers = |calls: &[CallRecord]| DeskSession { transfers: 1, calls: calls.to_vec() };
    let both = [
        call(10, ApiCommand::Transfer, Some(0)),
        call(20, ApiCommand::Transfer, Some(141_003)),
        call(30, ApiCommand::State, Some(0)),
    ];
    Evidence {
        sent: vec![
            sent(0, "a", "s", ExpectedResult::FromDesk),
            sent(1, "b", "s", ExpectedResult::FromDesk),
            sent(2, "b", "s", ExpectedResult::FromDesk),
            sent(3, "c", "invalid", ExpectedResult::Rejected),
            sent(4, "d", "late", ExpectedResult::Expired),
            SentRecord { kind: RecordKind::Malformed, ..sent(5, "", "", ExpectedResult::FromDesk) },
            sent(6, "e", "mine", ExpectedResult::FromDesk),
            sent(7, "e", "other", ExpectedResult::FromDesk),
        ],
        outcomes: vec![
            outcome(0, "a", "s", "assigned"),
            outcome(1, "b", "s", "assigned"),
            outcome(3, "c", "invalid", "rejected"),
            outcome(4, "d", "late", "expired"),
            outcome(6, "e", "mine", "assigned"),
        ],
        dead_letters: [dead_letter(5), dead_letter(7)].into(),
        input: "in".into(),
        topics: vec![TopicLife::default()],
        claimed: ["a", "b", "c", "d", "e"].map(|id| format!("id:{id}")).into(),
        desk: [
            ("s".to_owned(), transfers(&both)),
            ("mine".to_owned(), transfers(&[call(10, ApiCommand::Transfer, Some(0))])),
        ]
        .into(),
        offsets: vec![(8, Some(8)), (0, None)],
        settle_ns: 100,
        disturbances: vec![],
    }
}

/// The names of the kinds with findings.
fn found(findings: &Findings) -> Vec<&'static str> {
    let named = findings.named();
    named.iter().filter(|(_, found)| !found.is_empty()).map(|(name, _)| *name).collect()
}

#[track_caller]
pub(super) fn check(change: impl FnOnce(&mut Evidence), expected: &[&str]) {
    let mut evidence = without_findings();
    change(&mut evidence);
    let findings = run_checker(&evidence);
    assert_eq!(found(&findings), expected, "{findings:?}");
    assert_eq!(findings.are_acceptable(0), expected.is_empty());
}

#[test]
fn consistent_evidence_has_no_findings() {
    check(|_| {}, &[]);
    assert_eq!(
        expected_counts(&without_findings().sent),
        ExpectedCounts { outcomes: 5, dead_letters: 2 }
    );
}

#[test]
fn a_missing_outcome_or_dead_letter_is_lost() {
    check(|e| drop(e.outcomes.remove(3)), &["lost"]);
    check(|e| drop(e.dead_letters.remove(0)), &["lost"]);
    check(|e| drop(e.dead_letters.remove(1)), &["lost"]);
    check(|e| e.outcomes[3].is_final = false, &["lost"]);
    check(|e| drop(e.outcomes.remove(4)), &["lost", "untrue", "unexpected", "transferred again"]);
}

#[test]
fn a_second_outcome_is_repeated_duplicate_or_contradictory() {
    let again = |e: &mut Evidence| {
        let position = RecordPosition(0, 90);
        e.outcomes.push(ObservedOutcome { position, ..e.outcomes[0].clone() });
    };
    check(again, &["repeated"]);
    let bytes = |e: &mut Evidence| {
        again(e);
        e.outcomes.last_mut().unwrap().bytes = vec![1];
    };
    check(bytes, &["duplicate"]);
    let status = |e: &mut Evidence| {
        bytes(e);
        e.outcomes.last_mut().unwrap().status = "failed".into();
    };
    check(status, &["contradictory"]);
    let agent = |e: &mut Evidence| {
        bytes(e);
        e.outcomes.last_mut().unwrap().agent = Some("ben".into());
    };
    check(agent, &["contradictory"]);
}

#[test]
fn repeats_and_a_call_too_many_are_acceptable_only_after_a_pause() {
    let mut evidence = without_findings();
    evidence.outcomes.push(evidence.outcomes[0].clone());
    assert!(run_checker(&evidence).are_acceptable(1));
    assert!(!run_checker(&evidence).are_acceptable(0));
    let mut evidence = without_findings();
    let call = |began, code| call(began, ApiCommand::Transfer, code);
    let calls = vec![call(10, None), call(20, Some(141_003)), call(24, Some(141_003))];
    evidence.desk.get_mut("mine").unwrap().calls = calls;
    let findings = run_checker(&evidence);
    assert_eq!(found(&findings), ["overlapping", "called in doubt"]);
    assert!(findings.are_acceptable(findings.overlapping.len() + findings.called_in_doubt.len()));
    assert!(!findings.are_acceptable(1));
}

#[test]
fn a_second_dead_letter_and_one_for_a_valid_record_are_found() {
    check(|e| e.dead_letters.push(e.dead_letters[0].clone()), &["repeated"]);
    check(
        |e| e.dead_letters.push(ObservedDeadLetter { bytes: vec![1], ..e.dead_letters[0].clone() }),
        &["duplicate"],
    );
    check(|e| e.dead_letters.push(dead_letter(1)), &["unexpected"]);
    check(|e| e.outcomes.push(outcome(9, "x", "nobody", "expired")), &["untrue", "unexpected"]);
}

#[test]
fn an_outcome_that_contradicts_desk_is_untrue() {
    check(|e| e.outcomes[4].status = "rejected".into(), &["untrue"]);
    check(|e| e.desk.get_mut("mine").unwrap().transfers = 0, &["untrue"]);
    check(|e| e.outcomes[2].status = "assigned".into(), &["untrue"]);
    check(|e| e.outcomes[3].status = "failed".into(), &["untrue"]);
    let called = |session: &str| {
        let (session, calls) =
            (session.to_owned(), vec![call(1, ApiCommand::Transfer, Some(141_005))]);
        move |e: &mut Evidence| drop(e.desk.insert(session, DeskSession { transfers: 0, calls }))
    };
    check(called("late"), &["untrue"]);
    check(called("other"), &["untrue"]);
    check(|e| e.desk.get_mut("mine").unwrap().transfers = 2, &["transferred again"]);
}

#[test]
fn outcomes_out_of_session_order_are_found() {
    let decided = |e: &mut Evidence| e.outcomes[0].decided = e.outcomes[4].decided;
    check(decided, &["decided out of order"]);
    check(|e| e.outcomes[0].position = RecordPosition(0, 80), &["published out of order"]);
    check(|e| e.outcomes[0].position = RecordPosition(1, 0), &["published out of order"]);
    let too_late = |e: &mut Evidence| {
        decided(e);
        e.outcomes[1].status = "expired".into();
    };
    check(too_late, &[]);
}

#[test]
fn overlapping_calls_and_transfers_in_doubt_are_found() {
    let calls = |calls: &[CallRecord]| {
        let calls = calls.to_vec();
        move |e: &mut Evidence| e.desk.get_mut("mine").unwrap().calls = calls
    };
    let transfer = |began, code| call(began, ApiCommand::Transfer, code);
    let state = |began, code| call(began, ApiCommand::State, code);
    check(calls(&[transfer(10, Some(60_014)), transfer(14, Some(0))]), &["overlapping"]);
    check(calls(&[transfer(10, None), transfer(20, Some(0))]), &["called in doubt"]);
    check(calls(&[transfer(10, Some(141_002)), transfer(20, Some(0))]), &["called in doubt"]);
    let unanswered = [transfer(10, None), state(20, None), transfer(30, Some(0))];
    check(calls(&unanswered), &["called in doubt"]);
    let asked = [transfer(10, None), state(20, Some(0)), transfer(30, Some(0))];
    check(calls(&asked), &[]);
    // Desk executes a call without an answer for `settle_ns` at most.
    let hung = CallRecord { ended_ns: None, ..transfer(10, None) };
    check(calls(&[hung, state(110, Some(0))]), &[]);
    check(calls(&[hung, state(109, Some(0))]), &["overlapping"]);
}

#[test]
fn a_partition_not_committed_to_its_end_is_found() {
    check(|e| e.offsets[0].1 = Some(7), &["uncommitted"]);
    check(|e| e.offsets[0].1 = None, &["uncommitted"]);
}

#[test]
fn an_event_that_desk_always_refuses_must_fail_without_effect() {
    let refused = |e: &mut Evidence| {
        e.sent[6] = sent(6, "e", "mine", ExpectedResult::Failed);
        e.sent[7] = sent(7, "e", "other", ExpectedResult::Failed);
        e.outcomes[4] = outcome(6, "e", "mine", "failed");
        let desk = e.desk.get_mut("mine").unwrap();
        desk.transfers = 0;
        desk.calls[0].code = Some(70_107);
    };
    check(refused, &[]);
    let expired = |e: &mut Evidence| {
        refused(e);
        e.outcomes[4].status = "expired".into();
    };
    check(expired, &["untrue"]);
    let transferred = |e: &mut Evidence| {
        refused(e);
        e.desk.get_mut("mine").unwrap().transfers = 1;
    };
    check(transferred, &["untrue"]);
}

#[test]
fn an_event_that_waits_without_a_reason_is_late() {
    let late = |e: &mut Evidence| e.outcomes[4].published = at(12);
    check(late, &["late"]);
    let explained = |change: fn(&mut Evidence)| {
        move |e: &mut Evidence| {
            late(e);
            change(e);
        }
    };
    check(explained(|e| e.sent[6].is_in_pile = true), &[]);
    // Arrived at 6: a disturbance within the next five seconds can explain the wait.
    let disturbed = |from, until| {
        move |e: &mut Evidence| {
            late(e);
            e.disturbances.push(Disturbance { from: at(from), until: at(until) });
        }
    };
    check(disturbed(11, 13), &[]);
    check(disturbed(0, 6), &[]);
    check(disturbed(0, 5), &["late"]);
    check(disturbed(12, 13), &["late"]);
    // It waited for an event ahead of it that arrived in a disturbance, but not for one elsewhere.
    let behind = |partition, answered| {
        move |e: &mut Evidence| {
            e.outcomes[4].published = at(33);
            e.sent[0].position = RecordPosition(partition, 0);
            e.outcomes[0].source = RecordPosition(partition, 0);
            e.outcomes[0].published = at(answered);
            e.disturbances.push(Disturbance { from: at(0), until: at(0) });
        }
    };
    check(behind(0, 28), &[]);
    check(behind(0, 27), &["late"]);
    check(behind(1, 28), &["decided out of order", "published out of order", "late"]);
    // Desk did not answer a call of this session.
    let refused = |e: &mut Evidence| {
        let desk = e.desk.get_mut("mine").unwrap();
        desk.calls.insert(0, call(1, ApiCommand::Transfer, Some(60_014)));
    };
    check(explained(refused), &[]);
    // The first copy of an answer counts.
    let again = |e: &mut Evidence| {
        let copy = ObservedOutcome { published: at(40), ..e.outcomes[4].clone() };
        e.outcomes.push(ObservedOutcome { position: RecordPosition(0, 90), ..copy });
    };
    check(again, &["repeated"]);
}

#[test]
fn only_answers_decided_by_desk_are_judged_as_fresh() {
    let freshness = freshness(&without_findings());
    let ids: Vec<_> = freshness.judged.iter().map(|(_, id)| id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "e"], "neither the invalid nor the expired, nor the repeats");
    assert_eq!((freshness.explained, freshness.quantile(1.0).as_secs()), (0, 5));
}
