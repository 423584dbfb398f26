//! The dashboard and the alerts on a real Prometheus (Debian's package prometheus) that scrapes
//! `handoff demo --serve`: every expression returns data at some time.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::support::worker::free_port;

/// The demo makes each of its faults within this time.
const LIMIT: Duration = Duration::from_secs(300);

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        self.0.kill().unwrap_or_default();
        drop(self.0.wait());
    }
}

fn start(program: &str, args: &[&str]) -> Running {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().unwrap_or_else(|error| panic!("{program} does not start: {error}")))
}

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The expressions of the dashboard, with values for Grafana's variables.
fn expressions() -> Vec<String> {
    let dashboard: Value =
        serde_json::from_str(&file("deploy/grafana/dashboards/handoff.json")).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter().filter_map(|panel| {
        let targets = panel["targets"].as_array()?;
        Some(targets.iter().map(|target| target["expr"].as_str().unwrap().to_owned()))
    });
    let values =
        [("$job", "handoff"), ("$instance", ".*"), ("$__rate_interval", "10s"), ("$__range", "2m")];
    let with_values = |expression: String| {
        values.iter().fold(expression, |text, (variable, value)| text.replace(variable, value))
    };
    targets.flatten().map(with_values).collect()
}

struct Prometheus {
    client: reqwest::Client,
    port: u16,
}

impl Prometheus {
    async fn get(&self, path: &str, query: &str) -> Option<Value> {
        let mut url =
            reqwest::Url::parse(&format!("http://127.0.0.1:{}{path}", self.port)).unwrap();
        if !query.is_empty() {
            url.query_pairs_mut().append_pair("query", query);
        }
        let text = self.client.get(url).send().await.ok()?.text().await.ok()?;
        let answer: Value = serde_json::from_str(&text).ok()?;
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        Some(answer["data"].clone())
    }

    /// Whether the expression has a number at this moment.
    async fn has_data(&self, expression: &str) -> bool {
        let data = self.get("/api/v1/query", expression).await.unwrap_or_default();
        let series = data["result"].as_array().cloned().unwrap_or_default();
        series.iter().any(|series| series["value"][1].as_str().is_some_and(|value| value != "NaN"))
    }
}

#[tokio::test]
#[ignore = "takes minutes, and needs Prometheus"]
async fn every_expression_of_the_dashboard_has_data() {
    // Fails if another test of this process has already installed it.
    drop(rustls::crypto::ring::default_provider().install_default());
    let folder = tempfile::tempdir().unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let _demo = start(env!("CARGO_BIN_EXE_handoff"), &["demo", "--serve", "--listen", &listen]);
    let rules = folder.path().join("handoff.rules.yml");
    std::fs::write(&rules, file("deploy/prometheus/handoff.rules.yml")).unwrap();
    let configuration = folder.path().join("prometheus.yml");
    let text = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
         rule_files: [handoff.rules.yml]\n\
         scrape_configs: [{{ job_name: handoff, static_configs: [{{ targets: [\"{listen}\"] }}] }}]\n"
    );
    std::fs::write(&configuration, text).unwrap();
    let port = free_port();
    let _server = start(
        "prometheus",
        &[
            &format!("--config.file={}", configuration.display()),
            &format!("--storage.tsdb.path={}", folder.path().join("data").display()),
            &format!("--web.listen-address=127.0.0.1:{port}"),
        ],
    );
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let prometheus = Prometheus { client, port };

    let mut without: Vec<String> = expressions();
    assert!(without.len() > 20);
    let begun = Instant::now();
    while begun.elapsed() < LIMIT && !without.is_empty() {
        sleep(Duration::from_secs(2)).await;
        let mut still = Vec::new();
        for expression in without {
            if !prometheus.has_data(&expression).await {
                still.push(expression);
            }
        }
        without = still;
    }
    println!("all had data after {:?}", begun.elapsed());
    assert!(without.is_empty(), "no data:\n{without:#?}");

    let groups = prometheus.get("/api/v1/rules", "").await.unwrap();
    let alerts = groups["groups"][0]["rules"].as_array().unwrap();
    assert!(alerts.len() > 10, "{groups}");
    let broken: Vec<_> = alerts.iter().filter(|alert| alert["health"] != "ok").collect();
    assert!(broken.is_empty(), "{broken:#?}");
}
