//! Injected faults of the simulated Desk, each checked from both sides: what the client sees, and what
//! became of the session.

use std::time::Duration;

use handoff::sim::desk::{
    ApiCommand, ConnectionOutage, FaultSchedule, InjectedAnswer, InjectedFault, LatencyRange,
    ScheduledStaffChange, SimulatedDesk, SimulatedDeskSettings, StaffChange,
};
use reqwest::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use serde_json::json;

use super::{assert_cut, client, desk, options, query, state, transfer, try_transfer, url};

#[tokio::test]
async fn an_injected_code_is_returned_as_often_as_requested_without_effect() {
    let desk = desk();
    desk.schedule(InjectedFault::error(141002).times(2).session("s"));
    for code in [141002, 141002, 0] {
        assert_eq!(transfer(&desk, "s").await["ErrorCode"], code);
    }
    let report = desk.session("s").unwrap();
    assert_eq!((report.transfers_asked, report.transfers_acted), (3, 1));
}

#[tokio::test]
async fn an_injected_code_can_be_returned_after_the_effect() {
    let desk = desk();
    desk.schedule(InjectedFault::error(141002).with_effect());
    assert_eq!(transfer(&desk, "s").await["ErrorCode"], 141002);
    assert_eq!(state(&desk, "s").await, "Agent");
}

#[tokio::test]
async fn a_lost_answer_leaves_the_session_with_its_agent() {
    let desk = desk();
    desk.schedule(InjectedFault::lost_answer());
    assert_cut(try_transfer(&desk, "s").await);
    assert_eq!(state(&desk, "s").await, "Agent");
    assert_eq!(desk.session("s").unwrap().transfers_acted, 1);
    assert_eq!(desk.stats().of(ApiCommand::Transfer).unanswered, 1);
    assert_eq!(transfer(&desk, "s").await["ErrorCode"], 141003);
}

#[tokio::test]
async fn a_closed_connection_without_effect_leaves_the_session_unchanged() {
    let desk = desk();
    desk.schedule(InjectedFault::close());
    assert_cut(try_transfer(&desk, "s").await);
    assert_eq!(state(&desk, "s").await, "Chatbot");
}

#[tokio::test]
async fn a_kept_alive_connection_is_cut_without_a_retry_of_the_client() {
    let (desk, client) = (desk(), client());
    let send = |command: &str| {
        let request = client.post(url(&desk, command, &query()));
        request.header(CONTENT_TYPE, "application/json").body(r#"{"SessionId":"s"}"#).send()
    };
    send("get_session_state").await.unwrap().bytes().await.unwrap();
    desk.schedule(InjectedFault::close().times(1));
    assert_cut(send("transfer_to_human").await);
    assert_eq!(desk.stats().of(ApiCommand::Transfer).calls, 1, "the client tried again by itself");
}

#[tokio::test]
async fn a_hanging_call_ends_when_the_client_times_out() {
    let desk = desk();
    desk.schedule(InjectedFault::hang());
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
async fn a_delayed_effect_happens_after_the_client_disconnected() {
    let desk = desk();
    desk.schedule(
        // Much later than the client's time-out, so that a busy machine sees the state between them.
        InjectedFault::default().delayed(LatencyRange::exactly(12_000), LatencyRange::default()),
    );
    assert!(try_transfer(&desk, "s").await.unwrap_err().is_timeout());
    assert_eq!(state(&desk, "s").await, "Chatbot");
    tokio::time::timeout(Duration::from_secs(30), async {
        while state(&desk, "s").await != "Agent" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the transfer takes effect");
}

#[tokio::test]
async fn other_statuses_and_bodies_are_returned() {
    let desk = desk();
    let status = |status, retry_after: Option<&str>, location: Option<&str>| {
        let (retry_after, location) = (retry_after.map(Into::into), location.map(Into::into));
        InjectedFault::answering(InjectedAnswer::Status { status, retry_after, location })
    };
    let elsewhere = "http://elsewhere.example/";
    desk.schedule(FaultSchedule {
        faults: vec![
            InjectedFault::status(502),
            status(429, Some("2"), None),
            status(302, None, Some(elsewhere)),
            InjectedFault::garbage("<html>"),
            InjectedFault::garbage("{}"),
        ],
        ..FaultSchedule::default()
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
    let statuses = desk.stats().of(ApiCommand::Transfer).statuses;
    assert_eq!(statuses, [(200, 2), (302, 1), (429, 1), (502, 1)].into());
}

#[tokio::test]
async fn an_outage_cuts_all_connections_until_it_ends() {
    let desk = desk();
    desk.schedule(InjectedFault::hang().session("hangs"));
    let hanging = try_transfer(&desk, "hangs");
    let cut = async {
        wait_for_a_call_in_flight(&desk).await;
        desk.set_outage(ConnectionOutage::Closing);
    };
    assert_cut(tokio::join!(hanging, cut).0);
    assert_cut(try_transfer(&desk, "s").await);
    desk.set_outage(ConnectionOutage::None);
    assert_eq!(transfer(&desk, "s").await["ErrorCode"], 0);
}

#[tokio::test]
async fn an_outage_can_close_the_port() {
    let desk = desk();
    desk.set_outage(ConnectionOutage::Refusing);
    // Each call may take the client's time-out.
    tokio::time::timeout(Duration::from_secs(20), async {
        while !try_transfer(&desk, "s").await.unwrap_err().is_connect() {}
    })
    .await
    .unwrap();
    desk.set_outage(ConnectionOutage::None);
    tokio::time::timeout(Duration::from_secs(20), async {
        while try_transfer(&desk, "s").await.is_err() {}
    })
    .await
    .unwrap();
    assert_eq!(state(&desk, "s").await, "Agent");
}

#[tokio::test]
async fn calls_above_the_limit_per_second_are_refused() {
    let desk =
        SimulatedDesk::start_local(SimulatedDeskSettings { limit_per_second: 3, ..options() })
            .unwrap();
    let mut codes = Vec::new();
    for n in 0..5 {
        codes.push(transfer(&desk, &format!("s-{n}")).await["ErrorCode"].as_i64().unwrap());
    }
    assert_eq!(codes, [0, 0, 0, 60007, 60007]);
    assert_eq!(desk.stats().transfers_acted, 3);
}

#[tokio::test]
async fn a_scheduled_staff_change_is_applied_at_its_call() {
    let desk = desk();
    let all_offline = ScheduledStaffChange {
        after_transfers: Some(1),
        change: StaffChange::everyone(false),
        ..ScheduledStaffChange::default()
    };
    desk.schedule(FaultSchedule { staff_changes: vec![all_offline], ..FaultSchedule::default() });
    assert_eq!(transfer(&desk, "a").await["ErrorCode"], 0);
    assert_eq!(transfer(&desk, "b").await["ErrorCode"], 141001);
    desk.change_staff(&StaffChange::everyone(true));
    assert_eq!(transfer(&desk, "b").await["ErrorCode"], 0);
}

#[tokio::test]
async fn the_server_stops_while_a_call_hangs() {
    let desk = desk();
    desk.schedule(InjectedFault::hang());
    let stop = async {
        wait_for_a_call_in_flight(&desk).await;
        tokio::time::timeout(Duration::from_secs(10), desk.stop()).await.unwrap();
    };
    // Cut, and not ended by the client's time-out.
    assert_cut(tokio::join!(try_transfer(&desk, "s"), stop).0);
    assert!(try_transfer(&desk, "s").await.unwrap_err().is_connect());
}

async fn wait_for_a_call_in_flight(desk: &SimulatedDesk) {
    while desk.stats().in_flight == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn the_faults_in_the_manual_can_be_parsed() {
    let manual = include_str!("../../../docs/simulated-desk.md");
    let shown = manual.lines().filter(|line| line.starts_with("    {\"")).filter_map(|line| {
        let mut json = serde_json::Deserializer::from_str(line).into_iter::<serde_json::Value>();
        json.next()?.ok()
    });
    let mut faults = 0;
    for example in shown {
        serde_json::from_value::<InjectedFault>(example.clone())
            .unwrap_or_else(|error| panic!("{example}: {error}"));
        faults += 1;
    }
    assert_eq!(faults, 6);
}
