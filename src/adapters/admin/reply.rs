//! Answers that are one sentence, and numbers that readers keep exact.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};

/// A refusal in one sentence.
pub(super) struct AdminRefusal {
    status: StatusCode,
    text: String,
    header: Option<(header::HeaderName, &'static str)>,
}

impl AdminRefusal {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), header: None }
    }

    pub(super) fn with_header(self, name: header::HeaderName, value: &'static str) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    pub(super) fn unavailable(error: &anyhow::Error) -> Self {
        let text = format!("the ledger cannot be read: {error:#}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

impl IntoResponse for AdminRefusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.text + "\n").into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, header::HeaderValue::from_static(value));
        }
        response
    }
}

/// A whole number, as text beyond 2^53: there the numbers of JavaScript are not exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExactNumber(pub(super) u64);

impl Serialize for ExactNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 < 1 << 53 {
            serializer.serialize_u64(self.0)
        } else {
            serializer.collect_str(&self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_javascript_would_change_is_text() {
        let json = |number| serde_json::to_string(&ExactNumber(number)).unwrap();
        assert_eq!(json((1 << 53) - 1), "9007199254740991");
        assert_eq!(json(1 << 53), "\"9007199254740992\"");
    }
}
