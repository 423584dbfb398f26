//! Who is next, who must park, and whose answer wakes parked events.

use futures_util::FutureExt as _;

use super::QueuePosition::{Head, MustPark, Next, Queued};
use super::*;
use crate::domain::ledger_entry::WakeSession;

fn enqueue(queues: &SessionQueues, session: &str) -> Turn {
    let offset = queues.0.lock().last_ticket as i64;
    enqueue_at(queues, session, offset)
}

fn enqueue_at(queues: &SessionQueues, session: &str, offset: i64) -> Turn {
    let source = Position { topic: "t".into(), partition: 0, offset };
    queues.enqueue(&session.into(), &arrival(&source))
}

fn arrival(source: &Position) -> SessionArrival<'_> {
    let (requested_at, origin) = (Timestamp::UNIX_EPOCH, RecordOrigin::Kafka);
    SessionArrival { requested_at, source, origin, is_stored: false }
}

#[test]
fn a_stored_answer_is_ahead_of_those_behind_it_from_the_moment_it_joins() {
    let queues = queues(32, 32);
    let behind = enqueue_at(&queues, "a", 2);
    behind.set_stored(true);
    let source = Position { topic: "t".into(), partition: 0, offset: 1 };
    let joined = SessionArrival { is_stored: true, ..arrival(&source) };
    let ahead = queues.enqueue(&"a".into(), &joined);
    assert_eq!(behind.follows_stored().now_or_never(), None);
    ahead.leave();
    assert_eq!(behind.follows_stored().now_or_never(), Some(()));
}

fn queues(per_session: usize, behind: usize) -> SessionQueues {
    SessionQueues::new(QueueLimits { per_session, behind })
}

/// Which parked events are woken.
#[derive(Debug, PartialEq)]
enum Woken {
    None,
    All,
    Before(i64),
}

fn woken(wake: Option<WakeSession>) -> Woken {
    wake.map_or(Woken::None, |wake| wake.before_offset.map_or(Woken::All, Woken::Before))
}

#[test]
fn the_event_behind_a_call_is_next_whether_it_joins_before_or_after_the_call() {
    let queues = queues(32, 32);
    let [first, second] = [(); 2].map(|()| enqueue(&queues, "a"));
    assert_eq!(first.reaches(Next).now_or_never(), Some(Head));
    assert_eq!(second.reaches(Next).now_or_never(), None);
    first.call_started();
    assert_eq!(second.reaches(Next).now_or_never(), Some(Next));
    assert_eq!(second.reaches(Head).now_or_never(), None);
    first.leave();
    assert_eq!(second.reaches(Next).now_or_never(), Some(Head));
    second.call_started();
    let third = enqueue(&queues, "a");
    assert_eq!(third.reaches(Next).now_or_never(), Some(Next));
    assert_eq!(second.rank_behind(), Some(third.rank()));
}

#[test]
fn an_event_enqueued_after_the_call_returned_is_not_next() {
    let queues = queues(32, 32);
    let first = enqueue(&queues, "a");
    first.call_started();
    first.call_returned();
    assert_eq!(enqueue(&queues, "a").position(), Queued);
}

#[test]
fn leaving_out_of_turn_does_not_move_the_head() {
    let queues = queues(32, 32);
    let [first, second, third] = [(); 3].map(|()| enqueue(&queues, "a"));
    let other = enqueue(&queues, "b");
    assert_eq!([&first, &second, &third, &other].map(Turn::position), [Head, Queued, Queued, Head]);
    assert_eq!(queues.sessions(), 2);
    second.leave();
    assert_eq!(first.rank_behind(), Some(third.rank()));
    assert_eq!(third.position(), Queued);
    first.leave();
    first.leave();
    assert_eq!(third.reaches(Head).now_or_never(), Some(Head));
    assert_eq!(third.rank_behind(), None);
    third.leave();
    other.leave();
    assert_eq!(queues.sessions(), 0);
}

#[test]
fn the_event_that_moves_up_behind_a_call_is_next() {
    let queues = queues(32, 32);
    let [first, second, third] = [(); 3].map(|()| enqueue(&queues, "a"));
    first.call_started();
    second.leave();
    assert_eq!(third.reaches(Next).now_or_never(), Some(Next));
}

#[tokio::test]
async fn an_event_that_moves_up_is_woken() {
    let queues = queues(32, 32);
    let [first, second] = [(); 2].map(|()| enqueue(&queues, "a"));
    let waiting = second.reaches(Head);
    tokio::pin!(waiting);
    assert_eq!((&mut waiting).now_or_never(), None);
    first.leave();
    assert_eq!(waiting.await, Head);
}

#[test]
fn the_events_behind_a_parked_one_must_park() {
    let queues = queues(32, 32);
    let [first, second] = [(); 2].map(|()| enqueue(&queues, "a"));
    assert!(!second.may_be_behind_parked());
    first.will_park();
    assert!(second.may_be_behind_parked());
    first.leave_parked();
    assert_eq!(second.position(), MustPark);
    assert_eq!(enqueue(&queues, "a").position(), MustPark, "it is behind the second");
    let older = enqueue_at(&queues, "a", -1);
    assert_eq!(older.position(), Queued, "it was parked itself and is due now");
    second.stay();
    assert_eq!(second.position(), Head);
}

#[test]
fn an_event_that_came_back_behind_another_is_not_ahead_of_it_in_memory() {
    let queues = queues(32, 32);
    let [first, third] = [0, 2].map(|offset| enqueue_at(&queues, "a", offset));
    let second = enqueue_at(&queues, "a", 1);
    assert_eq!([&first, &second, &third].map(Turn::offsets_ahead), [vec![], vec![0], vec![0]]);
}

#[test]
fn a_full_queue_parks_what_arrives() {
    let queues = queues(2, 3);
    let [_a1, a2, a3] = [(); 3].map(|()| enqueue(&queues, "a"));
    assert_eq!([&a2, &a3].map(Turn::position), [Queued, MustPark]);
    a3.leave_parked();
    let others = ["b", "b", "c", "c"].map(|session| enqueue(&queues, session));
    assert_eq!(others.each_ref().map(Turn::position), [Head, Queued, Head, Queued]);
    assert_eq!(enqueue(&queues, "d").position(), Head, "the first of its session");
    assert_eq!(enqueue(&queues, "d").position(), MustPark, "three are behind others");
}

#[test]
fn the_last_answer_in_memory_wakes_the_parked_events() {
    let queues = queues(2, 32);
    let [first, second, third] = [(); 3].map(|()| enqueue(&queues, "a"));
    assert_eq!(woken(first.wake()), Woken::Before(1), "none ahead of the second");
    assert_eq!(third.parked(), None, "the second wakes it");
    third.leave_parked();
    assert_eq!(first.answered(true), None);
    first.leave();
    assert_eq!(woken(second.wake()), Woken::All);
    assert_eq!(woken(second.answered(true)), Woken::All, "it may have been parked too late");
}

#[test]
fn an_event_that_is_parked_after_the_last_answer_wakes_itself() {
    let queues = queues(1, 32);
    let [first, second] = [(); 2].map(|()| enqueue(&queues, "a"));
    assert_eq!(woken(first.wake()), Woken::Before(1));
    assert_eq!(first.answered(true), None);
    assert_eq!(woken(second.parked()), Woken::All);
}

#[test]
fn an_answer_out_of_turn_leaves_the_waking_to_the_event_ahead() {
    let queues = queues(2, 32);
    let [first, second, third] = [(); 3].map(|()| enqueue(&queues, "a"));
    assert_eq!(third.parked(), None);
    third.leave_parked();
    assert_eq!(second.wake(), None);
    assert_eq!(second.answered(false), None);
    second.leave();
    assert_eq!(woken(first.answered(true)), Woken::All);
}

#[test]
fn without_parked_events_nothing_is_woken() {
    let queues = queues(32, 32);
    let turn = enqueue(&queues, "a");
    assert_eq!((turn.wake(), turn.answered(false)), (None, None));
    queues.set_parked(0, true);
    assert_eq!(woken(turn.wake()), Woken::All);
    queues.set_parked(0, false);
    assert_eq!(turn.wake(), None);
}

#[test]
fn a_released_event_keeps_those_behind_it_parked_until_its_next_owner_answers() {
    let queues = queues(2, 32);
    let [first, second, third] = [(); 3].map(|()| enqueue(&queues, "a"));
    assert_eq!(third.parked(), None);
    third.leave_parked();
    second.release();
    assert_eq!(woken(first.wake()), Woken::Before(1), "not the third");
    assert_eq!(woken(first.answered(false)), Woken::Before(1));
    queues.forget_partition(0);
    assert_eq!(first.wake(), None, "the partition is another instance's");
}

#[test]
fn an_event_that_was_still_parked_at_its_deadline_wakes_nobody() {
    let queues = queues(2, 32);
    queues.set_parked(0, true);
    let overdue = enqueue(&queues, "a");
    overdue.set_out_of_turn();
    assert_eq!((overdue.wake(), overdue.answered(false)), (None, None));
}

#[test]
fn an_event_that_is_released_after_its_partition_was_assigned_again_keeps_nobody_parked() {
    let queues = queues(32, 32);
    let first = enqueue_at(&queues, "a", 1);
    queues.begin_assignment(&[0]);
    queues.set_parked(0, true);
    first.release();
    assert_eq!(queues.sessions(), 0);
    let second = enqueue_at(&queues, "a", 2);
    assert_eq!(woken(second.wake()), Woken::All);
    second.release();
    assert_eq!(woken(enqueue_at(&queues, "a", 3).wake()), Woken::None, "it is of this assignment");
}

#[test]
fn a_stored_answer_waits_for_those_of_earlier_records_only() {
    let queues = queues(2, 32);
    // Kafka delivers the record of the first again after the ledger has given back the others.
    let [unanswered, second, third] = [9, 2, 3].map(|offset| enqueue_at(&queues, "a", offset));
    let first = enqueue_at(&queues, "a", 1);
    [&first, &second, &third].into_iter().for_each(|turn| turn.set_stored(true));
    assert_eq!(first.follows_stored().now_or_never(), Some(()), "not for those in the queue");
    assert_eq!(second.follows_stored().now_or_never(), None);
    let mut third_waits = Box::pin(third.follows_stored());
    assert_eq!((&mut third_waits).now_or_never(), None);
    first.leave();
    assert_eq!(second.follows_stored().now_or_never(), Some(()));
    assert_eq!((&mut third_waits).now_or_never(), None);
    // As it turns out, it has no answer.
    second.set_stored(false);
    assert_eq!(third_waits.now_or_never(), Some(()));
    assert!(third.is_stored() && !unanswered.is_stored());
}

#[test]
fn a_stored_answer_behind_does_not_bound_what_is_woken() {
    let queues = queues(32, 32);
    queues.set_parked(0, true);
    let [first, second, third] = [(); 3].map(|()| enqueue(&queues, "a"));
    second.set_stored(true);
    assert_eq!(woken(first.wake()), Woken::Before(2), "the third has no answer");
    third.leave();
    assert_eq!(woken(first.wake()), Woken::All);
}
