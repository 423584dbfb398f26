//! The simulated Desk over real HTTP: validation, behaviour, statistics and controls.
//!
//! Each test starts its own Desk on a free port. The worker is not involved.

mod faults;

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::ready;
use handoff::domain::usersig::{self, Identity};
use handoff::sim::desk::{
    Agent, ApiCommand, DEMO_KEY, LatencyRange, SimulatedDesk, SimulatedDeskSettings,
};
use reqwest::header::CONTENT_TYPE;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

const NOW: i64 = 1_800_000_000;

fn options() -> SimulatedDeskSettings {
    SimulatedDeskSettings { clock: || NOW, ..SimulatedDeskSettings::default() }
}

fn desk() -> SimulatedDesk {
    SimulatedDesk::start_local(options()).unwrap()
}

fn admin() -> Identity {
    SimulatedDeskSettings::default().admin
}

fn client() -> reqwest::Client {
    // Fails if another test of this process has installed it already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(4));
    builder.redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

fn signature(identity: &Identity, key: &str) -> String {
    let usersig = usersig::sign(identity, &SecretString::from(key), NOW - 10, 3_600);
    usersig.expose_secret().to_owned()
}

fn query() -> Vec<(&'static str, String)> {
    static RANDOM: AtomicU32 = AtomicU32::new(1);
    vec![
        ("sdkappid", admin().sdkappid.to_string()),
        ("identifier", admin().identifier),
        ("usersig", signature(&admin(), DEMO_KEY)),
        ("random", RANDOM.fetch_add(1, Relaxed).to_string()),
        ("contenttype", "json".to_owned()),
    ]
}

fn url(desk: &SimulatedDesk, command: &str, query: &[(&str, String)]) -> String {
    let pairs: Vec<_> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{}/v4/desk_http_svc/{command}?{}", desk.endpoint(), pairs.join("&"))
}

async fn post(url: String, body: impl Into<reqwest::Body>) -> reqwest::Result<reqwest::Response> {
    client().post(url).header(CONTENT_TYPE, "application/json").body(body).send().await
}

async fn json_of(response: reqwest::Response) -> Value {
    assert_eq!(response.status(), 200);
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

async fn call(desk: &SimulatedDesk, command: &str, body: Value) -> Value {
    let url = url(desk, command, &query());
    json_of(post(url, body.to_string()).await.unwrap()).await
}

async fn try_transfer(desk: &SimulatedDesk, id: &str) -> reqwest::Result<reqwest::Response> {
    let body = json!({"SessionId": id}).to_string();
    post(url(desk, "transfer_to_human", &query()), body).await
}

async fn transfer(desk: &SimulatedDesk, id: &str) -> Value {
    json_of(try_transfer(desk, id).await.unwrap()).await
}

async fn state(desk: &SimulatedDesk, id: &str) -> Value {
    call(desk, "get_session_state", json!({"SessionId": id})).await["CurrentState"].clone()
}

/// The connection was closed without an answer before the client timed out.
fn assert_cut(result: reqwest::Result<reqwest::Response>) {
    let error = result.expect_err("the connection is closed");
    assert!(!error.is_timeout() && !error.is_connect(), "{:?}", error.without_url());
}

#[tokio::test]
async fn a_transferred_session_is_with_its_agent_until_it_ends() {
    let desk = desk();
    let body = json!({"SessionId": "s", "AgentIdList": ["a@x"], "AgentGroupId": 7, "Priority": 9,
        "SendTipIfNoAgentOnline": 1, "QueueTimeout": 3600});
    let reply = call(&desk, "transfer_to_human", body.clone()).await;
    let expected = json!({"ErrorCode": 0, "ErrorInfo": "", "ActionStatus": "OK", "AgentId": "a@x",
        "RequestId": "sim-1"});
    assert_eq!(reply, expected);
    let state = call(&desk, "get_session_state", json!({"SessionId": "s"})).await;
    assert_eq!((&state["CurrentState"], &state["AgentId"]), (&json!("Agent"), &json!("a@x")));
    assert_eq!(transfer(&desk, "s").await["ErrorCode"], 141003);
    assert_eq!(call(&desk, "end_session", json!({"SessionId": "s"})).await["ErrorCode"], 0);
    assert_eq!(transfer(&desk, "s").await["ErrorCode"], 141005);
    let stats = desk.stats();
    assert_eq!((stats.calls, stats.transfers_acted, stats.duplicate_randoms), (5, 1, 0));
    assert_eq!(stats.code(ApiCommand::Transfer, 141003), 1);
    assert_eq!(stats.last_requests[0].body, body);
}

#[tokio::test]
async fn a_session_is_queued_if_all_agents_are_full() {
    let agents = vec![Agent { capacity: Some(1), ..Agent::new("a@x") }];
    let desk = SimulatedDesk::start_local(SimulatedDeskSettings { agents, ..options() }).unwrap();
    transfer(&desk, "first").await;
    let reply = transfer(&desk, "second").await;
    assert_eq!((&reply["ErrorCode"], &reply["IsInQueue"]), (&json!(0), &json!(1)));
    assert_eq!(reply.get("AgentId"), None);
    assert_eq!(state(&desk, "second").await, "Queueing");
}

/// Each row has one error in the URL; everything else is valid.
#[tokio::test]
async fn each_error_in_the_url_has_its_code() {
    let stranger = Identity { identifier: "somebody".to_owned(), ..admin() };
    let elsewhere = Identity { sdkappid: 7, ..admin() };
    let sig = |identity: &Identity| signature(identity, DEMO_KEY);
    let old = usersig::sign(&admin(), &SecretString::from(DEMO_KEY), NOW - 100, 100);
    let rows = [
        (vec![("sdkappid", String::new())], 60012),
        (vec![("sdkappid", "12x".to_owned())], 60006),
        (vec![("sdkappid", "7".to_owned())], 70020),
        (vec![("identifier", String::new())], 60004),
        (vec![("usersig", String::new())], 60004),
        (vec![("usersig", sig(&admin())[..60].to_owned())], 70003),
        (vec![("usersig", old.expose_secret().to_owned())], 70001),
        (vec![("usersig", signature(&admin(), "other key"))], 70009),
        (vec![("usersig", sig(&stranger))], 70013),
        (vec![("usersig", sig(&elsewhere))], 70014),
        (vec![("identifier", "somebody".to_owned()), ("usersig", sig(&stranger))], 90009),
        (vec![("random", String::new())], 60002),
        (vec![("random", "4294967296".to_owned())], 60002),
        (vec![("random", "-1".to_owned())], 60002),
        (vec![("contenttype", "xml".to_owned())], 60002),
    ];
    let desk = desk();
    for (changes, code) in rows {
        let mut query = query();
        for (name, value) in &changes {
            query.iter_mut().find(|(key, _)| key == name).unwrap().1.clone_from(value);
        }
        let url = url(&desk, "transfer_to_human", &query);
        let reply = json_of(post(url, r#"{"SessionId":"s"}"#).await.unwrap()).await;
        assert_eq!(reply["ErrorCode"], code, "{:?}", changes.iter().map(|c| c.0).next());
        assert_eq!(reply["ActionStatus"], "FAIL");
    }
    assert_eq!(desk.session("s").map(|session| session.calls), None);
}

#[tokio::test]
async fn each_error_in_the_body_has_its_code() {
    let rows = [
        (String::new(), 60003),
        ("{".to_owned(), 90001),
        ("[]".to_owned(), 90001),
        (format!(r#"{{"SessionId":"{}"}}"#, "x".repeat(12 * 1024)), 93000),
        ("{}".to_owned(), 141006),
        (r#"{"SessionId":""}"#.to_owned(), 141006),
        (r#"{"SessionId":7}"#.to_owned(), 141006),
        (r#"{"SessionId":"s","AgentIdList":"a"}"#.to_owned(), 141004),
        (r#"{"SessionId":"s","AgentIdList":[1]}"#.to_owned(), 141004),
        (r#"{"SessionId":"s","AgentGroupId":"7"}"#.to_owned(), 141004),
        (r#"{"SessionId":"s","AgentGroupId":null}"#.to_owned(), 141004),
        (r#"{"SessionId":"s","SendTipIfNoAgentOnline":true}"#.to_owned(), 141004),
        (r#"{"SessionId":"s","DisableQueuing":2}"#.to_owned(), 141004),
        (r#"{"SessionId":"s","Priority":10}"#.to_owned(), 141004),
        (r#"{"SessionId":"s","QueueTimeout":-1}"#.to_owned(), 141004),
        (r#"{"SessionId":"s","sessionid":"s"}"#.to_owned(), 141004),
    ];
    let desk = desk();
    for (body, code) in rows {
        let shown: String = body.chars().take(60).collect();
        let reply = post(url(&desk, "transfer_to_human", &query()), body).await.unwrap();
        assert_eq!(json_of(reply).await["ErrorCode"], code, "{shown}");
    }
    assert_eq!(desk.stats().transfers_acted, 0);
}

#[tokio::test]
async fn method_command_and_content_type_are_checked() {
    let desk = desk();
    let target = url(&desk, "transfer_to_human", &query());
    assert_eq!(client().get(target.clone()).send().await.unwrap().status(), 405);
    let untyped = client().post(target).body(r#"{"SessionId":"s"}"#).send().await.unwrap();
    assert_eq!(json_of(untyped).await["ErrorCode"], 60002);
    assert_eq!(
        call(&desk, "transfer_to_robot", json!({"SessionId": "s"})).await["ErrorCode"],
        60009
    );
    let desk = SimulatedDesk::start_local(SimulatedDeskSettings {
        unknown_command_is_404: true,
        ..options()
    })
    .unwrap();
    let unknown = post(url(&desk, "transfer_to_robot", &query()), "{}").await.unwrap();
    assert_eq!(unknown.status(), 404);
}

#[tokio::test]
async fn overlaps_of_one_session_are_counted() {
    let desk = SimulatedDesk::start_local(SimulatedDeskSettings {
        latency: LatencyRange::exactly(200),
        ..options()
    })
    .unwrap();
    let (first, second, other) =
        tokio::join!(transfer(&desk, "s"), transfer(&desk, "s"), transfer(&desk, "t"));
    let mut codes = [&first["ErrorCode"], &second["ErrorCode"]].map(|code| code.as_i64().unwrap());
    codes.sort_unstable();
    assert_eq!((codes, &other["ErrorCode"]), ([0, 141003], &json!(0)));
    let stats = desk.stats();
    assert_eq!((stats.overlapping_calls, stats.max_overlap, stats.max_in_flight), (1, 2, 3));
    let report = desk.session("s").unwrap();
    assert_eq!((report.max_overlap, desk.session("t").unwrap().max_overlap), (2, 1));
    let [earlier, later] = &report.log[..] else { panic!("{:?}", report.log) };
    assert!(later.began_ns < earlier.ended_ns.unwrap());
}

#[tokio::test]
async fn the_controls_work_over_http() {
    let desk = desk();
    let post_control = async |route: &str, body: Value| {
        let url = format!("{}/sim/{route}", desk.endpoint());
        client().post(url).body(body.to_string()).send().await.unwrap()
    };
    let schedule = json!({"faults": [{"session": "s", "answer": {"error": {"code": 60008}}}]});
    assert_eq!(post_control("schedule", schedule).await.status(), 200);
    assert_eq!(post_control("agents", json!({"agents": [{"id": "a@x"}]})).await.status(), 200);
    let put = json!({"session_id": "t", "state": "NotInSession"});
    assert_eq!(post_control("sessions", put).await.status(), 200);
    assert_eq!(transfer(&desk, "s").await["ErrorCode"], 60008);
    assert_eq!(transfer(&desk, "s").await["AgentId"], "a@x");
    assert_eq!(transfer(&desk, "t").await["ErrorCode"], 141005);
    let read = async |route: &str| {
        let url = format!("{}/sim/{route}", desk.endpoint());
        client().get(url).send().await.unwrap()
    };
    let stats = read("stats").await.text().await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&stats).unwrap()["transfers_acted"], 1);
    assert!(!stats.contains(&signature(&admin(), DEMO_KEY)));
    assert_eq!(json_of(read("sessions/s").await).await["transfers_asked"], 2);
    assert_eq!(read("sessions/unheard-of").await.status(), 404);
    let misspelt = post_control("schedule", json!({"faults": [{"anwser": "hang"}]})).await;
    assert_eq!(misspelt.status(), 400);
    assert!(misspelt.text().await.unwrap().contains("anwser"));
    let impossible =
        post_control("schedule", json!({"faults": [{"answer": "hang"}, {"chance": 7}]})).await;
    assert_eq!(impossible.status(), 400);
    assert!(
        impossible.text().await.unwrap().contains("fault 2: chance is 7; it must be from 0 to 1")
    );
    let upside_down =
        post_control("schedule", json!({"latency": {"min_ms": 9, "max_ms": 1}})).await;
    assert_eq!(upside_down.status(), 400);
    assert_eq!(post_control("outage", json!({"on": true})).await.status(), 200);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_cut(try_transfer(&desk, "u").await);
    assert_eq!(desk.stats().calls_cut_by_outage, 1);
    assert_eq!(post_control("outage", json!({"on": true, "refuse": true})).await.status(), 400);
    assert_eq!(post_control("outage", json!({"on": false})).await.status(), 200);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(transfer(&desk, "u").await["ErrorCode"], 0);
    assert_eq!(post_control("reset", json!({})).await.status(), 200);
    assert_eq!((desk.stats().transfers_acted, desk.session("s").is_none()), (0, true));
}

#[tokio::test]
async fn the_last_handle_stops_the_server() {
    let desk = desk();
    let endpoint = desk.endpoint();
    drop(desk.clone());
    assert_eq!(transfer(&desk, "s").await["ErrorCode"], 0);
    drop(desk);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let late = client().get(format!("{endpoint}/sim/stats")).send().await;
    assert!(late.unwrap_err().is_connect());
}

#[tokio::test]
async fn a_cached_signature_is_valid_only_for_its_account_and_until_it_expires() {
    static CLOCK: AtomicI64 = AtomicI64::new(NOW);
    let desk = SimulatedDesk::start_local(SimulatedDeskSettings {
        clock: || CLOCK.load(Relaxed),
        ..options()
    })
    .unwrap();
    let mut query = query();
    let code = async |query: &[(&str, String)]| {
        let url = url(&desk, "get_session_state", query);
        json_of(post(url, r#"{"SessionId":"s"}"#).await.unwrap()).await["ErrorCode"].clone()
    };
    assert_eq!((code(&query).await, code(&query).await), (json!(0), json!(0)));
    let admin_account = query[1].1.clone();
    query[1].1 = "somebody".to_owned();
    assert_eq!(code(&query).await, 70013);
    query[1].1 = admin_account;
    assert_eq!(code(&query).await, 0);
    CLOCK.store(NOW + 3_590, Relaxed);
    assert_eq!(code(&query).await, 70001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_calls_are_all_assigned_and_all_counted() {
    const CALLS: usize = 2_000;
    let (desk, client) = (desk(), client());
    let target = url(&desk, "transfer_to_human", &query());
    let calls = futures_util::stream::iter(0..CALLS).map(|n| {
        let request = client.post(&target).header(CONTENT_TYPE, "application/json");
        request.body(json!({"SessionId": format!("s-{n}")}).to_string()).send()
    });
    let answered = calls.buffer_unordered(64).filter(|reply| ready(reply.is_ok())).count().await;
    let stats = desk.stats();
    assert_eq!((answered, stats.code(ApiCommand::Transfer, 0)), (CALLS, CALLS as u64));
    assert_eq!((stats.transfers_acted, stats.sessions), (CALLS as u64, CALLS as u64));
    assert_eq!((stats.in_flight, stats.max_overlap), (0, 1));
    assert_eq!(stats.duplicate_randoms, CALLS as u64 - 1);
    let by_second: u64 = stats.of(ApiCommand::Transfer).per_second.iter().map(|s| s.calls).sum();
    assert_eq!(by_second, CALLS as u64);
}
