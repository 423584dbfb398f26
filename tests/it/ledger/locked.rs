//! Rows of PostgreSQL that another session has locked: only their own events wait.
//!
//! While the lock is held, everything else has to be done; without a limit to the wait for it these
//! tests would never get to the end of the lock.

use std::time::Duration;

use futures_util::future::join_all;
use handoff::domain::ledger_entry::{Claim, ClaimResult, EntryState, WaitsFor};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection};
use tokio::time::{Instant, sleep, timeout};

use super::parked::{due_now, elsewhere, park_claim};
use super::peer::{Peer, TestLedger, answer, park_with_record, wake_of};

/// Far more than is needed on a loaded machine.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_parked_event_waits_alone() {
    the_parked_event_is_locked(&TestLedger::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_parked_event_waits_alone_behind_pgbouncer() {
    the_parked_event_is_locked(&TestLedger::pooled().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_on_locked_rows_wait_alone() {
    the_rows_of_commands_are_locked(&TestLedger::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_on_locked_rows_wait_alone_behind_pgbouncer() {
    the_rows_of_commands_are_locked(&TestLedger::pooled().await).await;
}

async fn the_parked_event_is_locked(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    for (session, offset) in [("s", 1), ("t", 11)] {
        let head = of(session, &format!("{session}1"), offset);
        assert_eq!(peer.claim(head).await, ClaimResult::Fresh);
        let follower = of(session, &format!("{session}2"), offset + 1);
        park_claim(&peer, follower, 4_000, WaitsFor::Session).await;
    }
    let head = of("s", "s1", 1);
    let mut tool = begin(test_ledger).await;
    run(&mut tool, "UPDATE handoff_events SET history = history WHERE key = 's2'").await;

    let meanwhile = async {
        let settled = join_all(["s", "t"].map(async |session| {
            let head = of(session, &format!("{session}1"), 1);
            peer.settle_and_wake(&head.key, answer("it"), Some(wake_of(&head))).await
        }));
        assert_eq!(settled.await, [true, true]);
        assert_eq!(due_now(&peer).await, ["t2"], "its session is another one");
        let state = peer.entry("s1").await.unwrap().state;
        assert!(matches!(state, EntryState::Settled { .. }), "{state:?}");
        // Nor does a wake that a caller waits for delay them.
        tokio::select! {
            () = peer.wake_session(wake_of(&head)) => panic!("it is locked"),
            () = ten_other_sessions(&peer) => {}
        }
    };
    timeout(LONG, meanwhile).await.expect("only the locked event waits");
    assert_eq!(due_now(&peer).await, ["t2"]);
    assert_eq!(peer.problem(), None, "a locked row is no outage");

    run(&mut tool, "COMMIT").await;
    let woken = async {
        while due_now(&peer).await != ["s2", "t2"] {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, woken).await.expect("it is woken after the lock");
}

async fn the_rows_of_commands_are_locked(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    for (offset, key) in (1..).zip(["parked", "settled", "claimed"]) {
        assert_eq!(peer.claim(of(key, key, offset)).await, ClaimResult::Fresh);
    }
    let claimed = of("claimed", "claimed", 3);
    assert!(peer.park("claimed", park_with_record(70, &claimed)).await);
    let mut tool = begin(test_ledger).await;
    run(&mut tool, "SELECT key FROM handoff_events FOR UPDATE").await;
    // Nobody else sees it, and a claim of the same key has to wait for it.
    let insert = "INSERT INTO handoff_events (key, session_id, topic, partition, \"offset\", state, \
         owner, version, first_seen_us, claimed_at_us, from_ledger, history) \
         SELECT 'new', session_id, topic, partition, 4, state, owner, version, first_seen_us, \
         claimed_at_us, from_ledger, history FROM handoff_events WHERE key = 'settled'";
    run(&mut tool, insert).await;

    let park = park_with_record(70, &of("parked", "parked", 1));
    let locked = async {
        let settle = async {
            let settled = peer.settle("settled", answer("it")).await;
            (settled, peer.settle("settled", answer("another")).await)
        };
        tokio::join!(
            peer.park("parked", park),
            settle,
            // Behind the first answer, in their order.
            peer.claim(of("settled", "settled", 2)),
            peer.claim(claimed),
            peer.claim(of("new", "new", 4)),
        )
    };
    tokio::pin!(locked);
    let meanwhile = async {
        tokio::select! {
            done = &mut locked => panic!("the rows are locked: {done:?}"),
            // Together with the commands on locked rows, and after these are set aside.
            () = async { ten_other_sessions(&peer).await; ten_other_sessions(&peer).await } => {}
        }
    };
    timeout(LONG, meanwhile).await.expect("only the locked events wait");
    assert_eq!(peer.problem(), None, "a locked row is no outage");

    run(&mut tool, "ROLLBACK").await;
    let done = timeout(LONG, locked).await.expect("they are written after the lock");
    let (parked, settled, redelivered, resumed, fresh) = done;
    assert_eq!((parked, settled), (true, (true, false)));
    let is_settled = matches!(redelivered, ClaimResult::Settled { .. });
    assert!(is_settled, "{redelivered:?}");
    assert!(matches!(resumed, ClaimResult::Resumed(_)), "{resumed:?}");
    assert_eq!(fresh, ClaimResult::Fresh);
    for (key, version) in [("parked", 2), ("claimed", 3), ("new", 1)] {
        assert_eq!(peer.entry(key).await.unwrap().version, version, "{key} was changed once");
    }
}

/// All that happens to an event, for ten events of other sessions at once.
async fn ten_other_sessions(peer: &Peer) {
    static OFFSET: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(100);
    let started = Instant::now();
    join_all((0..10).map(async |_| {
        let offset = OFFSET.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let key = format!("other-{offset}");
        let claim = of(&key, &key, offset);
        assert_eq!(peer.claim(claim.clone()).await, ClaimResult::Fresh);
        assert!(peer.park(&key, park_with_record(4_000, &claim)).await);
        assert!(matches!(peer.claim(claim.clone()).await, ClaimResult::Resumed(_)));
        assert!(peer.settle_and_wake(&key, answer("it"), Some(wake_of(&claim))).await);
        peer.mark_published(&key, None).await;
    }))
    .await;
    eprintln!("ten other sessions: {:?}", started.elapsed());
}

fn of(session: &str, key: &str, offset: i64) -> Claim {
    Claim { session_id: Some(session.into()), ..elsewhere(key, 0, offset) }
}

/// A tool with an open transaction.
async fn begin(test_ledger: &TestLedger) -> PgConnection {
    let url = test_ledger.url().expect("it is a database");
    let options: PgConnectOptions = url.parse().unwrap();
    // PgBouncer refuses this parameter.
    let mut tool = options.extra_float_digits(None).connect().await.unwrap();
    run(&mut tool, "BEGIN").await;
    tool
}

async fn run(tool: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(tool).await.unwrap();
}
