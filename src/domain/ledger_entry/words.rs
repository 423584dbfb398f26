//! An entry, and what an operator did with it, in words for people.

use super::{EntryState, LedgerEntry, OperatorAct, OperatorRefusal, OperatorResult, WaitsFor};

/// The longest name or reason of an operator, in bytes: it becomes a part of the outcome.
const MAX_LINE_BYTES: usize = 300;

/// The state of an entry in one line, for people.
pub fn state_text(entry: &LedgerEntry) -> String {
    match &entry.state {
        EntryState::Open { .. } => format!("open: in work since {:.0}", entry.claimed_at),
        EntryState::Parked { until, waits_for: WaitsFor::Time } => {
            format!("parked until {until:.0}")
        }
        EntryState::Parked { until, waits_for } => {
            format!("parked until {until:.0} at the latest; waits for {}", words(waits_for))
        }
        EntryState::Settled { at } => format!("settled at {at:.0}, not known to be published"),
        EntryState::Published { at, position: None, .. } => format!("published at {at:.0}"),
        EntryState::Published { position: Some(position), .. } => {
            format!("published at {position}")
        }
    }
}

/// What a parked event waits for, for people.
fn words(waits_for: &WaitsFor) -> String {
    match waits_for {
        WaitsFor::Time => "its time".into(),
        WaitsFor::Session => "the answers to earlier events of its session".into(),
        WaitsFor::Agent(room) => format!("an agent of {room}"),
        WaitsFor::Redelivery => "the next delivery of its record".into(),
    }
}

/// What becomes of an event after an operator's act on `before`, or why nothing does.
pub fn operator_words(
    act: &OperatorAct,
    before: &LedgerEntry,
    result: &OperatorResult,
) -> Result<String, String> {
    Ok(match (result, act) {
        (OperatorResult::Stored(_), OperatorAct::Retry) => {
            "it is due; its owner tries it within a few seconds".into()
        }
        (OperatorResult::Already, OperatorAct::Retry) => "it is due already".into(),
        (OperatorResult::Stored(_), OperatorAct::GiveUp { .. }) => give_up_follows(before).into(),
        (OperatorResult::Already, OperatorAct::GiveUp { .. }) => {
            format!("{}; its owner ends it", given_up(before))
        }
        (OperatorResult::Refused(OperatorRefusal::Answered), OperatorAct::GiveUp { .. })
            if before.given_up().is_some() =>
        {
            let label = before.answer.as_deref().map_or("", |answer| answer.label());
            format!("{} and answered: {label}", given_up(before))
        }
        (OperatorResult::Refused(refusal), _) => return Err(why(*refusal, before)),
    })
}

fn given_up(entry: &LedgerEntry) -> String {
    match entry.given_up() {
        Some(given_up) => format!("it was given up by {} at {:.0}", given_up.by, given_up.at),
        None => "it was given up".into(),
    }
}

fn give_up_follows(before: &LedgerEntry) -> &'static str {
    match &before.state {
        EntryState::Parked { .. } => {
            "it is given up; its owner answers it within a few seconds, as soon as one runs"
        }
        _ => {
            "it is given up; it is in work, so its owner answers it when the calls under way are \
             over"
        }
    }
}

fn why(refusal: OperatorRefusal, entry: &LedgerEntry) -> String {
    match refusal {
        OperatorRefusal::DeadLetter => {
            "it is a dead letter: see handoff dead-letters show and replay".into()
        }
        OperatorRefusal::Answered => {
            let label = entry.answer.as_deref().map_or("", |answer| answer.label());
            format!("it is answered: {label}; {}", state_text(entry))
        }
        OperatorRefusal::InWork => format!(
            "it is in work since {:.0}, owner {}: if no instance runs, start one",
            entry.claimed_at, entry.owner
        ),
        OperatorRefusal::BehindItsSession => {
            let session = entry.session_id.as_deref().unwrap_or_default();
            format!(
                "earlier events of its session go first: retry or give up the first one of handoff \
                 events list --session {session:?}"
            )
        }
        OperatorRefusal::Redelivered => {
            "it was released, and is tried when Kafka delivers its record again: if no instance \
             runs, start one"
                .into()
        }
        OperatorRefusal::PastDeadline => match entry.given_up() {
            Some(_) => format!("{}: its owner answers it", given_up(entry)),
            None => "it is past its deadline: its owner answers it without another call".into(),
        },
    }
}

/// Parses the name or the reason of an operator.
pub fn parse_operator_line(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_LINE_BYTES || text.chars().any(char::is_control) {
        return Err(format!("it must be one line of 1 to {MAX_LINE_BYTES} bytes"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_short_and_has_no_control_characters() {
        assert_eq!(parse_operator_line(" ab ü ").as_deref(), Ok("ab ü"));
        for wrong in ["", "  ", "a\nb", "\u{1b}[31m", &"a".repeat(301)] {
            assert!(parse_operator_line(wrong).is_err(), "{wrong:?}");
        }
    }
}
