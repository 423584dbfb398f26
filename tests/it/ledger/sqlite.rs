//! The failures of SQLite: its file, its folder, its disk. They are real failures of a real file
//! system, and every error says what to repair.

use std::{fs, process::Command, time::Duration};

use handoff::{
    adapters::ledger::{LedgerReader, LedgerUrl},
    domain::ledger_entry::{ClaimResult, EntryState, RecordOrigin, WaitsFor},
};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::peer::{
    Peer, answer, at, claim, open, park_event, park_with_record, refusal, sqlite_url,
};
use super::{parked, suite};
use crate::support::guard::Guard;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn run(connection: &Connection, sql: &str) {
    connection.execute_batch(sql).unwrap();
}

/// Waits for a problem, and returns it.
pub(super) async fn reported_problem(peer: &Peer) -> String {
    let problem = async {
        loop {
            if let Some(problem) = peer.problem() {
                return problem;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), problem).await.expect("it reports a problem")
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_survive_a_restart() {
    let folder = folder();
    let url = sqlite_url(&folder);
    let peer = open(&url, "a").await;
    for (offset, key) in (0..).zip(["open", "parked", "settled"]) {
        peer.claim(claim(key, offset)).await;
    }
    peer.park("parked", park_event(9, "{}")).await;
    peer.settle("settled", answer("it")).await;
    peer.end().await;
    let peer = open(&url, "b").await;
    assert!(matches!(peer.claim(claim("open", 0)).await, ClaimResult::Resumed(_)));
    let state = EntryState::Parked { until: at(9), waits_for: WaitsFor::Redelivery };
    assert_eq!(peer.entry("parked").await.unwrap().state, state);
    assert_eq!(peer.entry("settled").await.unwrap().answer, Some(answer("it")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_leaves_nothing_beside_a_ledger_that_nobody_has_open() {
    let folder = folder();
    // Each character has a meaning in a URI.
    let url = format!("sqlite://{}/a %3f&b.db", folder.path().display());
    let peer = open(&url, "a").await;
    peer.claim(claim("one", 0)).await;
    peer.end().await;
    let names = || {
        let entries = fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    let reader = LedgerReader::open(&LedgerUrl::parse(&url).unwrap()).await.unwrap();
    assert!(reader.entry("one").await.unwrap().is_some());
    assert_eq!(names(), before);
    drop(reader);
    assert_eq!(names(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_service_on_the_same_file_is_refused_and_a_tool_is_not() {
    let folder = folder();
    let url = sqlite_url(&folder);
    let peer = open(&url, "a").await;
    peer.claim(claim("k", 1)).await;
    let refused = refusal(&url).await;
    assert!(refused.contains("in use by another handoff"), "{refused}");
    assert!(refused.contains("ledger.db.lock") && refused.contains("postgres://"), "{refused}");
    let reader = LedgerReader::open(&LedgerUrl::parse(&url).unwrap()).await.unwrap();
    assert_eq!(
        reader.entry("k").await.unwrap().unwrap().state,
        EntryState::Open { origin: RecordOrigin::Kafka }
    );
    peer.settle("k", answer("it")).await;
    let entry = reader.entry("k").await.unwrap().unwrap();
    assert_eq!(entry.answer, Some(answer("it")), "it sees what happens meanwhile");
    drop(reader);
    peer.end().await;
    open(&url, "b").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_creates_nothing() {
    let folder = folder();
    let url = LedgerUrl::parse(&sqlite_url(&folder)).unwrap();
    let error = format!("{:#}", LedgerReader::open(&url).await.err().unwrap());
    assert!(error.contains("is not there (yet)"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn sqlite_is_compiled_as_the_workspace_says() {
    let inside = Connection::open_in_memory().unwrap();
    let mut options = inside.prepare("PRAGMA compile_options").unwrap();
    let options = options.query_map((), |row| row.get::<_, String>(0)).unwrap();
    let options: Vec<_> = options.map(Result::unwrap).collect();
    assert!(options.iter().any(|option| option == "DEFAULT_MEMSTATUS=0"), "{options:?}");
    assert!(!options.iter().any(|option| option == "ENABLE_MEMORY_MANAGEMENT"), "{options:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_ledger_is_refused() {
    let folder = folder();
    let (url, file) = (sqlite_url(&folder), folder.path().join("ledger.db"));
    let peer = open(&url, "a").await;
    peer.claim(claim("k", 1)).await;
    peer.end().await;
    let mut bytes = fs::read(&file).unwrap();
    let log = fs::metadata(folder.path().join("ledger.db-wal")).map_or(0, |log| log.len());
    assert_eq!(log, 0, "the file alone is the ledger");
    // The header stays, everything it leads to is gone.
    bytes[100..].fill(0xa5);
    let folder = self::folder();
    fs::write(folder.path().join("ledger.db"), bytes).unwrap();
    let url = sqlite_url(&folder);
    let refused = refusal(&url).await;
    assert!(refused.contains("is damaged, or not a ledger"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_of_a_newer_program_is_refused() {
    let folder = folder();
    let url = sqlite_url(&folder);
    open(&url, "a").await.end().await;
    let other = Connection::open(folder.path().join("ledger.db")).unwrap();
    run(
        &other,
        "INSERT INTO handoff_migrations SELECT 9999, 'x', installed_on, 1, x'00', 1 FROM handoff_migrations LIMIT 1",
    );
    other.close().unwrap();
    let refused = refusal(&url).await;
    assert!(refused.contains("written by a newer handoff"), "{refused}");
    let error = LedgerReader::open(&LedgerUrl::parse(&url).unwrap()).await.err().unwrap();
    assert!(error.to_string().contains("written by a newer handoff"), "{error:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_of_a_development_build_is_refused() {
    let folder = folder();
    let url = sqlite_url(&folder);
    open(&url, "a").await.end().await;
    let other = Connection::open(folder.path().join("ledger.db")).unwrap();
    run(&other, "DROP TABLE handoff_pruned");
    other.close().unwrap();
    let refused = refusal(&url).await;
    assert!(refused.contains("written by a development build"), "{refused}");
    let error = LedgerReader::open(&LedgerUrl::parse(&url).unwrap()).await.err().unwrap();
    assert!(error.to_string().contains("written by a development build"), "{error:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_folder_is_named() {
    let folder = folder();
    let url = format!("sqlite://{}/not/there/ledger.db", folder.path().display());
    let refused = refusal(&url).await;
    assert!(
        refused.contains("not/there") && refused.contains("the folder must exist"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_file_is_refused() {
    let folder = folder();
    let (url, file) = (sqlite_url(&folder), folder.path().join("ledger.db"));
    open(&url, "a").await.end().await;
    let name = file.display().to_string();
    // Root may write whatever its mode says; only this stops it.
    let immutable = Command::new("chattr").args(["+i", &name]).output();
    let immutable = immutable.is_ok_and(|output| output.status.success());
    let mut permissions = fs::metadata(&file).unwrap().permissions();
    if !immutable {
        permissions.set_readonly(true);
        fs::set_permissions(&file, permissions).unwrap();
    }
    let refused = refusal(&url).await;
    if immutable {
        Command::new("chattr").args(["-i", &name]).status().unwrap();
    }
    assert!(refused.contains("is read-only"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_locked_by_another_program_is_waited_for() {
    let folder = folder();
    let url = sqlite_url(&folder);
    let peer = open(&url, "a").await;
    let other = Connection::open(folder.path().join("ledger.db")).unwrap();
    run(&other, "BEGIN IMMEDIATE");
    let claiming = {
        let peer = peer.clone();
        async move { peer.claim(claim("k", 1)).await }
    };
    let (problem, claimed, ()) = tokio::join!(reported_problem(&peer), claiming, async {
        reported_problem(&peer).await;
        run(&other, "COMMIT");
    });
    assert!(problem.contains("is locked by another program"), "{problem}");
    assert_eq!(claimed, ClaimResult::Fresh);
    assert_eq!(peer.problem(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_removed_or_replaced_is_written_no_more_until_it_is_back() {
    let folder = folder();
    let url = sqlite_url(&folder);
    let peer = open(&url, "a").await;
    peer.claim(claim("before", 0)).await;
    let (file, aside) = (folder.path().join("ledger.db"), folder.path().join("aside.db"));
    fs::rename(&file, &aside).unwrap();
    let mut waiting = std::pin::pin!(peer.claim(claim("meanwhile", 1)));
    assert!(timeout(Duration::from_millis(300), &mut waiting).await.is_err(), "it waits");
    let problem = reported_problem(&peer).await;
    assert!(problem.contains("move the same file back"), "{problem}");

    fs::write(&file, "").unwrap();
    assert!(timeout(Duration::from_secs(1), &mut waiting).await.is_err(), "another file");

    fs::rename(&aside, &file).unwrap();
    let claimed = timeout(Duration::from_secs(20), waiting).await.expect("it goes on");
    assert_eq!(claimed, ClaimResult::Fresh);
    assert_eq!(peer.problem(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_recovery_delays_no_other_command() {
    let folder = folder();
    let peer = open(&sqlite_url(&folder), "a").await;
    let parked = claim("k", 1);
    peer.claim(parked.clone()).await;
    assert!(peer.park("k", park_with_record(9, &parked)).await);
    assert!(matches!(peer.claim(parked.clone()).await, ClaimResult::Resumed(_)));
    let other = Connection::open(folder.path().join("ledger.db")).unwrap();
    let view = "SELECT sql FROM sqlite_schema WHERE name = 'handoff_ledger'";
    let view: String = other.query_row(view, [], |row| row.get(0)).unwrap();
    let incomplete = view.replace("e.event, ", "");
    assert_ne!(view, incomplete);
    run(&other, &format!("DROP VIEW handoff_ledger; {incomplete}"));
    let busy = async {
        sleep(Duration::from_secs(2)).await;
        assert_eq!(peer.problem(), None, "writes go on");
        assert_eq!(peer.claim(claim("other", 2)).await, ClaimResult::Fresh);
        assert!(
            matches!(peer.claim(parked.clone()).await, ClaimResult::Resumed(_)),
            "even of this"
        );
        run(&other, &format!("DROP VIEW handoff_ledger; {view}"));
    };
    let (topic, partitions) = (&parked.source.topic, [parked.source.partition]);
    let (rows, ()) = tokio::join!(peer.recover(topic, &partitions), busy);
    assert_eq!(rows.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_row_blocks_only_its_own_event() {
    let folder = folder();
    let peer = open(&sqlite_url(&folder), "a").await;
    let other = Connection::open(folder.path().join("ledger.db")).unwrap();
    suite::an_unreadable_row(&peer, async |sql| run(&other, sql)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_parked_row_stops_no_other() {
    let folder = folder();
    let peer = open(&sqlite_url(&folder), "a").await;
    let other = Connection::open(folder.path().join("ledger.db")).unwrap();
    parked::an_unreadable_parked_row(&peer, async |sql| run(&other, sql)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_waited_for() {
    let folder = folder();
    let path = folder.path().display().to_string();
    let mount = ["-t", "tmpfs", "-o", "size=1m", "handoff-test", &path];
    if !Command::new("mount").args(mount).output().is_ok_and(|output| output.status.success()) {
        eprintln!("LEFT OUT: a small disk can be had by root only, so a full one was not tested");
        return;
    }
    let unmount = Guard::new("umount -l \"$1\"", &[&path]).unwrap();
    let filler = folder.path().join("filler");
    let peer = open(&sqlite_url(&folder), "a").await;
    assert_eq!(peer.claim(claim("before", 1)).await, ClaimResult::Fresh);
    assert_eq!(peer.claim(claim("large", 2)).await, ClaimResult::Fresh);
    // Until nothing more goes in.
    drop(fs::write(&filler, vec![0; 2 << 20]));
    let large = || {
        let mut large = park_with_record(9, &claim("large", 2));
        large.record.as_mut().unwrap().value = Some(vec![b'x'; 100_000]);
        large
    };
    let parking = {
        let peer = peer.clone();
        async move { peer.park("large", large()).await }
    };
    let (problem, parked, ()) = tokio::join!(reported_problem(&peer), parking, async {
        reported_problem(&peer).await;
        sleep(Duration::from_millis(500)).await;
        fs::remove_file(&filler).unwrap();
    });
    assert!(problem.contains("the disk is full"), "{problem}");
    assert!(parked);
    assert_eq!(peer.problem(), None);
    assert!(peer.entry("before").await.is_some());
    assert_eq!(peer.entry("large").await.unwrap().record, large().record);
    peer.end().await;
    drop(unmount);
}
