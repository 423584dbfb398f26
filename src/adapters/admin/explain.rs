//! `POST /explain`: what would be done with a record whose value is the body, as `handoff explain
//! --json` says it. Nothing is stored, called or published.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::Value;

use super::{Admin, View};
use crate::domain::explanation::{RecordToExplain, explain as explained, object};
use crate::domain::record::{Position, Record};

/// `POST /explain`.
pub(super) async fn explain(State(admin): State<Admin>, body: Bytes) -> impl IntoResponse {
    let now = admin.view.clock.now();
    let record = Record {
        position: Position { topic: admin.view.about.topic.clone(), partition: -1, offset: -1 },
        timestamp: Some(now),
        key: None,
        value: Some(body.to_vec()),
        headers: vec![],
    };
    let shown = RecordToExplain { record, has_position: false, now };
    let json = admin.view.explanation(&shown).to_string();
    ([(header::CONTENT_TYPE, "application/json")], json)
}

impl View {
    /// What would be done with a record, by the rules of this moment.
    pub(super) fn explanation(&self, record: &RecordToExplain) -> Value {
        let policy = self.policy.current();
        let explanation = explained(&record.record, &self.rules.current(), &policy, record.now);
        object(record, &explanation)
    }
}
