//! Sends spans to a collector: OTLP over HTTP, as protobuf.
//!
//! The thread of the SDK's batch processor does all of it, in a small runtime of its own, so that a
//! collector that is slow or away costs the service nothing: spans beyond the processor's queue are
//! dropped. The SDK reads the `OTEL_*` variables of the environment itself.

use std::fmt;

use anyhow::Context as _;
use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use tokio::runtime::Runtime;

use crate::telemetry::log_throttle::{LogThrottle, warn_throttled};

/// The path of the collector that takes spans.
const PATH: &str = "/v1/traces";

/// An exporter to this collector; `None`: to the one of the environment, or of this machine.
pub(super) fn exporter(endpoint: Option<&str>) -> anyhow::Result<SpanExporter> {
    let builder = SpanExporter::builder().with_http().with_http_client(ExportClient::new()?);
    let builder = match endpoint {
        Some(base) => builder.with_endpoint(format!("{}{PATH}", base.trim_end_matches('/'))),
        None => builder,
    };
    builder.build().context("failed to set up the export of traces")
}

struct ExportClient {
    http: reqwest::Client,
    /// Taken when this is dropped: a runtime cannot be dropped inside another one.
    runtime: Option<Runtime>,
    throttle: LogThrottle,
}

impl ExportClient {
    fn new() -> anyhow::Result<Self> {
        // Fails only if another provider is installed already, which is used then.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder()
            .user_agent(concat!("handoff/", env!("CARGO_PKG_VERSION")))
            .timeout(opentelemetry_otlp::OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT)
            .redirect(reqwest::redirect::Policy::none())
            // Nothing polls a connection between two exports, so none is kept.
            .pool_max_idle_per_host(0)
            .build()
            .context("failed to set up the HTTP client of traces")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { http, runtime: Some(runtime), throttle: LogThrottle::default() })
    }

    async fn exchange(&self, request: Request<Bytes>) -> anyhow::Result<Response<Bytes>> {
        let request = reqwest::Request::try_from(request)?;
        let mut response = self.http.execute(request).await.map_err(reqwest::Error::without_url)?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let body = response.bytes().await.map_err(reqwest::Error::without_url)?;
        let mut response = Response::builder().status(status).body(body)?;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

impl fmt::Debug for ExportClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExportClient")
    }
}

#[async_trait]
impl HttpClient for ExportClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let Some(runtime) = &self.runtime else { return Err("the exporter has ended".into()) };
        let result = runtime.block_on(self.exchange(request));
        let error = match &result {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("the collector answered {}", response.status())),
            Err(error) => Some(format!("{error:#}")),
        };
        if let Some(error) = error {
            warn_throttled!(self.throttle, error, "failed to export traces");
        }
        result.map_err(Into::into)
    }
}

impl Drop for ExportClient {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
