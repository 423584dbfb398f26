//! The ways in which the simulated Desk fails when it is told to.
//!
//! Each act is proved from both sides: what the client sees, and what became of the session. These
//! tests never touch the worker.

use std::time::Duration;

use handoff::sim::desk::{
    Act, Answer, Command, Desk, Options, Outage, Script, Shift, Span, Staffing,
};
use reqwest::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use serde_json::json;

use super::{assert_cut, client, desk, options, query, state, transfer, try_transfer, url};

#[tokio::test]
async fn a_code_is_answered_so_many_times_and_does_nothing() {
    let desk = desk();
    desk.script(Act::error(141002).times(2).session("s"));
    for code in [141002, 141002, 0] {
        assert_eq!(transfer(&desk, "s").await["ErrorCode"], code);
    }
    let report = desk.session("s").unwrap();
    assert_eq!((report.transfers_asked, report.transfers_acted), (3, 1));
}

#[tokio::test]
async fn an_error_may_come_although_it_happened() {
    let desk = desk();
    desk.script(Act::error(141002).with_effect());
    assert_eq!(transfer(&desk, "s").await["ErrorCode"], 141002);
    assert_eq!(state(&desk, "s").await, "Agent");
}

#[tokio::test]
async fn a_lost_answer_leaves_the_session_with_an_agent() {
    let desk = desk();
    desk.script(Act::lost_answer());
    assert_cut(try_transfer(&desk, "s").await);
    assert_eq!(state(&desk, "s").await, "Agent");
    assert_eq!(desk.session("s").unwrap().transfers_acted, 1);
    assert_eq!(desk.stats().of(Command::Transfer).unanswered, 1);
    assert_eq!(transfer(&desk, "s").await["ErrorCode"], 141003);
}

#[tokio::test]
async fn a_dropped_call_leaves_the_session_alone() {
    let desk = desk();
    desk.script(Act::close());
    assert_cut(try_transfer(&desk, "s").await);
    assert_eq!(state(&desk, "s").await, "Chatbot");
}

#[tokio::test]
async fn a_cut_hits_a_kept_connection_too() {
    let (desk, client) = (desk(), client());
    let send = |command: &str| {
        let request = client.post(url(&desk, command, &query()));
        request.header(CONTENT_TYPE, "application/json").body(r#"{"SessionId":"s"}"#).send()
    };
    send("get_session_state").await.unwrap().bytes().await.unwrap();
    desk.script(Act::close().times(1));
    assert_cut(send("transfer_to_human").await);
    assert_eq!(desk.stats().of(Command::Transfer).calls, 1, "the client tried again by itself");
}

#[tokio::test]
async fn a_hanging_call_outlasts_the_client() {
    let desk = desk();
    desk.script(Act::hang());
    assert!(try_transfer(&desk, "s").await.unwrap_err().is_timeout());
    assert_eq!(state(&desk, "s").await, "Chatbot");
    tokio::time::timeout(Duration::from_secs(5), async {
        while desk.stats().in_flight > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_effect_comes_even_after_the_client_left() {
    let desk = desk();
    desk.script(Act::default().delayed(Span::exactly(2_000), Span::default()));
    assert!(try_transfer(&desk, "s").await.unwrap_err().is_timeout());
    assert_eq!(state(&desk, "s").await, "Chatbot");
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(state(&desk, "s").await, "Agent");
}

#[tokio::test]
async fn other_statuses_and_foreign_pages_are_sent() {
    let desk = desk();
    let status = |status, retry_after: Option<&str>, location: Option<&str>| {
        let (retry_after, location) = (retry_after.map(Into::into), location.map(Into::into));
        Act::answering(Answer::Status { status, retry_after, location })
    };
    let elsewhere = "http://elsewhere.example/";
    desk.script(Script {
        acts: vec![
            Act::status(502),
            status(429, Some("2"), None),
            status(302, None, Some(elsewhere)),
            Act::garbage("<html>"),
            Act::garbage("{}"),
        ],
        ..Script::default()
    });
    assert_eq!(try_transfer(&desk, "s").await.unwrap().status(), 502);
    let throttled = try_transfer(&desk, "s").await.unwrap();
    assert_eq!(
        (throttled.status().as_u16(), &throttled.headers()[RETRY_AFTER]),
        (429, &"2".parse().unwrap())
    );
    let moved = try_transfer(&desk, "s").await.unwrap();
    assert_eq!(
        (moved.status().as_u16(), &moved.headers()[LOCATION]),
        (302, &elsewhere.parse().unwrap())
    );
    assert_eq!(try_transfer(&desk, "s").await.unwrap().text().await.unwrap(), "<html>");
    assert_eq!(transfer(&desk, "s").await, json!({}));
    let statuses = desk.stats().of(Command::Transfer).statuses;
    assert_eq!(statuses, [(200, 2), (302, 1), (429, 1), (502, 1)].into());
}

#[tokio::test]
async fn an_outage_cuts_everything_and_ends() {
    let desk = desk();
    desk.script(Act::hang().session("hangs"));
    let hanging = try_transfer(&desk, "hangs");
    let cut = async {
        until_a_call_is_under_way(&desk).await;
        desk.outage(Outage::Closing);
    };
    assert_cut(tokio::join!(hanging, cut).0);
    assert_cut(try_transfer(&desk, "s").await);
    desk.outage(Outage::None);
    assert_eq!(transfer(&desk, "s").await["ErrorCode"], 0);
}

#[tokio::test]
async fn an_outage_may_shut_the_port() {
    let desk = desk();
    desk.outage(Outage::Refusing);
    tokio::time::timeout(Duration::from_secs(5), async {
        while !try_transfer(&desk, "s").await.unwrap_err().is_connect() {}
    })
    .await
    .unwrap();
    desk.outage(Outage::None);
    tokio::time::timeout(Duration::from_secs(5), async {
        while try_transfer(&desk, "s").await.is_err() {}
    })
    .await
    .unwrap();
    assert_eq!(state(&desk, "s").await, "Agent");
}

#[tokio::test]
async fn too_many_calls_in_a_second_are_refused() {
    let desk = Desk::start_local(Options { limit_per_second: 3, ..options() }).unwrap();
    let mut codes = Vec::new();
    for n in 0..5 {
        codes.push(transfer(&desk, &format!("s-{n}")).await["ErrorCode"].as_i64().unwrap());
    }
    assert_eq!(codes, [0, 0, 0, 60007, 60007]);
    assert_eq!(desk.stats().transfers_acted, 3);
}

#[tokio::test]
async fn agents_go_home_at_a_call() {
    let desk = desk();
    let home =
        Shift { after_transfers: Some(1), staffing: Staffing::everyone(false), ..Shift::default() };
    desk.script(Script { shifts: vec![home], ..Script::default() });
    assert_eq!(transfer(&desk, "a").await["ErrorCode"], 0);
    assert_eq!(transfer(&desk, "b").await["ErrorCode"], 141001);
    desk.staff(&Staffing::everyone(true));
    assert_eq!(transfer(&desk, "b").await["ErrorCode"], 0);
}

#[tokio::test]
async fn it_stops_even_while_a_call_hangs() {
    let desk = desk();
    desk.script(Act::hang());
    let stop = async {
        until_a_call_is_under_way(&desk).await;
        tokio::time::timeout(Duration::from_secs(1), desk.stop()).await.unwrap();
    };
    assert_cut(tokio::join!(try_transfer(&desk, "s"), stop).0);
    assert!(try_transfer(&desk, "s").await.unwrap_err().is_connect());
}

async fn until_a_call_is_under_way(desk: &Desk) {
    while desk.stats().in_flight == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Every act that the manual shows is one.
#[test]
fn the_acts_of_the_manual_can_be_read() {
    let manual = include_str!("../../../docs/simulated-desk.md");
    let shown = manual.lines().filter(|line| line.starts_with("    {\"")).filter_map(|line| {
        let mut json = serde_json::Deserializer::from_str(line).into_iter::<serde_json::Value>();
        json.next()?.ok()
    });
    let mut acts = 0;
    for act in shown {
        serde_json::from_value::<Act>(act.clone()).unwrap_or_else(|fault| panic!("{act}: {fault}"));
        acts += 1;
    }
    assert_eq!(acts, 6);
}
