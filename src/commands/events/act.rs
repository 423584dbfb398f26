//! `handoff events retry` and `give-up`: an operator's change to one entry.
//!
//! The command stores what the operator wants, and the event's owner does it: it alone may call Desk
//! and publish. What is stored survives a crash of either.

use std::sync::Arc;

use super::{no_entry, open_reader, state};
use crate::adapters::ledger::{LedgerOperator, LedgerUrl, Operation};
use crate::clock::Clock;
use crate::commands::Failure;
use crate::commands::lines::{StdoutLines, sanitize};
use crate::domain::ledger_entry::{
    Actor, EntryState, LedgerEntry, OperatorAct, OperatorRefusal, OperatorResult,
};

/// The longest name or reason, in bytes: it becomes a part of the outcome.
const MAX_LINE_BYTES: usize = 300;

/// Makes the change, and says what happens next.
pub(super) async fn perform(
    id: &str,
    act: &OperatorAct,
    by: String,
    url: &LedgerUrl,
) -> Result<(), Failure> {
    let entries = open_reader(url).await?.entries(id).await.map_err(Failure::Unavailable)?;
    // The first is the newest: others at its position are of a topic that was deleted.
    let Some((key, _)) = entries.into_iter().next() else { return Err(no_entry(id, url)) };
    let owner: Arc<str> = by.into();
    let operator = Actor { owner: &owner, now: Clock::system().now() };
    let mut ledger = LedgerOperator::open(url).await.map_err(Failure::Unavailable)?;
    let performed = ledger.perform(&key, act, operator).await.map_err(Failure::Unavailable)?;
    let Some(Operation { before, result }) = performed else { return Err(no_entry(id, url)) };
    let say = |text: &str| StdoutLines::new().put(&format!("{}: {text}", sanitize(id)));
    match (result, act) {
        (OperatorResult::Stored(_), OperatorAct::Retry) => {
            say("it is due; its owner tries it within a few seconds")
        }
        (OperatorResult::Already, OperatorAct::Retry) => say("it is due already"),
        (OperatorResult::Stored(_), OperatorAct::GiveUp { .. }) => say(give_up_follows(&before)),
        (OperatorResult::Already, OperatorAct::GiveUp { .. }) => {
            say(&format!("{}; its owner ends it", given_up(&before)))
        }
        (OperatorResult::Refused(OperatorRefusal::Answered), OperatorAct::GiveUp { .. })
            if before.given_up().is_some() =>
        {
            let label = before.answer.as_deref().map_or("", |answer| answer.label());
            say(&format!("{} and answered: {label}", given_up(&before)))
        }
        (OperatorResult::Refused(refusal), _) => {
            Err(Failure::Findings(format!("{}: {}", sanitize(id), why(refusal, &before))))
        }
    }
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
            format!("it is answered: {label}; {}", state(entry))
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

/// The operator's name where none is given.
pub(super) fn user_name(env: &[(String, String)]) -> String {
    let names = ["SUDO_USER", "USER", "LOGNAME"].into_iter();
    let mut found = names.filter_map(|wanted| env.iter().find(|(name, _)| name == wanted));
    let name = found.next().and_then(|(_, name)| parse_line(name).ok());
    name.unwrap_or_else(|| "an operator".into())
}

/// Parses a name or a reason.
pub(super) fn parse_line(text: &str) -> Result<String, String> {
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
        assert_eq!(parse_line(" ab ü ").as_deref(), Ok("ab ü"));
        for wrong in ["", "  ", "a\nb", "\u{1b}[31m", &"a".repeat(301)] {
            assert!(parse_line(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_user_is_named_where_the_environment_has_one() {
        let env = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
        };
        assert_eq!(user_name(&env(&[("USER", "root"), ("SUDO_USER", "ann")])), "ann");
        assert_eq!(user_name(&env(&[("LOGNAME", "bob")])), "bob");
        assert_eq!(user_name(&env(&[("USER", "")])), "an operator");
    }
}
