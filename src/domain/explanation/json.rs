//! An explanation for programs: docs/formats.md describes it.

use serde_json::{Value, json};

use super::{
    Conclusion, ExplainedCall, ExplainedEnding, ExplainedEvent, ExplainedHours, ExplainedRecord,
    Explanation, RecordToExplain,
};
use crate::domain::event::{Event, TransferOptions};
use crate::domain::route::{ExaminedRoute, OutsideHours, RouteStanding};
use crate::domain::wire::ignored_fields::ignored_fields;
use crate::domain::wire::reading::{FormatResult, ReadingStep};

/// The explanation as one object.
pub fn object(record: &RecordToExplain, explanation: &Explanation) -> Value {
    let conclusion = Conclusion::of(explanation);
    let mut object = json!({
        "read_at": record.now,
        "source": record.has_position.then_some(&record.record.position),
        "result": conclusion.word,
        "why": conclusion.text,
        "reading": explanation.steps.iter().map(step).collect::<Vec<_>>(),
    });
    match &explanation.record {
        ExplainedRecord::NotForUs(skip) => {
            let (reason, remedy) = (skip.reason.as_str(), skip.reason.remedy());
            object["skipped"] = json!({"reason": reason, "remedy": remedy});
        }
        ExplainedRecord::Malformed(malformed) => {
            object["dead_letter"] =
                json!({"class": malformed.class.as_str(), "error": malformed.error});
        }
        ExplainedRecord::Event(explained) => {
            object["escalation"] = escalation(&explained.event, record);
            let value = record.record.value.as_deref().unwrap_or_default();
            let ignored = ignored_fields(value, &explanation.steps);
            object["escalation"]["ignored"] = ignored.into_iter().map(|field| field.name).collect();
            object["routes"] = explained.routes.iter().map(route).collect();
            object["hours"] = explained.hours.as_ref().map(hours).into();
            object["calls"] = explained.calls.iter().map(call).collect();
            object["has_interim"] = explained.has_interim.into();
            object["ending"] = ending(explained);
        }
    }
    object
}

fn step(step: &ReadingStep) -> Value {
    match step {
        ReadingStep::Unwrapped(envelope) => json!({"step": "unwrapped", "envelope": envelope}),
        ReadingStep::Skipped(why) => json!({"step": "skipped", "why": why}),
        ReadingStep::Mapped { field, source, is_found } => {
            json!({"step": "mapped", "field": field, "from": source, "found": is_found})
        }
        ReadingStep::Tried { format, result } => {
            let (result, why) = match result {
                FormatResult::Recognised => ("recognised", None),
                FormatResult::Unrecognised(why) => ("unrecognised", Some(why)),
                FormatResult::NotForUs(why) => ("not_for_us", Some(why)),
                FormatResult::Malformed => ("malformed", None),
            };
            json!({"step": "tried", "format": format, "result": result, "why": why})
        }
    }
}

fn escalation(event: &Event, record: &RecordToExplain) -> Value {
    let is_position = *event.id == *event.source.to_string();
    let id = Some(&event.id).filter(|_| !is_position || record.has_position);
    let mut object = json!({
        "event_id": id,
        "session_id": event.session_id,
        "requested_at": event.requested_at,
        "deadline": event.deadline,
        "notes": event.notes,
    });
    match &event.request {
        Err(problem) => object["invalid"] = json!(problem),
        Ok(request) => {
            let target = &request.requested_target;
            object["reason"] = json!(request.reason);
            object["target"] =
                json!({"agents": target.agents, "group": target.group, "strict": target.strict});
            object["priority"] = json!(request.priority);
            object["attributes"] = json!(request.attributes);
            object["options"] = options(&request.options);
        }
    }
    object
}

fn options(options: &TransferOptions) -> Value {
    let flags = [
        options.send_tip_if_no_agent_online,
        options.check_if_during_working_hours,
        options.send_prompt_not_during_working_hours,
        options.end_session_when_no_member_online,
        options.disable_queuing,
        options.allow_assign_busy_member,
    ];
    let values = flags.map(|flag| json!(flag)).into_iter().chain([json!(options.queue_timeout)]);
    let named = TransferOptions::NAMES.into_iter().zip(values);
    named
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn route(ExaminedRoute { name, shadow, standing }: &ExaminedRoute) -> Value {
    let (result, why) = match standing {
        RouteStanding::Used => ("used", None),
        RouteStanding::UsedInShadow => ("counted", None),
        RouteStanding::NotUsed(why) => ("not_used", Some(why)),
    };
    json!({"name": name, "shadow": shadow, "result": result, "why": why})
}

fn hours(hours: &ExplainedHours) -> Value {
    let outside = match hours.outside {
        OutsideHours::Answer => "answer",
        OutsideHours::ParkUntilOpen => "park_until_open",
    };
    json!({
        "name": hours.name, "open": hours.is_open, "opens_at": hours.opens_at,
        "outside_hours": outside,
    })
}

fn call(ExplainedCall { target, body }: &ExplainedCall) -> Value {
    json!({"target": target, "body": String::from_utf8_lossy(body)})
}

fn ending(explained: &ExplainedEvent) -> Value {
    match &explained.ending {
        ExplainedEnding::Outcome(outcome) => json!({
            "then": "outcome", "status": outcome.status, "reason": outcome.reason,
            "opens_at": outcome.opens_at,
        }),
        ExplainedEnding::TriedAgain(wait) => {
            json!({"then": "tried_again", "wait_s": wait.as_secs_f64()})
        }
        ExplainedEnding::Parked(wait) => json!({"then": "parked", "wait_s": wait.as_secs_f64()}),
        ExplainedEnding::NotKnown => json!({"then": "not_known"}),
    }
}
