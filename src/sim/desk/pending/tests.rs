//! Which fault a call gets, and how schedules are written. No test here opens a socket.

use serde_json::json;

use super::*;
use crate::sim::desk::schedule::InjectedAnswer;

fn context(session: &str, transfers: u64) -> CallContext<'_> {
    CallContext { session, command: ApiCommand::Transfer, transfers, now: Instant::now() }
}

fn codes(faults: &PendingFaults, session: &str, calls: usize) -> Vec<Option<i64>> {
    let mut rng = Rng::with_seed(1);
    let code = |fault: InjectedFault| match fault.answer {
        InjectedAnswer::Error { code, .. } => code,
        other => panic!("{other:?} was not injected"),
    };
    (0..calls).map(|_| faults.take(&context(session, 0), &mut rng).0.map(code)).collect()
}

#[test]
fn faults_of_a_session_are_used_before_those_for_any_session() {
    let faults = PendingFaults::new();
    let list = vec![
        InjectedFault::error(1),
        InjectedFault::error(2).times(2).session("s"),
        InjectedFault::error(3).session("s"),
    ];
    faults.add(&FaultSchedule { faults: list, ..FaultSchedule::default() }, &context("", 0));
    assert_eq!(codes(&faults, "s", 5), [Some(2), Some(2), Some(3), Some(1), None]);
    assert!(faults.is_empty.load(Relaxed));
}

#[test]
fn a_permanent_fault_stays_and_does_not_apply_to_other_commands() {
    let faults = PendingFaults::new();
    faults.add(&InjectedFault::error(9).times(0).into(), &context("", 0));
    assert_eq!(codes(&faults, "s", 3), [Some(9); 3]);
    let state_query = CallContext { command: ApiCommand::State, ..context("s", 0) };
    assert_eq!(faults.take(&state_query, &mut Rng::with_seed(1)).0, None);
}

#[test]
fn chance_is_the_share_of_calls_that_a_fault_applies_to() {
    let faults = PendingFaults::new();
    faults.add(&InjectedFault::error(9).times(0).chance(0.25).into(), &context("", 0));
    let hit = codes(&faults, "s", 10_000).into_iter().flatten().count();
    assert!((2_300..2_700).contains(&hit), "{hit}");
}

#[tokio::test(start_paused = true)]
async fn staff_changes_are_due_after_calls_or_after_a_time() {
    let faults = PendingFaults::new();
    let by_call =
        ScheduledStaffChange { after_transfers: Some(2), ..ScheduledStaffChange::default() };
    let by_time = ScheduledStaffChange { after_ms: Some(50), ..ScheduledStaffChange::default() };
    let schedule =
        FaultSchedule { staff_changes: vec![by_call, by_time], ..FaultSchedule::default() };
    faults.add(&schedule, &context("", 10));
    let due = |transfers| faults.take(&context("s", transfers), &mut Rng::with_seed(1)).1.len();
    assert_eq!((due(11), due(12)), (0, 0));
    assert_eq!(due(13), 1);
    tokio::time::advance(Duration::from_millis(50)).await;
    assert_eq!((due(14), due(15)), (1, 0));
}

#[test]
fn a_schedule_is_plain_json() {
    let schedule: FaultSchedule = serde_json::from_value(json!({
        "faults": [
            {"answer": "close", "takes_effect": true},
            {"session": "s", "commands": ["transfer", "state"], "times": 3,
             "answer": {"error": {"code": 60007}}, "delay": {"min_ms": 5}},
            {"answer": {"status": {"status": 429, "retry_after": "2"}}, "times": 0, "chance": 0.1},
            {"answer": {"body": {"text": "<html>"}}},
        ],
        "staff_changes": [{"after_ms": 10, "change": {"updates": [{"online": false}]}}],
        "limit_per_second": 200,
    }))
    .unwrap();
    assert_eq!(schedule.faults[0], InjectedFault::lost_answer());
    assert_eq!(schedule.faults[3], InjectedFault::garbage("<html>"));
    assert_eq!(schedule.staff_changes[0].change, StaffChange::everyone(false));
    let again = serde_json::to_value(&schedule).unwrap();
    assert_eq!(serde_json::from_value::<FaultSchedule>(again).unwrap(), schedule);
}

#[test]
fn a_part_that_changes_nothing_is_an_error() {
    let check = |schedule: serde_json::Value, expected: &str| {
        let error = FaultSchedule::parse(schedule.to_string().as_bytes()).err();
        assert_eq!(error.map(|e| format!("{e:#}")).unwrap_or_default(), expected, "{schedule}");
    };
    check(json!({}), "the schedule is empty");
    check(json!({"faults": []}), "the schedule is empty");
    check(json!({"faults": [{}]}), "fault 1: it changes nothing: give it an answer or a delay");
    let to_no_call = "fault 2: commands is empty, so it applies to no call";
    check(json!({"faults": [{"answer": "hang"}, {"answer": "hang", "commands": []}]}), to_no_call);
    let to_no_call = "fault 1: session is empty, so it applies to no call";
    check(json!({"faults": [{"answer": "hang", "session": ""}]}), to_no_call);
    let unconditional = "staff change 1: it has no condition: give after_transfers or after_ms";
    check(json!({"staff_changes": [{"change": {"agents": []}}]}), unconditional);
    let no_change = "staff change 1: it changes nothing: give agents or updates";
    check(json!({"staff_changes": [{"after_ms": 1}]}), no_change);
    let no_change = "staff change 1: an update changes nothing: give online, busy or capacity";
    check(json!({"staff_changes": [{"after_ms": 1, "change": {"updates": [{}]}}]}), no_change);
    check(json!({"faults": [{"delay": {"min_ms": 1}}]}), "");
    check(json!({"limit_per_second": 0}), "");
}

#[test]
fn an_unknown_field_is_an_error() {
    for wrong in [
        json!({"fault": []}),
        json!({"faults": [{"sesion": "s"}]}),
        json!({"faults": [{"answer": {"error": {"code": 1, "inf": ""}}}]}),
        json!({"faults": [{"answer": "explode"}]}),
        json!({"faults": [{"delay": {"ms": 1}}]}),
        json!({"staff_changes": [{"change": {"updtes": []}}]}),
    ] {
        assert!(serde_json::from_value::<FaultSchedule>(wrong.clone()).is_err(), "{wrong}");
    }
}
