//! What machines ask: `/health`, `/ready` and `/metrics`. They need no token and no name of the host.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;

use super::Admin;
use super::unfinished_sums::{ParkedSums, UnfinishedSums};
use crate::domain::problem::Problem;
use crate::telemetry::MetricsFormat;

pub(super) async fn health(State(admin): State<Admin>) -> (StatusCode, String) {
    probe_result(admin.view.stalled())
}

pub(super) async fn ready(State(admin): State<Admin>) -> (StatusCode, String) {
    probe_result(admin.view.not_ready())
}

pub(super) async fn metrics(State(admin): State<Admin>, headers: HeaderMap) -> impl IntoResponse {
    let view = &admin.view;
    view.metrics.healthy.set(i64::from(view.stalled().is_none()));
    view.metrics.ready.set(i64::from(view.not_ready().is_none()));
    view.metrics.ledger_up.set(i64::from((view.outage)().is_none()));
    view.metrics.paused_by_operator.set(i64::from(view.activity.intake_is_paused()));
    view.gate.report_rates();
    let unfinished = view.activity.unfinished_events().all();
    let waits = admin.totals.current(Duration::ZERO).await;
    let parked = ParkedSums { counted: view.metrics.parked(), waits: &waits };
    let sums = UnfinishedSums::of(&unfinished, &parked, view.gate.status().stage.is_held());
    let events = |problem: Problem| sums.by_problem.get(problem.as_str()).copied();
    view.metrics.unfinished_by_problem(|problem| events(problem).unwrap_or_default());
    let format = metrics_format(&headers);
    let content_type = match format {
        MetricsFormat::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        MetricsFormat::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
    };
    ([(header::CONTENT_TYPE, content_type)], view.metrics.render(format))
}

/// OpenMetrics for those who ask for it; the older format for all others.
fn metrics_format(headers: &HeaderMap) -> MetricsFormat {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let asks = accepted.flat_map(|value| value.split(',')).any(|media_type| {
        let mut parts = media_type.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let is_refused = parts.any(|part| part.strip_prefix("q=").is_some_and(is_zero));
        name.eq_ignore_ascii_case("application/openmetrics-text") && !is_refused
    });
    if asks { MetricsFormat::OpenMetrics } else { MetricsFormat::Prometheus }
}

fn is_zero(number: &str) -> bool {
    number.parse() == Ok(0.0)
}

fn probe_result(problem: Option<String>) -> (StatusCode, String) {
    match problem {
        None => (StatusCode::OK, "ok\n".into()),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, problem + "\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: Option<&'static str>, expected: MetricsFormat) {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(header::ACCEPT, accept.parse().unwrap());
        }
        assert_eq!(metrics_format(&headers), expected, "{accept:?}");
    }

    #[test]
    fn open_metrics_are_for_those_who_ask_for_them() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3,*/*;q=0.1";
        check(Some(prometheus), MetricsFormat::OpenMetrics);
        check(Some("Application/OpenMetrics-Text"), MetricsFormat::OpenMetrics);
        for accept in
            [None, Some("*/*"), Some("text/plain"), Some("application/openmetrics-text;q=0")]
        {
            check(accept, MetricsFormat::Prometheus);
        }
    }
}
