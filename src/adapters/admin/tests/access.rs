//! Who may ask for what, and what an operator may do.

use std::time::Duration;

use axum::http::{StatusCode, header};
use serde_json::{Value, json};

use super::super::AdminSettings;
use super::{Port, ended};

#[tokio::test]
async fn foreign_names_are_refused_and_browsers_are_told_to_be_careful() {
    let port = Port::open(AdminSettings::default()).await;
    for path in ["/", "/status", "/live", "/events", "/page.js"] {
        let request = port.get(path).header(header::HOST, "evil.example:9464");
        let (status, text) = ended(request.send().await).await;
        assert_eq!(status, 403, "{path}: {text}");
        assert!(text.contains("`admin.hosts`"), "{text}");
    }
    for path in ["/health", "/ready", "/metrics"] {
        let request = port.get(path).header(header::HOST, "evil.example:9464");
        assert_eq!(ended(request.send().await).await.0, 200, "{path}");
    }
    let response = port.get("/").send().await.unwrap();
    let headers = response.headers().clone();
    assert!(headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["referrer-policy"], "no-referrer");
    assert_eq!(headers["cache-control"], "no-store");
    let page = response.text().await.unwrap();
    assert!(page.contains("<td>all well</td>"), "without JavaScript: {page}");
}

/// A token is read again after a second.
const MORE_THAN_A_SECOND: Duration = Duration::from_millis(1_100);

/// A file with a token.
fn token() -> (tempfile::NamedTempFile, AdminSettings) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "the-token\n").unwrap();
    let token_file = Some(file.path().to_owned());
    (file, AdminSettings { token_file, ..AdminSettings::default() })
}

#[tokio::test]
async fn what_others_can_reach_needs_the_token() {
    let (file, settings) = token();
    let port = Port::on("0.0.0.0:0", settings).await;
    for path in ["/health", "/ready", "/metrics", "/", "/page.css"] {
        assert_eq!(ended(port.get(path).send().await).await.0, 200, "{path}");
    }
    let page = ended(port.get("/").send().await).await.1;
    assert!(!page.contains("all well"), "{page}");
    for path in ["/status", "/live", "/events", "/events/evt-1"] {
        let response = port.get(path).send().await.unwrap();
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        let (status, _) = ended(port.get(path).bearer_auth("the-tokem").send().await).await;
        assert_eq!(status, 401, "{path}");
    }
    assert_eq!(ended(port.post("/explain", "{}").send().await).await.0, 401);
    assert_eq!(ended(port.get("/status").bearer_auth("the-token").send().await).await.0, 200);
    std::fs::write(file.path(), "another").unwrap();
    tokio::time::sleep(MORE_THAN_A_SECOND).await;
    assert_eq!(ended(port.get("/status").bearer_auth("the-token").send().await).await.0, 401);
    assert_eq!(ended(port.get("/status").bearer_auth("another").send().await).await.0, 200);
    std::fs::remove_file(file.path()).unwrap();
    tokio::time::sleep(MORE_THAN_A_SECOND).await;
    assert_eq!(ended(port.get("/status").bearer_auth("another").send().await).await.0, 503);

    let without = Port::on("0.0.0.0:0", AdminSettings::default()).await;
    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(ended(without.get(path).send().await).await.0, 200, "{path}");
    }
    let (status, text) = ended(without.get("/status").send().await).await;
    assert_eq!((status, text.contains("`admin.token_file`")), (403, true), "{text}");
}

#[tokio::test]
async fn actions_exist_only_with_a_token() {
    let without = Port::open(AdminSettings::default()).await;
    for path in ["/events/evt-1/retry", "/intake/pause"] {
        let (status, text) = ended(without.post(path, "").bearer_auth("x").send().await).await;
        assert_eq!((status, text.contains("`admin.token_file`")), (404, true), "{text}");
    }
    assert!(!without.view.activity.intake_is_paused());

    let (_file, settings) = token();
    let port = Port::open(settings).await;
    let (status, _) = ended(port.post("/intake/pause", "").send().await).await;
    assert_eq!(status, 401, "on a loopback address, too");
    assert!(!port.view.activity.intake_is_paused());
    let act = async |path: &str, body: &str| {
        let (status, text) =
            ended(port.post(path, body).bearer_auth("the-token").send().await).await;
        (status, serde_json::from_str::<Value>(&text).unwrap_or(json!(text)))
    };
    assert_eq!(act("/intake/pause", r#"{"by":"ann"}"#).await.1["result"], "done");
    assert_eq!(act("/intake/pause", "").await.1["result"], "already");
    let paused = port.json("/status").await;
    assert_eq!(paused["now"]["intake"], "paused");
    assert_eq!(paused["headline"]["what"], "the intake is paused by ann");
    assert_eq!(paused["headline"]["since"], "2026-11-30T03:00:00Z");
    assert_eq!(paused["service"]["actions"], true);
    assert_eq!(ended(port.get("/ready").send().await).await.0, 200, "an operator wanted it");
    let scraped = async || ended(port.get("/metrics").send().await).await.1;
    let sample = |paused: u8| format!("\nhandoff_intake_paused{{why=\"operator\"}} {paused}\n");
    assert!(scraped().await.contains(&sample(1)));
    assert_eq!(act("/intake/resume", "").await.1["result"], "done");
    assert!(scraped().await.contains(&sample(0)));
    assert!(!port.view.activity.intake_is_paused());
    for (path, body) in [
        ("/intake/pause", r#"{"who":"ann"}"#),
        ("/intake/pause", r#"{"by":"a\nb"}"#),
        ("/events/evt-1/give-up", "{}"),
    ] {
        assert_eq!(act(path, body).await.0, 400, "{path} {body}");
    }
    assert_eq!(act("/intake/stop", "").await.0, 404);
    assert_eq!(act("/events/evt-1/forget", "").await.0, 404);
    assert_eq!(act("/events/evt-1/retry", "").await.0, 503, "there is no ledger here");
}
