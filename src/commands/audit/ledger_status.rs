//! What the ledger says about the listed escalations.
//!
//! It only adds information: the topics alone decide what is a finding.

use super::run::{AuditResult, ListedFinding};
use super::{AuditArgs, Failure};
use crate::adapters::ledger::{LedgerReader, LedgerUrl};
use crate::domain::audit::FindingKind;
use crate::domain::ledger_entry::{EntryState, LedgerEntry, state_text};

/// The ledger, as far as it can be read.
pub(super) struct LedgerStatus {
    /// The URL of the ledger, without its password.
    pub(super) url: String,
    /// Whether the ledger is wanted and could be opened.
    pub(super) is_readable: bool,
    /// The reason why the ledger cannot be read.
    pub(super) problem: Option<String>,
}

/// Opens the ledger unless `--no-ledger` is given. An error is fatal only with `--ledger`.
pub(super) async fn open(args: &AuditArgs, url: &LedgerUrl) -> Result<LedgerStatus, Failure> {
    let mut status = LedgerStatus { url: url.to_string(), is_readable: false, problem: None };
    if args.no_ledger {
        return Ok(status);
    }
    match LedgerReader::open(url).await {
        Ok(_) => status.is_readable = true,
        Err(error) if args.ledger => return Err(Failure::Unavailable(error)),
        Err(error) => status.problem = Some(format!("{error:#}")),
    }
    Ok(status)
}

/// Adds what the ledger knows to the result.
pub(super) async fn look_up(url: &LedgerUrl, result: &mut AuditResult) -> anyhow::Result<()> {
    // Opened again: reading the topics took time, and the service may have started meanwhile.
    let reader = &LedgerReader::open(url).await?;
    let partitions: Vec<i32> = result.range.partitions.keys().copied().collect();
    result.unfinished = reader.unpublished_by_state(&result.range.topic, &partitions).await?;
    for (kind, finding) in &mut result.findings {
        let is_second = matches!(kind, FindingKind::Contradictory | FindingKind::Doubled);
        finding.ledger = look_up_finding(reader, finding, is_second).await?;
    }
    for finding in &mut result.open {
        finding.ledger = look_up_finding(reader, finding, false).await?;
    }
    Ok(())
}

/// `is_second`: the finding is an outcome that follows another one of its event.
async fn look_up_finding(
    reader: &LedgerReader,
    listed: &ListedFinding,
    is_second: bool,
) -> anyhow::Result<Option<String>> {
    let source = listed.finding.source.as_ref().map(ToString::to_string);
    let Some(name) = listed.finding.event_id.as_deref().or(source.as_deref()) else {
        return Ok(None);
    };
    let entries = reader.entries(name).await?;
    let Some((_, entry)) = entries.first() else { return Ok(Some("unknown".to_owned())) };
    // Another record with the same id came first; its outcome answers this one too.
    let is_other_record = Some(&entry.source) != listed.finding.source.as_ref();
    let source = if is_other_record { format!(" (of {})", entry.source) } else { String::new() };
    let which = if is_second { which_of_two(entry, listed) } else { "" };
    Ok(Some(format!("{}{which}{source}", state_text(entry))))
}

/// Both outcomes are published, and the finding is the one that was read later. That is the second one
/// where both are in one partition; the order of partitions means nothing.
fn which_of_two(entry: &LedgerEntry, listed: &ListedFinding) -> &'static str {
    match &entry.state {
        EntryState::Published { position: Some(known), .. } => {
            if Some(known) == listed.finding.seen_at.as_ref() {
                ", which is this one"
            } else {
                ", which is not this one"
            }
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::AuditFinding;
    use crate::domain::record::Position;

    #[test]
    fn the_words_say_which_of_two_outcomes_the_ledger_knows() {
        let at = |offset| Position { topic: "out".into(), partition: 0, offset };
        let settled_at = jiff::Timestamp::UNIX_EPOCH;
        let published = |position| EntryState::Published { settled_at, at: settled_at, position };
        let check = |state: EntryState, expected: &str| {
            let entry = LedgerEntry {
                session_id: None,
                source: at(0),
                recorded_at: None,
                record: None,
                first_seen: settled_at,
                deadline: None,
                owner: "w".into(),
                claimed_at: settled_at,
                version: 0,
                state,
                snapshot: None,
                answer: None,
                history: vec![],
            };
            let seen_at = Some(at(8));
            let finding =
                AuditFinding { source: None, seen_at, event_id: None, note: String::new() };
            let listed = ListedFinding { finding, session_id: None, ledger: None };
            assert_eq!(which_of_two(&entry, &listed), expected);
        };
        check(published(Some(at(3))), ", which is not this one");
        check(published(Some(at(8))), ", which is this one");
        check(published(None), "");
        check(EntryState::Settled { at: settled_at }, "");
    }
}
