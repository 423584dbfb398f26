//! Several instances, silent ones, hostile ids, and the plain text of a whole screen.

use super::*;
use crate::commands::top::once;
use crate::commands::top::status::parse_status;

const BUSY: &str = include_str!("../../../../tests/fixtures/status/busy.json");
const CALM: &str = include_str!("../../../../tests/fixtures/status/calm.json");

fn polled(body: &str) -> AskedInstance {
    AskedInstance {
        url: "http://w:9464/".into(),
        answer: Ok(parse_status(body.as_bytes()).unwrap()),
    }
}

fn silent() -> AskedInstance {
    AskedInstance { url: "http://gone:9464/".into(), answer: Err("connection refused".into()) }
}

fn text(polled: &[AskedInstance]) -> String {
    once::text(&Overview::new(polled)).join("\n")
}

#[test]
fn one_screen_of_plain_text() {
    insta::assert_snapshot!(text(&[polled(BUSY)]));
}

#[test]
fn several_instances_are_added_up_and_the_worst_comes_first() {
    let overview = Overview::new(&[polled(CALM), polled(BUSY)]);
    assert_eq!(overview.level, SeenLevel::Critical);
    assert!(overview.headline[0].starts_with("handoff-5c9d-x2k: the gate is shut"));
    assert!(overview.identity.starts_with("2 of 2 instances answer"), "{}", overview.identity);
    assert_eq!(overview.counts[0][..2], ["unfinished 214", "oldest 6:50"]);
    let floor = &overview.tables[1].rows;
    let vip = floor.iter().find(|row| row.cells[0] == "vip-german").unwrap();
    assert_eq!(vip.cells[3], "820");
    assert_eq!(overview.tables[3].rows.len(), 18, "all partitions");
    assert_eq!(overview.tables[6].rows.len(), 2);
}

/// With numbers of the whole group, a second instance must not double them.
#[test]
fn numbers_of_the_group_are_counted_once() {
    let of_group = BUSY.replace("\"now\": \"instance\"", "\"now\": \"group\"");
    assert_ne!(of_group, BUSY);
    let overview = Overview::new(&[polled(&of_group), polled(&of_group)]);
    assert_eq!(overview.counts[0][0], "unfinished 212");
    assert_eq!(overview.counts[2][0], "1 h: assigned 1624");
    let other_group = of_group.replace("\"group_id\": \"handoff\"", "\"group_id\": \"other\"");
    assert_ne!(other_group, of_group);
    let overview = Overview::new(&[polled(&of_group), polled(&other_group)]);
    assert_eq!(overview.counts[0][0], "unfinished 424");
}

#[test]
fn an_instance_that_does_not_answer_is_never_well() {
    let overview = Overview::new(&[polled(CALM), silent()]);
    assert_eq!(overview.level, SeenLevel::Warning);
    assert_eq!(overview.headline[0], "1 instance cannot be asked");
    assert_eq!(overview.headline[1], "http://gone:9464/: connection refused");
    let busy = Overview::new(&[polled(BUSY), silent()]);
    assert_eq!(busy.level, SeenLevel::Critical);
    assert!(busy.headline.iter().any(|line| line.contains("connection refused")));
    assert!(busy.identity.starts_with("1 of 2 instances answer"), "{}", busy.identity);
    let nobody = Overview::new(&[silent()]);
    assert_eq!((nobody.level, nobody.counts.len()), (SeenLevel::Critical, 0));
    assert!(nobody.headline[0].starts_with("no answer"));
    assert!(text(&[silent()]).contains("no answer"));
}

/// Ids come from outside: they must not move the cursor or turn the line around.
#[test]
fn control_characters_and_marks_of_direction_are_replaced() {
    let hostile = BUSY.replace("\"fd8a..\"", "\"\\u001b[2J\\u202egnp\"");
    assert_ne!(hostile, BUSY);
    let text = text(&[polled(&hostile)]);
    assert!(text.contains("\u{fffd}[2J\u{fffd}gnp"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
}

#[test]
fn points_end_at_the_same_time() {
    let mut sum = vec![1, 2];
    add_points(&mut sum, &[1, 1, 1]);
    assert_eq!(sum, [1, 2, 3]);
    add_points(&mut sum, &[10]);
    assert_eq!(sum, [1, 2, 13]);
}
