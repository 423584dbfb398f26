//! The ledger's database is unavailable or refuses writes: no call is made, nothing is lost, and the
//! worker continues without a restart once the database is repaired.

use std::path::Path;
use std::time::Duration;
use std::{fs, process};

use handoff::sim::desk::{ApiCommand, SimulatedDeskSettings};
use tokio::time::{sleep, timeout};

use crate::support::guard::Guard;
use crate::support::postgres::Server;
use crate::support::worker::{World, ask_admin, by_event, escalation, free_port};

async fn publish(world: &World, ids: std::ops::Range<usize>) {
    world.publish(ids.map(|n| escalation(&format!("e-{n}"), &format!("s-{n}")))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_survives_a_stopped_database_without_a_restart() {
    let server = Server::start().await;
    let mut world = World::new("db-away", 2, SimulatedDeskSettings::default()).await;
    let port = free_port();
    world.set("LEDGER__URL", server.url());
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    let worker = world.process();
    publish(&world, 0..50).await;
    world.outcomes(50).await;
    server.stop().await;
    publish(&world, 50..150).await;
    sleep(Duration::from_secs(60)).await;
    let calls = world.desk.stats().of(ApiCommand::Transfer).calls;
    assert_eq!(calls, 50, "no act without the intent written down");
    let (status, text) = ask_admin(port, "ready").await;
    assert_eq!(status, 503);
    assert!(text.contains("the ledger is unavailable"), "{text}");
    let metrics = ask_admin(port, "metrics").await.1;
    assert!(metrics.contains("handoff_intake_paused{why=\"backpressure\"} 1"), "{metrics}");
    assert_eq!(ask_admin(port, "health").await.0, 200, "waiting is not being stalled");
    server.start_again().await;
    let answered = by_event(world.outcomes(150).await);
    assert_eq!(answered.len(), 150);
    assert!(answered.values().all(|outcome| outcome["status"] == "assigned"));
    assert_eq!(ask_admin(port, "ready").await.0, 200);
    assert!(worker.log().contains("ledger available again"), "{}", worker.log());
    worker.terminate().await;
    world.assert_all_committed().await;
    assert_eq!(world.desk.stats().of(ApiCommand::Transfer).calls, 150, "and nothing twice");
}

/// A ledger that refuses at the start is a clear message and no start; repaired, all is answered.
async fn refused_then_repaired(name: &str, break_it: fn(&Path), repair: fn(&Path), says: &str) {
    let world = World::new(name, 2, SimulatedDeskSettings::default()).await;
    let file = world.ledger_file();
    let worker = world.process();
    publish(&world, 0..10).await;
    world.outcomes(10).await;
    worker.terminate().await;
    let sound = fs::read(&file).unwrap();
    break_it(&file);
    publish(&world, 10..20).await;
    let mut refused = world.process();
    assert_eq!(refused.wait().await.code(), Some(69), "{}", refused.log());
    assert!(refused.log().contains(says), "{}", refused.log());
    repair(&file);
    fs::write(&file, sound).unwrap();
    let worker = world.process();
    assert_eq!(by_event(world.outcomes(20).await).len(), 20, "nothing is lost");
    worker.terminate().await;
    world.assert_all_committed().await;
    assert_eq!(world.desk.stats().of(ApiCommand::Transfer).calls, 20, "and nothing twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_file_is_refused_and_nothing_is_lost() {
    fn chattr(flag: &str, file: &Path) {
        // Root may write whatever its mode says; only this stops it.
        let done = process::Command::new("chattr").arg(flag).arg(file).status();
        if !done.is_ok_and(|status| status.success()) {
            let mut permissions = fs::metadata(file).unwrap().permissions();
            permissions.set_readonly(flag == "+i");
            fs::set_permissions(file, permissions).unwrap();
        }
    }
    let says = "is read-only";
    refused_then_repaired("read-only", |f| chattr("+i", f), |f| chattr("-i", f), says).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_refused_and_nothing_is_lost() {
    let damage = |file: &Path| {
        let mut bytes = fs::read(file).unwrap();
        bytes[100..].fill(0xa5);
        fs::write(file, bytes).unwrap();
    };
    refused_then_repaired("damaged", damage, |_| {}, "is damaged, or not a ledger").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_pauses_the_worker_until_there_is_space_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let mount = ["-t", "tmpfs", "-o", "size=16m", "handoff-test", &path];
    let mounted = process::Command::new("mount").args(mount).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("LEFT OUT: a small disk can be had by root only, so a full one was not tested");
        return;
    }
    let _unmount = Guard::new("umount -l \"$1\"", &[&path]).unwrap();
    let mut world = World::new("full", 2, SimulatedDeskSettings::default()).await;
    let port = free_port();
    world.set("LEDGER__URL", &format!("sqlite://{path}/ledger.db"));
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    let worker = world.process();
    publish(&world, 0..10).await;
    world.outcomes(10).await;
    let filler = folder.path().join("filler");
    // Until nothing more goes in.
    drop(fs::write(&filler, vec![0; 17 << 20]));
    publish(&world, 10..400).await;
    let full = async {
        loop {
            let (status, text) = ask_admin(port, "ready").await;
            if status == 503 && text.contains("the disk is full") {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(60), full).await.expect("it says so");
    sleep(Duration::from_secs(1)).await;
    let metrics = ask_admin(port, "metrics").await.1;
    assert!(metrics.contains("handoff_intake_paused{why=\"backpressure\"} 1"), "{metrics}");
    fs::remove_file(&filler).unwrap();
    assert_eq!(by_event(world.outcomes(400).await).len(), 400, "nothing is lost");
    worker.terminate().await;
    world.assert_all_committed().await;
    let calls = world.desk.stats().of(ApiCommand::Transfer).calls;
    assert_eq!(calls, 400, "and nothing twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_instance_on_the_same_file_is_refused() {
    let world = World::new("second", 2, SimulatedDeskSettings::default()).await;
    let first = world.process();
    publish(&world, 0..5).await;
    world.outcomes(5).await;
    let mut second = world.process();
    assert_eq!(second.wait().await.code(), Some(69), "{}", second.log());
    assert!(second.log().contains("ledger"), "{}", second.log());
    publish(&world, 5..10).await;
    world.outcomes(10).await;
    first.terminate().await;
}
