//! Files that are no ledger: they are refused with a clear error, and not changed.

use std::fs;

use handoff::adapters::ledger::{LedgerReader, LedgerUrl};

use super::peer::{refusal, sqlite_url};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_ledger_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (url, file) = (sqlite_url(&folder), folder.path().join("ledger.db"));
    fs::write(&file, "this was never a database, but a note to somebody".repeat(100)).unwrap();
    let refused = refusal(&url).await;
    assert!(refused.contains("is damaged, or not a ledger"), "{refused}");
    assert!(refused.contains("ledger.db"), "{refused}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no lock is left beside it");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_programs_database_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (url, file) = (sqlite_url(&folder), folder.path().join("ledger.db"));
    let theirs = rusqlite::Connection::open(&file).unwrap();
    theirs.execute_batch("CREATE TABLE invoices (number INTEGER)").unwrap();
    drop(theirs);
    let before = fs::read(&file).unwrap();
    let refused = refusal(&url).await;
    assert!(refused.contains("another program's database"), "{refused}");
    assert!(fs::read(&file).unwrap() == before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no lock is left beside it");
    let error = LedgerReader::open(&LedgerUrl::parse(&url).unwrap()).await.err().unwrap();
    assert!(format!("{error:#}").contains("another program's database"), "{error:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_programs_unfinished_transaction_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = folder.path().join("theirs.db");
    let connection = rusqlite::Connection::open(&theirs).unwrap();
    connection
        .execute_batch(
            "PRAGMA cache_size = 1; CREATE TABLE t (a);
             BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000)
             INSERT INTO t SELECT hex(randomblob(50)) FROM n;",
        )
        .unwrap();
    // As a crash in the middle of it leaves them.
    let (url, file) = (sqlite_url(&folder), folder.path().join("ledger.db"));
    let journal = folder.path().join("ledger.db-journal");
    fs::copy(&theirs, &file).unwrap();
    fs::copy(folder.path().join("theirs.db-journal"), &journal).unwrap();
    let before = (fs::read(&file).unwrap(), fs::read(&journal).unwrap());
    let refused = refusal(&url).await;
    assert!(refused.contains("has an unfinished change beside it"), "{refused}");
    assert!((fs::read(&file).unwrap(), fs::read(&journal).unwrap()) == before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_no_ledger() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("ledger.db")).unwrap();
    let url = sqlite_url(&folder);
    let refused = refusal(&url).await;
    assert!(refused.contains("is not a file but a folder"), "{refused}");
    let error = LedgerReader::open(&LedgerUrl::parse(&url).unwrap()).await.err().unwrap();
    assert!(format!("{error:#}").contains("is not a file but a folder"), "{error:#}");
}
