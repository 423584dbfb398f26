//! What the ledger says of the escalations that are named.
//!
//! Without the ledger the audit is worth as much; it only says less about what is open.
//! This file never lets the ledger overrule the topics.

use super::reading::{Case, Read};
use super::{Args, Failure};
use crate::adapters::ledger::{LedgerUrl, Reader};
use crate::commands::events::{keys, state};

/// The ledger, as far as it can be asked.
pub(super) struct Book {
    /// Where it is, for people.
    pub(super) place: String,
    /// It is not asked.
    pub(super) reader: Option<Reader>,
    /// Why it does not answer.
    pub(super) problem: Option<String>,
}

/// Open it, if that is wanted and possible.
pub(super) async fn open(args: &Args, place: &LedgerUrl) -> Result<Book, Failure> {
    let mut book = Book { place: place.to_string(), reader: None, problem: None };
    if args.no_ledger {
        return Ok(book);
    }
    match Reader::open(place).await {
        Ok(reader) => book.reader = Some(reader),
        Err(error) if args.ledger => return Err(Failure::Unavailable(error)),
        Err(error) => book.problem = Some(format!("{error:#}")),
    }
    Ok(book)
}

/// Ask it.
pub(super) async fn look_up(reader: &Reader, read: &mut Read) -> anyhow::Result<()> {
    let partitions: Vec<i32> = read.range.partitions.keys().copied().collect();
    read.stages = reader.stages(&read.range.topic, &partitions).await?;
    let cases = read.cases.iter_mut().map(|(_, case)| case);
    for case in cases.chain(&mut read.open) {
        case.ledger = look_up_case(reader, case).await?;
    }
    Ok(())
}

async fn look_up_case(reader: &Reader, case: &Case) -> anyhow::Result<Option<String>> {
    let source = case.finding.source.as_ref().map(ToString::to_string);
    let Some(name) = case.finding.event_id.as_deref().or(source.as_deref()) else {
        return Ok(None);
    };
    for key in keys(name) {
        if let Some(entry) = reader.story(&key).await? {
            let elsewhere = Some(&entry.source) != case.finding.source.as_ref();
            let source = if elsewhere { format!(" (of {})", entry.source) } else { String::new() };
            return Ok(Some(format!("{}{source}", state(&entry))));
        }
    }
    Ok(Some("unknown".to_owned()))
}
