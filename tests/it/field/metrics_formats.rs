//! `/metrics` of a real worker: for scrapers that read only Prometheus' older text format, and for those
//! that ask for OpenMetrics (once all got OpenMetrics, which the older parsers refuse); as docs/metrics.md
//! describes it; and by the rules of Prometheus, as far as its tool is there.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use handoff::sim::desk::SimulatedDeskSettings;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::support::kafka::Record;
use crate::support::worker::{TIME_LIMIT, World, escalation, free_port};
use crate::tidy::assert_documented;

/// A shadow route has a metric of its own.
const SHADOW_ROUTE: &str = r#"
[[routes]]
name = "night"
shadow = true
when = { tier = "vip" }
targets = [{ group = 7 }]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn each_scraper_gets_the_documented_metrics_in_the_format_that_it_reads() {
    let mut world = World::new("formats", 1, SimulatedDeskSettings::default()).await;
    let port = free_port();
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    world.set("DESK__QUOTA_PER_SECOND", "50");
    world.configure(SHADOW_ROUTE);
    let worker = world.process();
    world.publish([escalation("e1", "s1"), json!({"type": "chat", "session_id": "s2"})]).await;
    world.publish_raw([Record::new("s3", "not JSON")]).await;
    world.outcomes(1).await;
    let scraper = Scraper::new(port);
    scraper.wait_for("\nhandoff_dead_letters_total{class=\"not_json\"} 1\n").await;
    scraper.wait_for("\nhandoff_records_skipped_total{reason=\"other_type\"} 1\n").await;
    scraper.wait_for("\nhandoff_events_decoded_total{dialect=\"native\"} 1\n").await;
    let answered = "\nhandoff_outcomes_total{status=\"assigned\",route=\"none\"} 1\n";
    scraper.wait_for(answered).await;
    scraper.wait_for("\nhandoff_consumer_lag{").await;
    scraper.wait_for("\nhandoff_topic_partitions 1\n").await;
    scraper.wait_for("\nhandoff_quota_share 1.0\n").await;

    let (kind, text) = scraper.scrape("*/*").await;
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    assert!(text.contains("# TYPE handoff_outcomes_total counter\n"), "{text}");
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    assert!(!text.contains("\nhandoff_signature_expiry_timestamp_seconds 0.0\n"), "{text}");
    assert_documented(&text);
    assert_clean(&text);

    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2";
    let (kind, text) = scraper.scrape(prometheus).await;
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(text.contains("# TYPE handoff_outcomes counter\n"), "{text}");
    assert!(text.contains(answered), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    worker.terminate().await;
}

/// Prometheus' own tool finds nothing to say. It is not installed everywhere; CI has it.
fn assert_clean(text: &str) {
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = started else {
        eprintln!("promtool is missing (Debian package prometheus): its rules are not checked");
        return;
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    let said = [checked.stdout, checked.stderr].map(|said| String::from_utf8(said).unwrap());
    assert!(checked.status.success() && said.concat().is_empty(), "{said:?}\n{text}");
}

struct Scraper {
    client: reqwest::Client,
    url: String,
}

impl Scraper {
    fn new(port: u16) -> Self {
        // Fails if another test of this process has already installed it.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
        Self { client, url: format!("http://127.0.0.1:{port}/metrics") }
    }

    /// The type and the text of the answer.
    async fn scrape(&self, accept: &str) -> (String, String) {
        let request = self.client.get(&self.url).header("accept", accept);
        let response = request.send().await.expect("the admin port answers");
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        (kind, response.text().await.unwrap())
    }

    async fn wait_for(&self, sample: &str) {
        let deadline = Instant::now() + TIME_LIMIT;
        loop {
            let (_, text) = self.scrape("*/*").await;
            if text.contains(sample) {
                return;
            }
            assert!(Instant::now() < deadline, "{sample} in:\n{text}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}
