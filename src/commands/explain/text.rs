//! An explanation for people.

use std::fmt::Display;

use anstyle::Style;
use jiff::Timestamp;
use serde_json::Value;

use super::{Conclusion, RecordToExplain};
use crate::commands::lines::{sanitize, styled};
use crate::commands::values::time_and_distance;
use crate::domain::event::{Event, TransferRequest};
use crate::domain::explanation::{ExplainedEnding, ExplainedEvent, ExplainedRecord, Explanation};
use crate::domain::request::DeskCommand;
use crate::domain::route::{ExaminedRoute, OutsideHours, RouteStanding};
use crate::domain::target::Target;
use crate::domain::wire::ignored_fields::{IgnoredField, ignored_fields};
use crate::domain::wire::reading::{FormatResult, ReadingStep};

/// The lines of one explanation.
pub(super) fn lines(record: &RecordToExplain, explanation: &Explanation) -> Vec<String> {
    let mut text = ExplanationText(Vec::new());
    let conclusion = Conclusion::of(explanation);
    text.put_record(record);
    text.put("read at", record.now);
    text.put("result", conclusion.text);
    text.put_reading(&explanation.steps);
    if let ExplainedRecord::Event(explained) = &explanation.record {
        text.put_event(&explained.event, record);
        let value = record.record.value.as_deref().unwrap_or_default();
        for IgnoredField { name, known } in ignored_fields(value, &explanation.steps) {
            let known = known.join(", ");
            text.put_inside("ignored", format!("{name}: the service knows {known}"));
        }
        text.put_routes(explained);
        text.put_calls(explained, record.now);
    }
    text.0
}

/// Lines of a name and a text, in sections.
struct ExplanationText(Vec<String>);

impl ExplanationText {
    fn section(&mut self, title: &str) {
        self.0.extend([String::new(), styled(Style::new().bold(), title)]);
    }

    fn put(&mut self, name: &str, text: impl Display) {
        self.0.push(sanitize(&format!("{name:<13} {text}")));
    }

    /// The same inside a section.
    fn put_inside(&mut self, name: &str, text: impl Display) {
        self.0.push(sanitize(&format!("  {name:<13} {text}")));
    }

    fn put_record(&mut self, RecordToExplain { record, has_position, .. }: &RecordToExplain) {
        let mut parts = Vec::new();
        if *has_position {
            parts.push(record.position.to_string());
        }
        parts.push(match &record.value {
            Some(value) => format!("{} bytes", value.len()),
            None => "null".to_owned(),
        });
        match record.key.as_deref().map(String::from_utf8_lossy) {
            Some(key) => parts.push(format!("key {key:?}")),
            None => parts.push("no key".to_owned()),
        }
        let names: Vec<_> = record.headers.iter().map(|(name, _)| name.as_str()).collect();
        if !names.is_empty() {
            parts.push(format!("headers {}", names.join(" ")));
        }
        if let Some(written) = record.timestamp.filter(|_| *has_position) {
            parts.push(format!("written {written:.3}"));
        }
        self.put("record", parts.join(", "));
    }

    fn put_reading(&mut self, steps: &[ReadingStep]) {
        self.section("Reading");
        for step in steps {
            match step {
                ReadingStep::Unwrapped(envelope) => {
                    self.put_inside("envelope", format!("{envelope}: removed"));
                }
                ReadingStep::Skipped(why) => self.put_inside("skipped", why),
                ReadingStep::Tried { format, result } => {
                    let text = match result {
                        FormatResult::Recognised => "yes".to_owned(),
                        FormatResult::Unrecognised(why) => format!("no: {why}"),
                        FormatResult::NotForUs(why) => format!("not for us: {why}"),
                        FormatResult::Malformed => "malformed".to_owned(),
                    };
                    self.put_inside(format, text);
                }
                ReadingStep::Mapped { .. } => {}
            }
        }
        for step in steps {
            if let ReadingStep::Mapped { field, source, is_found } = step {
                let nothing = if *is_found { "" } else { ": nothing there" };
                self.put_inside("mapped", format!("{field} from {source}{nothing}"));
            }
        }
    }

    fn put_event(&mut self, event: &Event, record: &RecordToExplain) {
        self.section("Escalation");
        self.put_inside("session", &event.session_id);
        if *event.id == *event.source.to_string() {
            let position =
                if record.has_position { format!(": {}", event.id) } else { String::new() };
            self.put_inside("id", format!("none; known by the position of its record{position}"));
        } else {
            self.put_inside("id", &event.id);
        }
        self.put_inside("requested at", time_and_distance(event.requested_at, record.now));
        self.put_inside("deadline", time_and_distance(event.deadline, record.now));
        match &event.request {
            Ok(request) => self.put_request(request),
            Err(problem) => self.put_inside("invalid", problem),
        }
        event.notes.iter().for_each(|note| self.put_inside("note", note));
    }

    fn put_request(&mut self, request: &TransferRequest) {
        if let Some(reason) = &request.reason {
            self.put_inside("reason", reason);
        }
        let requested = &request.requested_target;
        if !requested.agents.is_empty() || requested.group.is_some() {
            let (agents, group) = (requested.agents.clone(), requested.group);
            let only = if requested.strict { ", and nobody else" } else { "" };
            let target = Target::Named { agents, group }.words();
            self.put_inside("target", format!("{target}{only}"));
        }
        if let Some(priority) = request.priority {
            self.put_inside("priority", priority);
        }
        for (name, value) in &request.attributes {
            self.put_inside("attribute", format!("{name} = {value:?}"));
        }
    }

    fn put_routes(&mut self, explained: &ExplainedEvent) {
        if explained.routes.is_empty() {
            return;
        }
        self.section("Routes: the first that matches is used");
        for ExaminedRoute { name, shadow, standing } in &explained.routes {
            let text = match standing {
                RouteStanding::Used => "used".to_owned(),
                RouteStanding::UsedInShadow => "counted: it matches, as a shadow route".to_owned(),
                RouteStanding::NotUsed(why) => format!("not used: {why}"),
            };
            let mark = if *shadow { " (shadow)" } else { "" };
            self.put_inside(&format!("{name}{mark}"), text);
        }
        if let Some(hours) = &explained.hours {
            let follows = match hours.outside {
                OutsideHours::Answer => "answered at once",
                OutsideHours::ParkUntilOpen => "parked until they open",
            };
            let text = match hours.opens_at {
                _ if hours.is_open => "open".to_owned(),
                Some(opens_at) => format!("closed until {opens_at}: {follows}"),
                None => format!("closed for good: {follows}"),
            };
            self.put_inside("hours", format!("{:?} {text}", hours.name));
        }
    }

    fn put_calls(&mut self, explained: &ExplainedEvent, now: Timestamp) {
        let ExplainedEvent { calls, ending, event, .. } = explained;
        if !calls.is_empty() {
            self.section("Calls: one after the other, until an agent or the queue has the session");
        }
        for (number, call) in calls.iter().enumerate() {
            let command = DeskCommand::TransferToHuman.as_str();
            let body = String::from_utf8_lossy(&call.body);
            self.put_inside(&(number + 1).to_string(), call.target.words());
            self.put_inside("", format!("{command} {body}"));
        }
        self.section(if calls.is_empty() { "Instead of a call" } else { "If nobody is online" });
        if explained.has_interim {
            self.put_inside("interim", "an outcome no_agent_online with \"final\": false");
        }
        match ending {
            ExplainedEnding::Outcome(outcome) => {
                self.put_inside("outcome", outcome.status);
                self.put_inside("reason", outcome.reason.as_deref().unwrap_or_default());
                if let Some(opens_at) = outcome.opens_at {
                    self.put_inside("opens at", opens_at);
                }
            }
            ExplainedEnding::TriedAgain(wait) => {
                let wait = Value::from(wait.as_secs_f64());
                let deadline = event.deadline;
                self.put_inside(
                    "then",
                    format!("all calls again after {wait} s, until {deadline}"),
                );
            }
            ExplainedEnding::Parked(wait) => {
                let opens_at = now.saturating_add(*wait).unwrap_or(Timestamp::MAX);
                let again = format!("parked until {opens_at}; --now {opens_at} shows what follows");
                self.put_inside("then", again);
            }
            ExplainedEnding::NotKnown => {
                self.put_inside("not known", "desk.verdicts leaves no code for it");
            }
        }
    }
}
