//! A change that an operator makes beside the service.
//!
//! It is written only over the version that it was decided on, as every change is, so it can neither
//! overwrite what the event's owner does meanwhile nor be overwritten by it.

use std::sync::Arc;

use anyhow::bail;
use jiff::Timestamp;

use super::database::{Database as _, RowChange, RowRequest, RowWrite, StoredRow};
use super::postgres::PostgresDatabase;
use super::reader::LedgerReader;
use super::sqlite::SqliteDatabase;
use super::url::LedgerUrl;
use crate::domain::ledger_entry::{Actor, LedgerEntry, OperatorAct, OperatorResult, operate};

/// The owner changes a row a few times a second at most.
const MAX_ATTEMPTS: usize = 20;

/// What became of an operator's change.
#[derive(Debug)]
pub struct Operation {
    /// The key of the entry.
    pub key: Arc<str>,
    /// The entry before it.
    pub before: LedgerEntry,
    /// The result.
    pub result: OperatorResult,
}

/// A ledger, open for an operator's changes.
pub struct LedgerOperator(OperatorDatabase);

enum OperatorDatabase {
    Sqlite(SqliteDatabase),
    Postgres(Box<PostgresDatabase>),
}

impl LedgerOperator {
    /// Opens it; fails where it does not exist or has another schema than this program's.
    pub async fn open(url: &LedgerUrl) -> anyhow::Result<Self> {
        LedgerReader::open(url).await?;
        Ok(Self(match url {
            LedgerUrl::Sqlite(file) => OperatorDatabase::Sqlite(SqliteDatabase::beside(file)),
            LedgerUrl::Postgres(url) => {
                OperatorDatabase::Postgres(Box::new(PostgresDatabase::beside(url)?))
            }
        }))
    }

    /// Makes a change to the event with this id, or at this position; `None`: there is none.
    pub async fn perform_on(
        url: &LedgerUrl,
        name: &str,
        act: &OperatorAct,
        by: Arc<str>,
        now: Timestamp,
    ) -> anyhow::Result<Option<Operation>> {
        let entries = LedgerReader::open(url).await?.entries(name).await?;
        // The first is the newest: others at its position are of a topic that was deleted.
        let Some((key, _)) = entries.into_iter().next() else { return Ok(None) };
        let operator = Actor { owner: &by, now };
        Self::open(url).await?.perform(&key, act, operator).await
    }

    /// Makes a change; `None`: there is no such entry. After an error it may be stored or not; the
    /// same change again does no harm.
    pub async fn perform(
        &mut self,
        key: &Arc<str>,
        act: &OperatorAct,
        operator: Actor<'_>,
    ) -> anyhow::Result<Option<Operation>> {
        let mut is_locked = false;
        for _ in 0..MAX_ATTEMPTS {
            let mut operation = None;
            let mut decide = |rows: Vec<StoredRow>| -> Arc<[RowChange]> {
                operation = rows.into_iter().next().map(|row| {
                    row.entry.map(|before| {
                        let result = operate(before.clone(), act, operator);
                        Operation { key: key.clone(), before, result }
                    })
                });
                match &operation {
                    Some(Ok(Operation { result: OperatorResult::Stored(next), .. })) => {
                        let next = next.as_ref().clone();
                        [RowChange { key: key.clone(), next, wake: None }].into()
                    }
                    _ => Arc::default(),
                }
            };
            let requests = [RowRequest { key, with_answer: true }];
            let written = match &mut self.0 {
                OperatorDatabase::Sqlite(database) => {
                    database.read_and_write(&requests, &mut decide, operator.now).await?
                }
                OperatorDatabase::Postgres(database) => {
                    database.read_and_write(&requests, &mut decide, operator.now).await?
                }
            };
            match written.rows.first() {
                None | Some(RowWrite::Written) => return operation.transpose(),
                // Its owner has changed the row since it was read.
                Some(RowWrite::Outdated) => is_locked = false,
                Some(RowWrite::Locked) => is_locked = true,
            }
        }
        if is_locked {
            bail!("another session has locked the entry: end its transaction, and try again");
        }
        bail!("the entry changes all the time, because its owner works on it: try again")
    }
}
