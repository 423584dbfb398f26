//! What is counted, and for how long.

use std::time::Duration;

use super::*;
use crate::domain::event::{Event, MalformedClass, TransferRequest};
use crate::domain::target::Target;
use crate::domain::wire::outcome::Tried;

fn now() -> Timestamp {
    "2026-11-30T03:00:00Z".parse().unwrap()
}

fn activity() -> Arc<Activity> {
    Activity::new(Clock::from_fn(now))
}

fn event() -> Event {
    Event {
        id: "e".into(),
        session_id: "s".into(),
        source: Position { topic: "t".into(), partition: 1, offset: 2 },
        requested_at: now(),
        deadline: now() + Duration::from_secs(600),
        trace: vec![],
        request: Ok(TransferRequest::default()),
        notes: vec![],
        correlation: crate::domain::event::Correlation::default(),
    }
}

fn outcome(status: Status, route: &str, elapsed_ms: u64) -> Outcome {
    let route = Some(route.to_owned());
    Outcome { elapsed_ms, route, ..Outcome::new(&event(), status, now()) }
}

#[tokio::test(start_paused = true)]
async fn the_last_hour_is_counted_by_status_and_route() {
    let activity = activity();
    activity.answered(&outcome(Status::Assigned, "vip", 10));
    let tried = Tried { target: Target::Default, code: None };
    let second = Outcome { tried: vec![tried], ..outcome(Status::Queued, "vip", 1_000) };
    activity.answered(&second);
    tokio::time::advance(Duration::from_secs(15 * 60)).await;
    activity.answered(&outcome(Status::Failed, "night", 20));
    activity.answered_earlier("expired");
    let malformed = Malformed { class: MalformedClass::NotJson, error: "why".into() };
    activity.dead_letter(&event().source, &malformed);
    let totals = activity.totals(2);
    let of = |status| totals.hour.of(status);
    assert_eq!([Status::Assigned, Status::Queued, Status::Failed, Status::Expired].map(of), [1; 4]);
    assert_eq!((totals.ten_minutes.all(), totals.hour.dead_letters), (2, 1));
    assert_eq!(totals.decided_in_ms, [Some(20), Some(1_023), Some(1_023)]);
    let statuses: Vec<_> = totals.outcomes.iter().map(|outcome| outcome.status).collect();
    assert_eq!(statuses, [Status::Failed, Status::Queued], "the newest two");
    let routes = activity.routes();
    let vip = routes.iter().find(|route| route.name.as_deref() == Some("vip")).unwrap();
    assert_eq!((vip.counts.all(), vip.counts.first_target), (2, 1));
    assert_eq!(vip.trend[8..], [2, 0, 0, 0]);
    tokio::time::advance(Duration::from_secs(46 * 60)).await;
    assert_eq!(activity.totals(0).hour.all(), 2, "those of the first minute are too old");
}

#[tokio::test(start_paused = true)]
async fn calls_are_counted_per_second_and_the_charts_have_complete_points() {
    let activity = activity();
    for number in 0..20 {
        let verdict = if number % 4 == 0 { "throttled" } else { "assigned" };
        activity.called(DeskCommand::TransferToHuman, verdict, Duration::from_millis(100));
        activity.called(DeskCommand::GetSessionState, verdict, Duration::from_millis(100));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let totals = activity.totals(0);
    assert_eq!(totals.calls_per_second, 1.0);
    assert_eq!(totals.throttled_percent, Some(25.0));
    assert_eq!(totals.call_ms, [Some(103), Some(103)]);
    let history = activity.history();
    assert_eq!((history.calls, history.answered), (vec![20, 20], vec![0, 0]));
    assert_eq!(history.until, now() + Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn the_charts_have_the_number_of_unfinished_events() {
    let activity = activity();
    let _sampling = crate::task::spawn_owned(activity.clone().sample(|| 7));
    tokio::time::sleep(Duration::from_secs(21)).await;
    assert_eq!(activity.history().unfinished, [7, 7]);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(activity.history().unfinished, [7; 180], "half an hour is kept");
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded() {
    let activity = activity();
    for number in 0..600_u32 {
        activity.answered(&outcome(Status::Assigned, &number.to_string(), 1));
        let malformed = Malformed { class: MalformedClass::NotJson, error: number.to_string() };
        activity.dead_letter(&event().source, &malformed);
    }
    let totals = activity.totals(usize::MAX);
    assert_eq!((totals.outcomes.len(), totals.dead_letters.len()), (500, 50));
    assert_eq!(totals.dead_letters[0].error, "599");
    assert_eq!(activity.routes().len(), 200);
    assert_eq!(totals.hour.all(), 600);
}

#[test]
fn an_event_is_open_until_its_entry_is_dropped() {
    let activity = activity();
    let (first, second) = (
        activity.unfinished_events().add(&event(), now()),
        activity.unfinished_events().add(&event(), now()),
    );
    first.enter(DeliveryPhase::Publishing);
    assert_eq!(activity.unfinished_events().all().len(), 2);
    drop(first);
    let left = activity.unfinished_events().all();
    assert_eq!((left.len(), left[0].state().phase), (1, DeliveryPhase::Queued));
    drop(second);
    assert!(activity.unfinished_events().all().is_empty());
}

#[test]
fn a_pause_of_the_intake_is_noted_once() {
    let activity = activity();
    let pause = |by: &str| Some(IntakePause { at: now(), by: by.into() });
    assert!(activity.pause_intake(pause("ann")));
    assert!(!activity.pause_intake(pause("ben")));
    assert!(activity.intake_is_paused());
    assert_eq!(activity.intake_pause(), pause("ann"));
    assert!(activity.pause_intake(None));
    assert!(!activity.pause_intake(None));
    assert!(!activity.intake_is_paused());
}
