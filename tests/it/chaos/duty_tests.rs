//! What the checker asks for where the topic was deleted and created again.

use handoff::sim::desk::ApiCommand;

use super::checker::{
    DeskSession, Evidence, ExpectedResult, ObservedDeadLetter, RecordKind, RecordPosition,
    SentRecord,
};
use super::checker_tests::{at, call, check, dead_letter, sent};
use super::duty::TopicLife;

/// The records up to that of `d` were in a topic that was deleted, and whose positions occur again.
fn made_again(e: &mut Evidence) {
    e.topics = vec![TopicLife::default(); 2];
    e.offsets[0] = (3, Some(3));
    for sent in &mut e.sent[5..] {
        (sent.topic, sent.position) = (1, RecordPosition(0, sent.position.1 - 5));
    }
    e.outcomes[4].source = RecordPosition(0, 1);
    for dead_letter in &mut e.dead_letters {
        dead_letter.source = RecordPosition(0, dead_letter.source.1 - 5);
    }
}

#[test]
fn what_was_not_claimed_may_be_gone_with_its_topic() {
    let without = |id: &'static str, change: fn(&mut Evidence)| {
        move |e: &mut Evidence| {
            made_again(e);
            e.outcomes.retain(|outcome| outcome.event != id);
            change(e);
        }
    };
    let unclaimed = |e: &mut Evidence| e.claimed.retain(|key| key != "id:c");
    check(made_again, &[]);
    check(without("c", |_| {}), &["lost"]);
    check(without("c", unclaimed), &[]);
    let read = |e: &mut Evidence| {
        e.claimed.remove("id:c");
        e.topics[0].required_below = vec![4];
    };
    check(without("c", read), &["lost"]);
    check(without("c", |e| e.topics[0].killed = true), &[]);
    // It was called although nobody had claimed it.
    let called = |e: &mut Evidence| {
        e.claimed.remove("id:c");
        let calls = vec![call(1, ApiCommand::Transfer, Some(0))];
        e.desk.insert("invalid".into(), DeskSession { transfers: 1, calls });
    };
    check(without("c", called), &["untrue", "transferred again"]);
    // An event of the topic that is there is repeated in none that was before.
    let again = |e: &mut Evidence| {
        made_again(e);
        e.sent.push(SentRecord { topic: 1, ..sent(3, "c", "invalid", ExpectedResult::Rejected) });
        e.outcomes.remove(2);
        e.claimed.remove("id:c");
    };
    check(again, &["lost"]);
    // But it may have been claimed there by a worker that was killed.
    let again_after_a_kill = |e: &mut Evidence| {
        again(e);
        e.topics[0].killed = true;
    };
    check(again_after_a_kill, &[]);
}

#[test]
fn dead_letters_of_a_deleted_topic_are_those_of_its_records() {
    let malformed = |e: &mut Evidence| {
        made_again(e);
        let record = sent(0, "", "", ExpectedResult::FromDesk);
        e.sent.push(SentRecord { kind: RecordKind::Malformed, arrived: at(-1), ..record });
    };
    check(malformed, &[]);
    let claimed = |e: &mut Evidence| {
        malformed(e);
        e.claimed.insert(format!("dead-letter:in/0/0@{}", at(-1).as_millisecond()));
    };
    check(claimed, &["lost"]);
    let sent = |e: &mut Evidence| {
        claimed(e);
        e.dead_letters.push(ObservedDeadLetter { source_arrived: at(-1), ..dead_letter(0) });
    };
    check(sent, &[]);
    let of_valid_one = |e: &mut Evidence| {
        made_again(e);
        e.dead_letters.push(dead_letter(0));
    };
    check(of_valid_one, &["unexpected"]);
}

#[test]
fn a_topic_that_is_created_again_begins_a_new_order() {
    let decided = |e: &mut Evidence| e.outcomes[0].decided = e.outcomes[4].decided;
    check(decided, &["decided out of order"]);
    let later_topic = |e: &mut Evidence| {
        decided(e);
        e.topics.push(TopicLife::default());
        e.sent[1..].iter_mut().for_each(|sent| sent.topic = 1);
    };
    check(later_topic, &[]);
}
