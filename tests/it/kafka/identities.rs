//! What a record was when it was first claimed it stays, although the rules that read it change before
//! Kafka delivers it again.

use handoff::sim::desk::{ApiCommand, InjectedFault, SimulatedDeskSettings};
use serde_json::json;

use super::formats::{INPUT, audit, escalations, value};
use crate::support::postgres;
use crate::support::worker::{World, by_event};

/// A session whose call gets no answer: its record, and those behind it, are delivered again.
const IN_DOUBT: &str = "in-doubt";

fn leave_in_doubt(world: &mut World) {
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_INSTANCE_ID", "one");
    world.set("DESK__TIMEOUT_MS", "20000").set("DESK__SETTLE_MS", "500");
    let hang = InjectedFault::hang().with_effect().commands(&[ApiCommand::Transfer]);
    world.desk.schedule(hang.session(IN_DOUBT));
}

async fn events_keep_their_identity_when_kafka_delivers_them_again(mut world: World) {
    leave_in_doubt(&mut world);
    let sessions = [IN_DOUBT, "answered"];
    let record = |session: &&str| {
        let id = format!("own-{session}");
        value(json!({"session_id": session})).header("x-id", id)
    };
    let places = world.publish_raw(sessions.iter().map(record)).await;
    let worker = world.process();
    assert_eq!(world.outcomes(1).await[0]["session_id"], "answered");
    worker.kill().await;

    world.set("INPUT__ID_HEADER", "x-id");
    let worker = world.process();
    let outcomes = by_event(world.outcomes(2).await);
    world.all_is_committed().await;
    worker.terminate().await;
    world.assert_all_committed().await;
    for ((_, offset), session) in places.iter().zip(sessions) {
        let outcome = &outcomes[&format!("{}/0/{offset}", world.topic("in"))];
        assert_eq!(
            (&outcome["session_id"], &outcome["status"]),
            (&json!(session), &json!("assigned"))
        );
    }
    assert_eq!(world.desk.stats().of(ApiCommand::Transfer).calls, 2, "each was asked for once");
    world.set("INPUT__ID_HEADER", "id");
    audit(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_sqlite_keep_their_identity_when_kafka_delivers_them_again() {
    let world = World::new("identity-sqlite", 1, SimulatedDeskSettings::default()).await;
    events_keep_their_identity_when_kafka_delivers_them_again(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_postgresql_keep_their_identity_when_kafka_delivers_them_again() {
    let mut world = World::new("identity-postgres", 1, SimulatedDeskSettings::default()).await;
    world.set("LEDGER__URL", &postgres::schema().await);
    events_keep_their_identity_when_kafka_delivers_them_again(world).await;
}

async fn a_dead_letter_stays_one_when_a_new_mapping_reads_its_record(mut world: World) {
    leave_in_doubt(&mut world);
    let (_, record) = escalations().pop().expect("that of the mapping");
    world.publish_raw([value(json!({"session_id": IN_DOUBT})), record]).await;
    let worker = world.process();
    world.dead_letters(1).await;
    worker.kill().await;

    world.configure(INPUT);
    let worker = world.process();
    world.outcomes(1).await;
    world.all_is_committed().await;
    worker.terminate().await;
    let sessions: Vec<_> =
        world.outcomes(1).await.iter().map(|outcome| outcome["session_id"].clone()).collect();
    assert_eq!(sessions, [IN_DOUBT]);
    assert_eq!(world.dead_letters(1).await.len(), 1);
    assert_eq!(world.desk.stats().of(ApiCommand::Transfer).calls, 1);
    audit(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_of_sqlite_stays_one_when_a_new_mapping_reads_its_record() {
    let world = World::new("dead-sqlite", 1, SimulatedDeskSettings::default()).await;
    a_dead_letter_stays_one_when_a_new_mapping_reads_its_record(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_of_postgresql_stays_one_when_a_new_mapping_reads_its_record() {
    let mut world = World::new("dead-postgres", 1, SimulatedDeskSettings::default()).await;
    world.set("LEDGER__URL", &postgres::schema().await);
    a_dead_letter_stays_one_when_a_new_mapping_reads_its_record(world).await;
}
