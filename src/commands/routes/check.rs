//! What would be done with an example, compared with what is expected.

use std::sync::Arc;

use jiff::Timestamp;

use super::cases::{ExpectedOpening, RouteCase};
use crate::config::ToolConfig;
use crate::domain::event::TransferRequest;
use crate::domain::plan::Plan;
use crate::domain::record::{Position, Record};
use crate::domain::route::RouteMatch;
use crate::domain::target::Target;
use crate::domain::wire::escalation::{DecodeRules, Decoded, decode};

/// Something that is not as expected.
pub(super) struct CaseDifference {
    /// The key of the case.
    pub(super) field: &'static str,
    pub(super) expected: String,
    pub(super) found: String,
    /// Why the expected route is not used.
    pub(super) why: Option<String>,
}

/// The differences of a case; `now` is for one without a time.
pub(super) fn differences(
    case: &RouteCase,
    config: &ToolConfig,
    now: Timestamp,
) -> Vec<CaseDifference> {
    let at = case.at.unwrap_or(now);
    let request = match request_of(case, config, at) {
        Ok(request) => request,
        Err(found) => {
            let expected = "an escalation for which Desk is called".to_owned();
            return vec![CaseDifference { field: "event", expected, found, why: None }];
        }
    };
    let policy = &config.policy;
    let RouteMatch { route, shadows } = policy.routes.find(&request, at);
    let mut differences = Vec::new();
    let mut compare = |field, expected: String, found: String, why| {
        if expected != found {
            differences.push(CaseDifference { field, expected, found, why });
        }
    };
    let found = route.map_or("", |route| &route.name);
    let why = policy.routes.why_not(&case.route, &request, at);
    compare("route", quoted(&case.route), quoted(found), why);
    if let Some(expected) = &case.targets {
        let plan = Plan::new(&request.requested_target, route, policy.default_target);
        compare("targets", words(expected), words(plan.targets()), None);
    }
    if let Some(expected) = &case.shadows {
        let found: Vec<_> = shadows.iter().map(|route| route.name.clone()).collect();
        compare("shadows", expected.join(", "), found.join(", "), None);
    }
    if let Some(expected) = case.opening {
        let closed = route.and_then(|route| route.closed(at));
        let found = match closed.map(|opening| opening.hours.opens_at(at)) {
            None => "open".to_owned(),
            Some(None) => "never".to_owned(),
            Some(Some(opens_at)) => opens_at.to_string(),
        };
        let expected = match expected {
            ExpectedOpening::Open => "open".to_owned(),
            ExpectedOpening::OpensAt(opens_at) => opens_at.to_string(),
        };
        compare("opens_at", expected, found, None);
    }
    differences
}

/// The request of the example, which is an escalation whatever the dialects of the topic are; or why
/// there is none.
fn request_of(
    case: &RouteCase,
    config: &ToolConfig,
    at: Timestamp,
) -> Result<TransferRequest, String> {
    let record = Record {
        position: Position { topic: "cases".into(), partition: 0, offset: 0 },
        timestamp: Some(at),
        key: None,
        value: Some(case.event.to_string().into_bytes()),
        headers: Vec::new(),
    };
    let rules = DecodeRules { input: Arc::default(), ..config.rules.clone() };
    match decode(&record, &rules, at) {
        Decoded::Event(event) => event.request.map_err(|problem| format!("rejected: {problem}")),
        Decoded::Malformed(malformed) => Err(format!("a dead letter: {}", malformed.error)),
        Decoded::NotForUs(skip) => Err(format!("skipped: {}", skip.why)),
    }
}

fn quoted(route: &str) -> String {
    if route.is_empty() { "no route".to_owned() } else { format!("{route:?}") }
}

fn words(targets: &[Target]) -> String {
    targets.iter().map(Target::words).collect::<Vec<_>>().join(", then ")
}
