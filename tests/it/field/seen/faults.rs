//! The faults of the table: each function starts a worker, makes it ready, and breaks something.

use std::any::Any;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use handoff::sim::desk::{ConnectionOutage, DEMO_KEY, InjectedFault, SimulatedDeskSettings};
use tokio::time::sleep;

use crate::field::beside::until;
use crate::field::permissions::{self, allow_what_is_documented};
use crate::field::two_brokers;
use crate::support::kafka::{Broker, create_topic_on};
use crate::support::postgres::{Server, execute, schema};
use crate::support::worker::{Process, World, ask_admin, escalation, free_port};

/// A started process listens after this time; nobody asks it before.
const START: Duration = Duration::from_secs(1);

/// A worker with a fault that has just begun.
pub(super) struct Broken {
    pub(super) world: World,
    pub(super) worker: Process,
    pub(super) port: u16,
    /// The topics of escalations and of outcomes.
    pub(super) input: String,
    pub(super) output: String,
    pub(super) repair: LocalBoxFuture<'static, Parts>,
}

/// What must live on after the repair.
pub(super) type Parts = Box<dyn Any>;

impl Broken {
    fn new(
        world: World,
        worker: Process,
        port: u16,
        repair: LocalBoxFuture<'static, Parts>,
    ) -> Self {
        let (input, output) = (world.topic("in"), world.topic("out"));
        Self { world, worker, port, input, output, repair }
    }

    /// In a world of `two_brokers`.
    fn of_two(self) -> Self {
        let (input, output) = (self.world.topic("from"), self.world.topic("answers"));
        Self { input, output, ..self }
    }
}

/// A worker that has answered an event, and so is ready.
async fn working(world: &mut World) -> (Process, u16) {
    let port = free_port();
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    let worker = world.process();
    world.publish([escalation("before", "before")]).await;
    world.outcomes(1).await;
    until("it is ready", async || ask_admin(port, "ready").await.0 == 200).await;
    (worker, port)
}

async fn publish_some(world: &World) {
    world.publish((0..20).map(|n| escalation(&format!("e-{n}"), &format!("s-{n}")))).await;
}

fn nothing() -> Parts {
    Box::new(())
}

pub(super) async fn desk_down() -> Broken {
    let mut world = World::new("seen-desk", 2, SimulatedDeskSettings::default()).await;
    let (worker, port) = working(&mut world).await;
    world.desk.set_outage(ConnectionOutage::Refusing);
    publish_some(&world).await;
    let desk = world.desk.clone();
    let repair = Box::pin(async move {
        desk.set_outage(ConnectionOutage::None);
        nothing()
    });
    Broken::new(world, worker, port, repair)
}

pub(super) async fn desk_misconfigured() -> Broken {
    let mut world = World::new("seen-key", 2, SimulatedDeskSettings::default()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("key");
    std::fs::write(&key, DEMO_KEY).expect("a file");
    world.set("DESK__SECRET_KEY", "").set("DESK__SECRET_KEY_FILE", &key.display().to_string());
    let (worker, port) = working(&mut world).await;
    std::fs::write(&key, "of-another-app").expect("a file");
    // The worker signs again once its signature is refused.
    world.desk.schedule(InjectedFault::error(70_001));
    publish_some(&world).await;
    let repair = Box::pin(async move {
        std::fs::write(&key, DEMO_KEY).expect("a file");
        Box::new(folder) as Parts
    });
    Broken::new(world, worker, port, repair)
}

pub(super) async fn brokers_gone() -> Broken {
    let mut broker = Broker::start().await;
    let desk = SimulatedDeskSettings::default();
    let mut world = World::on(broker.bootstrap(), "seen-brokers", 2, desk).await;
    let (worker, port) = working(&mut world).await;
    broker.kill().await;
    let repair = Box::pin(async move {
        broker.start_again().await;
        Box::new(broker) as Parts
    });
    Broken::new(world, worker, port, repair)
}

/// A topic of two replicas that wants both in sync, and one broker.
pub(super) async fn outcomes_refused() -> Broken {
    let (first, mut second) = Broker::start_two(&[]).await;
    let (world, port) = two_brokers::world(&first, &[&[1]]).await;
    let minimum = [("min.insync.replicas", "2")];
    create_topic_on(&world.bootstrap, &world.topic("answers"), &[&[1, 2]], &minimum).await;
    let worker = world.process();
    until("it has partitions", async || worker.log().contains("partitions assigned")).await;
    second.stop().await;
    two_brokers::publish(&world, 0, (0..20).map(|n| format!("e-{n}"))).await;
    let repair = Box::pin(async move {
        second.start_again().await;
        Box::new((first, second)) as Parts
    });
    Broken::new(world, worker, port, repair).of_two()
}

/// The topic is read only when it must be found out whether an outcome was published before.
pub(super) async fn outcomes_unreadable() -> Broken {
    let (broker, tools, mut world) = permissions::world("seen-unreadable").await;
    allow_what_is_documented(&tools, &world).await;
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_PROTOCOL", "consumer");
    let (worker, port) = working(&mut world).await;
    let (bootstrap, output) = (world.bootstrap.clone(), world.topic("out"));
    let change = ["--remove", "--force", "--operation", "Read", "--operation", "Write"];
    permissions::acl(&tools, &bootstrap, &change, &["--topic", &output]).await;
    let describe = ["--add", "--operation", "Describe"];
    permissions::acl(&tools, &bootstrap, &describe, &["--topic", &output]).await;
    publish_some(&world).await;
    until("they are refused", async || worker.log().contains("message not published")).await;
    worker.kill().await;
    let write = ["--add", "--operation", "Write"];
    permissions::acl(&tools, &bootstrap, &write, &["--topic", &output]).await;
    let worker = world.process();
    let repair = Box::pin(async move {
        let read = ["--add", "--operation", "Read"];
        permissions::acl(&tools, &bootstrap, &read, &["--topic", &output]).await;
        Box::new((broker, tools)) as Parts
    });
    sleep(START).await;
    Broken::new(world, worker, port, repair)
}

pub(super) async fn ledger_away() -> Broken {
    let server = Server::start().await;
    let mut world = World::new("seen-ledger", 2, SimulatedDeskSettings::default()).await;
    world.set("LEDGER__URL", server.url());
    let (worker, port) = working(&mut world).await;
    server.stop().await;
    publish_some(&world).await;
    let repair = Box::pin(async move {
        server.start_again().await;
        Box::new(server) as Parts
    });
    Broken::new(world, worker, port, repair)
}

/// The entry of an event in a call, damaged while no worker runs.
pub(super) async fn ledger_unreadable() -> Broken {
    let mut world = World::new("seen-entry", 2, SimulatedDeskSettings::default()).await;
    let url = schema().await;
    world.set("LEDGER__URL", &url).set("DESK__TIMEOUT_MS", "20000");
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_PROTOCOL", "consumer");
    let (worker, port) = working(&mut world).await;
    world.desk.schedule(InjectedFault::hang().session("damaged"));
    world.publish([escalation("damaged", "damaged")]).await;
    let is_called = async || world.desk.session("damaged").is_some_and(|report| report.calls > 0);
    until("it is called", is_called).await;
    worker.kill().await;
    let run = async |sql: &str| execute(&url, sql).await.expect("the database answers");
    run("CREATE TABLE kept AS SELECT key, history FROM handoff_events").await;
    run("UPDATE handoff_events SET history = '{' WHERE key LIKE '%damaged%'").await;
    let worker = world.process();
    let repair = Box::pin(async move {
        let kept = "(SELECT kept.history FROM kept WHERE kept.key = handoff_events.key)";
        let sql = format!("UPDATE handoff_events SET history = {kept} WHERE key LIKE '%damaged%'");
        execute(&url, &sql).await.expect("the database answers");
        nothing()
    });
    sleep(START).await;
    Broken::new(world, worker, port, repair)
}

/// The group's coordinator is gone, and the broker with the topics is not. The partitions are lost once
/// the member's session has timed out; until then events are answered.
pub(super) async fn group_lost() -> Broken {
    let (mut first, second) = Broker::start_two(&[]).await;
    let (mut world, port) = two_brokers::world(&first, &[&[2]]).await;
    create_topic_on(&world.bootstrap, &world.topic("answers"), &[&[2]], &[]).await;
    world.set("KAFKA__CONSUMER_PROPERTIES__SESSION_TIMEOUT_MS", "10000");
    world.set("DRAIN__TIMEOUT_MS", "5000");
    let worker = world.process();
    until("it has partitions", async || worker.log().contains("partitions assigned")).await;
    first.kill().await;
    until("they are lost", async || worker.log().contains("partitions revoked")).await;
    let repair = Box::pin(async move {
        first.start_again().await;
        Box::new((first, second)) as Parts
    });
    Broken::new(world, worker, port, repair).of_two()
}

/// The broker keeps the static id of a killed member for its session time-out, which is the repair.
pub(super) async fn consumer_fatal() -> Broken {
    let longer = [("group.consumer.session.timeout.ms", "15000")];
    let broker = Broker::start_with(&longer).await;
    let desk = SimulatedDeskSettings::default();
    let mut world = World::on(broker.bootstrap(), "seen-fatal", 2, desk).await;
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_PROTOCOL", "consumer");
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_INSTANCE_ID", "worker-1");
    let (killed, port) = working(&mut world).await;
    killed.kill().await;
    let worker = world.process();
    sleep(START).await;
    let repair = Box::pin(async move { Box::new(broker) as Parts });
    Broken::new(world, worker, port, repair)
}
