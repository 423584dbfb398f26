//! The failures of PostgreSQL, on a real server: it stops, connections break, many instances start
//! at once.

use std::time::Duration;

use futures_util::future::join_all;
use handoff::{
    adapters::ledger::{LedgerReader, LedgerUrl},
    domain::ledger_entry::{ClaimResult, EntryState, WaitsFor},
    ledger::ParkedCount,
};
use tokio::time::sleep;

use super::peer::{
    answer, claim, count_query, key_of, now, open, park_with_record, position, refusal, try_open,
    wake_of,
};
use super::sqlite::reported_problem;
use super::{counts, parked, suite};
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Server, execute, schema};

const DAY: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

#[tokio::test(flavor = "multi_thread")]
async fn ten_instances_can_start_at_once() {
    let url = schema().await;
    let owners = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    for opened in join_all(owners.map(|owner| try_open(&url, owner))).await {
        opened.unwrap().end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_of_a_newer_program_is_refused() {
    let url = schema().await;
    open(&url, "a").await.end().await;
    let newer = "INSERT INTO handoff_migrations SELECT 9999, 'x', now(), true, '\\x00', 1";
    execute(&url, newer).await.unwrap();
    let refused = refusal(&url).await;
    assert!(refused.contains("written by a newer handoff"), "{refused}");
    let error = LedgerReader::open(&LedgerUrl::parse(&url).unwrap()).await.err().unwrap();
    assert!(error.to_string().contains("written by a newer handoff"), "{error:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_of_a_development_build_is_refused() {
    let url = schema().await;
    open(&url, "a").await.end().await;
    execute(&url, "UPDATE handoff_migrations SET checksum = '\\x00'").await.unwrap();
    let refused = refusal(&url).await;
    assert!(refused.contains("written by a development build"), "{refused}");
    let error = LedgerReader::open(&LedgerUrl::parse(&url).unwrap()).await.err().unwrap();
    assert!(error.to_string().contains("written by a development build"), "{error:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_creates_nothing() {
    let url = schema().await;
    let error = LedgerReader::open(&LedgerUrl::parse(&url).unwrap()).await.err().unwrap();
    assert!(error.to_string().contains("no tables of handoff there"), "{error:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_error_contains_the_password() {
    let url = "postgres://me:geheim@127.0.0.1:1/ledger?sslmode=disable";
    let refused = refusal(url).await;
    assert!(refused.contains("postgres://127.0.0.1:1/ledger"), "{refused}");
    assert!(!refused.contains("geheim") && !refused.contains("me:"), "{refused}");
    let parsed = LedgerUrl::parse(url).unwrap();
    assert_eq!(format!("{parsed} {parsed:?}").matches("geheim").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_are_checked() {
    let wrong = |url: &str| LedgerUrl::parse(url).unwrap_err();
    assert!(wrong("mysql://x").contains("sqlite:// or postgres://"));
    assert!(wrong("sqlite://").contains("names no file"));
    assert!(wrong("sqlite::memory:").contains("lost in a crash"));
    assert!(wrong("sqlite://a.db?mode=ro").contains("no parameters"));
    assert!(wrong("postgres://u:geheim@h/d?sslmode=maybe").contains("is not a PostgreSQL URL"));
    for url in ["postgres://u:geheim@h:port/d", "postgres://u:geheim@h/d?sslmode=maybe", "x:geheim"]
    {
        assert!(!wrong(url).contains("geheim"), "{}", wrong(url));
    }
    assert_eq!(LedgerUrl::parse("sqlite://a/b.db").unwrap().to_string(), "sqlite://a/b.db");
    assert_eq!(LedgerUrl::parse("sqlite:///a/b.db").unwrap().to_string(), "sqlite:///a/b.db");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_row_blocks_only_its_own_event() {
    let url = schema().await;
    let peer = open(&url, "a").await;
    suite::an_unreadable_row(&peer, async |sql| execute(&url, sql).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_parked_row_stops_no_other() {
    let url = schema().await;
    let peer = open(&url, "a").await;
    parked::an_unreadable_parked_row(&peer, async |sql| execute(&url, sql).await.unwrap()).await;
}

/// More than two queries count, and many rows at a time that two of them meet at.
#[tokio::test(flavor = "multi_thread")]
async fn many_parked_events_are_counted_in_steps() {
    let url = schema().await;
    let peer = open(&url, "a").await;
    let kinds = [WaitsFor::Time, WaitsFor::Session, WaitsFor::Agent("r".into())];
    for (offset, waits_for) in (0..).zip(kinds.clone()) {
        parked::park(&peer, &format!("template-{offset}"), offset, 900, waits_for).await;
    }
    let names = "session_id, topic, state, owner, version, deadline_us, claimed_at_us, from_ledger, \
                 parked_until_us, waits_for, record, snapshot, history";
    let copies = format!(
        "INSERT INTO handoff_events (key, partition, \"offset\", first_seen_us, {names}) \
         SELECT key || '-' || n, n % 2, 10 + n, first_seen_us + n / 700, {names} \
         FROM handoff_events, generate_series(1, 6000) AS n"
    );
    execute(&url, &copies).await.unwrap();

    let counts = peer.count_parked(count_query(&[0, 1, 2], now())).await;
    let of = |partition, waits_for: &WaitsFor| {
        let is_it =
            |count: &&ParkedCount| (count.partition, &count.waits_for) == (partition, waits_for);
        counts.iter().filter(is_it).map(|count| count.events).collect::<Vec<_>>()
    };
    for waits_for in &kinds {
        assert_eq!((of(0, waits_for), of(1, waits_for)), (vec![3_001], vec![3_000]));
    }
    assert_eq!(counts.len(), 6, "{counts:?}");
    counts::all_rows_are_added_up(&url, [9_003, 9_000]).await;
}

/// More than two queries find, in partitions of different sizes.
#[tokio::test(flavor = "multi_thread")]
async fn many_waiting_rooms_are_found_in_steps() {
    let url = schema().await;
    let peer = open(&url, "a").await;
    parked::park(&peer, "template", 0, 900, WaitsFor::Agent("0".into())).await;
    let names = "session_id, topic, state, owner, version, deadline_us, claimed_at_us, from_ledger, \
                 parked_until_us, record, snapshot, history, first_seen_us";
    let copies = format!(
        "INSERT INTO handoff_events (key, partition, \"offset\", waits_for, {names}) \
         SELECT key || '-' || n, CASE WHEN n <= 1300 THEN 1 ELSE 2 + n % 2 END, n, 'agent:' || n / 2, \
         {names} FROM handoff_events, generate_series(1, 1700) AS n"
    );
    execute(&url, &copies).await.unwrap();

    let groups = peer.parked_groups(&[0, 1, 2, 3, 4]).await;
    let mut found: Vec<_> =
        groups.iter().map(|group| (group.partition, group.waits_for.to_string())).collect();
    found.sort();
    let all = found.len();
    found.dedup();
    assert_eq!((all, found.len()), (1 + 651 + 200 + 200, all));
    assert_eq!(peer.parked_groups(&[]).await, []);
}

/// Another session has locked an old entry, an event that is to be woken, and the note of what was pruned.
#[tokio::test(flavor = "multi_thread")]
async fn locked_rows_delay_no_command_of_others() {
    let url = schema().await;
    let peer = open(&url, "a").await;
    for (offset, key) in (1..).zip(["first", "old"]) {
        peer.claim(claim(key, offset)).await;
        assert!(peer.settle(key, answer("it")).await);
        peer.mark_published(key, None).await;
        if key == "first" {
            assert_eq!(peer.prune(now() + DAY).await, 1, "there is a note");
        }
    }
    let follower = parked::park(&peer, "follower", 3, 4_000, WaitsFor::Session).await;
    let lock = |table: &str| format!("SELECT * FROM {table} FOR UPDATE;");
    let locks = ["handoff_events", "handoff_pruned"].map(lock).concat();
    let holder = format!("{url}&application_name=holder");
    let hold = format!("BEGIN; {locks} SELECT pg_sleep(60)");
    let commands = async {
        while execute(&url, "SELECT * FROM handoff_pruned FOR UPDATE NOWAIT").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
        let maintenance = async {
            tokio::join!(peer.try_prune(now() + DAY), peer.wake_session(wake_of(&follower))).0
        };
        let others = async {
            // Some while the maintenance waits for its locks, and some after it has given up.
            for offset in 10..40 {
                assert_eq!(
                    peer.claim(claim(&offset.to_string(), offset)).await,
                    ClaimResult::Fresh
                );
                sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            ended = maintenance => panic!("the event to be woken is locked: {ended:?}"),
            () = others => {}
        }
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE application_name = 'holder'";
        execute(&url, end).await.unwrap();
    };
    let (held, ()) = tokio::join!(execute(&holder, &hold), commands);
    assert!(held.is_err(), "commands waited until the locks were gone");
    while execute(&url, "SELECT * FROM handoff_pruned FOR UPDATE NOWAIT").await.is_err() {
        sleep(Duration::from_millis(20)).await;
    }
    peer.wake_session(wake_of(&follower)).await;
    assert_eq!(parked::due_now(&peer).await, ["follower"]);
    assert_eq!(peer.prune(now() + DAY).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_is_waited_for() {
    let server = Server::start().await;
    let peer = open(server.url(), "a").await;
    peer.claim(claim("before", 1)).await;
    peer.park("before", park_with_record(9, &claim("before", 1))).await;
    assert!(matches!(peer.claim(claim("before", 1)).await, ClaimResult::Resumed(_)));
    server.stop().await;

    let waiting = join_all((10..30).map(|n| {
        let peer = peer.clone();
        async move { peer.claim(claim(&format!("during-{n}"), n)).await }
    }));
    let recovering = peer.recover("escalations", &[0]);
    let looking_up = peer.is_session_parked_beside("s", position(0, 9), &[1]);
    let (claimed, rows, parked, ()) = tokio::join!(waiting, recovering, looking_up, async {
        let problem = reported_problem(&peer).await;
        assert!(problem.starts_with("the ledger postgres://127.0.0.1"), "{problem}");
        server.start_again().await;
    });
    assert_eq!(claimed, vec![ClaimResult::Fresh; 20]);
    assert!(rows.iter().any(|row| key_of(row) == "before"));
    assert!(!parked);
    assert!(peer.settle("before", answer("after")).await);
    assert_eq!(peer.problem(), None);
    peer.end().await;
}

/// Connections are cut again and again while everything is on its way: each reply is still the true one.
#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_lose_and_repeat_nothing() {
    let url = format!("{}&application_name=cut", schema().await);
    let peer = open(&url, "a").await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'cut' AND pid <> pg_backend_pid()";
    let work = async {
        for round in 0..30 {
            let one = async |n: i64| {
                let key = format!("{round}-{n}");
                let offset = round * 100 + n;
                assert_eq!(peer.claim(claim(&key, offset)).await, ClaimResult::Fresh, "{key}");
                assert!(peer.settle(&key, answer(&key)).await, "{key}");
                peer.mark_published(&key, None).await;
            };
            join_all((0..50).map(one)).await;
        }
    };
    let cutting = async {
        loop {
            execute(&url, cut).await.unwrap();
            sleep(Duration::from_millis(40)).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = cutting => {}
    }
    // The last cut may still be on its way, and a reader reports it at once.
    sleep(Duration::from_millis(500)).await;
    for key in ["0-0", "29-49", "20-20"] {
        let entry = peer.entry(key).await.unwrap();
        assert!(matches!(entry.state, EntryState::Published { .. }), "{key}");
        assert_eq!((entry.version, entry.history.len()), (3, 3), "{key}: nothing was done twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_would_drop_the_search_path_is_refused() {
    for line in ["", "ignore_startup_parameters = extra_float_digits, options"] {
        let bouncer = PgBouncer::start_with(line).await;
        let url = bouncer.database().await;
        let refused = refusal(&format!("{url}?options[search_path]=elsewhere")).await;
        assert!(refused.contains("behind a connection pooler"), "{refused}");
        assert!(refused.contains("ALTER ROLE"), "{refused}");
        let peer = open(&url, "a").await;
        assert_eq!(peer.claim(claim("pooled", 1)).await, ClaimResult::Fresh);
        peer.end().await;
    }
}
