//! `/metrics` for scrapers that read only Prometheus' older text format, and for those that ask for
//! OpenMetrics. Once all got OpenMetrics, which the older parsers refuse.

use handoff::sim::desk::SimulatedDeskSettings;

use crate::support::worker::{World, free_port};

#[tokio::test(flavor = "multi_thread")]
async fn each_scraper_gets_the_format_that_it_reads() {
    let mut world = World::new("formats", 1, SimulatedDeskSettings::default()).await;
    let port = free_port();
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    let worker = world.process();
    let client = reqwest_client();
    let scrape = async |accept: &str| {
        let url = format!("http://127.0.0.1:{port}/metrics");
        for _ in 0..100 {
            let request = client.get(&url).header("accept", accept);
            if let Ok(response) = request.send().await {
                let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
                return (kind, response.text().await.unwrap());
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("the admin port does not answer");
    };

    let (kind, text) = scrape("*/*").await;
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    assert!(text.contains("# TYPE handoff_outcomes_total counter\n"), "{text}");
    assert!(text.contains("\nhandoff_outcomes_total{status=\"assigned\"} 0\n"), "{text}");
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");

    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2";
    let (kind, text) = scrape(prometheus).await;
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(text.contains("# TYPE handoff_outcomes counter\n"), "{text}");
    assert!(text.contains("\nhandoff_outcomes_total{status=\"assigned\"} 0\n"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    worker.terminate().await;
}

fn reqwest_client() -> reqwest::Client {
    // Fails if another test of this process has already installed it.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().no_proxy().build().expect("an HTTP client")
}
