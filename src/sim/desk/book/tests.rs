//! Which act a call gets, and how scripts are written.
//!
//! They are kept beside the file they test because they use its private parts. Tests here never
//! open a socket.

use serde_json::json;

use super::*;
use crate::sim::desk::script::Answer;

fn cue(session: &str, transfers: u64) -> Cue<'_> {
    Cue { session, command: Command::Transfer, transfers, now: Instant::now() }
}

fn codes(book: &Book, session: &str, calls: usize) -> Vec<Option<i64>> {
    let mut rng = Rng::with_seed(1);
    let code = |act: Act| match act.answer {
        Answer::Error { code, .. } => code,
        other => panic!("{other:?} was not scripted"),
    };
    (0..calls).map(|_| book.look_up(&cue(session, 0), &mut rng).0.map(code)).collect()
}

#[test]
fn a_session_s_own_acts_go_first_and_each_is_used_up() {
    let book = Book::default();
    let acts = vec![Act::error(1), Act::error(2).times(2).session("s"), Act::error(3).session("s")];
    book.add(&Script { acts, ..Script::default() }, &cue("", 0));
    assert_eq!(codes(&book, "s", 5), [Some(2), Some(2), Some(3), Some(1), None]);
    assert!(!book.anything.load(Relaxed));
}

#[test]
fn an_act_for_ever_stays_and_other_commands_pass_it() {
    let book = Book::default();
    book.add(&Act::error(9).times(0).into(), &cue("", 0));
    assert_eq!(codes(&book, "s", 3), [Some(9); 3]);
    let question = Cue { command: Command::State, ..cue("s", 0) };
    assert_eq!(book.look_up(&question, &mut Rng::with_seed(1)).0, None);
}

#[test]
fn chance_strikes_its_part_of_the_calls() {
    let book = Book::default();
    book.add(&Act::error(9).times(0).chance(0.25).into(), &cue("", 0));
    let struck = codes(&book, "s", 10_000).into_iter().flatten().count();
    assert!((2_300..2_700).contains(&struck), "{struck}");
}

#[tokio::test(start_paused = true)]
async fn shifts_come_by_call_or_by_time() {
    let book = Book::default();
    let by_call = Shift { after_transfers: Some(2), ..Shift::default() };
    let by_time = Shift { after_ms: Some(50), ..Shift::default() };
    let script = Script { shifts: vec![by_call, by_time], ..Script::default() };
    book.add(&script, &cue("", 10));
    let due = |transfers| book.look_up(&cue("s", transfers), &mut Rng::with_seed(1)).1.len();
    assert_eq!((due(11), due(12)), (0, 0));
    assert_eq!(due(13), 1);
    tokio::time::advance(Duration::from_millis(50)).await;
    assert_eq!((due(14), due(15)), (1, 0));
}

#[test]
fn a_script_is_written_in_plain_json() {
    let script: Script = serde_json::from_value(json!({
        "acts": [
            {"answer": "close", "takes_effect": true},
            {"session": "s", "commands": ["transfer", "state"], "times": 3,
             "answer": {"error": {"code": 60007}}, "delay": {"min_ms": 5}},
            {"answer": {"status": {"status": 429, "retry_after": "2"}}, "times": 0, "chance": 0.1},
            {"answer": {"body": {"text": "<html>"}}},
        ],
        "shifts": [{"after_ms": 10, "staffing": {"switch": [{"online": false}]}}],
        "limit_per_second": 200,
    }))
    .unwrap();
    assert_eq!(script.acts[0], Act::lost_answer());
    assert_eq!(script.acts[3], Act::garbage("<html>"));
    assert_eq!(script.shifts[0].staffing, Staffing::everyone(false));
    let again = serde_json::to_value(&script).unwrap();
    assert_eq!(serde_json::from_value::<Script>(again).unwrap(), script);
}

#[test]
fn a_misspelt_word_is_an_error() {
    for wrong in [
        json!({"act": []}),
        json!({"acts": [{"sesion": "s"}]}),
        json!({"acts": [{"answer": {"error": {"code": 1, "inf": ""}}}]}),
        json!({"acts": [{"answer": "explode"}]}),
        json!({"acts": [{"delay": {"ms": 1}}]}),
        json!({"shifts": [{"staffing": {"swich": []}}]}),
    ] {
        assert!(serde_json::from_value::<Script>(wrong.clone()).is_err(), "{wrong}");
    }
}
