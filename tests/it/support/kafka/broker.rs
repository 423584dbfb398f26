//! Brokers: the one that all tests of a process share, and those that a test stops and starts.
//!
//! Tuned where Kafka's defaults are slow for tests: no initial rebalance delay, KIP-848 sessions of
//! 6 seconds with heartbeats every half second, classic sessions from 1 second on. Topics are not
//! created automatically.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use parking_lot::Mutex;
use tokio::{
    net::TcpStream,
    sync::OnceCell,
    time::{Instant, sleep},
};

use super::{
    client, container, jvm,
    launcher::{self, Launcher},
};

const START_LIMIT: Duration = Duration::from_secs(90);
const TRIES: u32 = 3;

const PROPERTIES: &[(&str, &str)] = &[
    ("process.roles", "broker,controller"),
    ("node.id", "1"),
    ("controller.listener.names", "CONTROLLER"),
    ("inter.broker.listener.name", "PLAINTEXT"),
    ("listener.security.protocol.map", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT"),
    ("log.dirs", "/tmp/kafka-data"),
    ("auto.create.topics.enable", "false"),
    // Tests give records timestamps of years ago, and the broker removes what is older than seven days
    // 30 s after its start, and every five minutes.
    ("log.initial.task.delay.ms", "86400000"),
    ("log.retention.check.interval.ms", "86400000"),
    ("offsets.topic.num.partitions", "4"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.num.partitions", "4"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    // A killed broker is let in again only when its old session has ended.
    ("broker.session.timeout.ms", "3000"),
    ("broker.heartbeat.interval.ms", "500"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "1000"),
    ("group.consumer.min.session.timeout.ms", "1000"),
    ("group.consumer.session.timeout.ms", "6000"),
    ("group.consumer.min.heartbeat.interval.ms", "100"),
    ("group.consumer.heartbeat.interval.ms", "500"),
];

/// The bootstrap servers of the one broker that all tests of this process share.
///
/// # Panics
/// Where no broker can be had; the message names the ways to one.
pub(crate) async fn shared() -> &'static str {
    static SHARED: OnceCell<Result<Shared, String>> = OnceCell::const_new();
    let start = || async { Shared::start().await.map_err(|error| format!("{error:#}")) };
    match SHARED.get_or_init(start).await {
        Ok(Shared::Given(bootstrap)) => bootstrap,
        Ok(Shared::Own(broker)) => broker.bootstrap(),
        Err(error) => panic!("{error}"),
    }
}

enum Shared {
    Given(String),
    Own(Box<Broker>),
}

impl Shared {
    async fn start() -> Result<Self> {
        let Some(bootstrap) = launcher::given()? else {
            return Ok(Self::Own(Box::new(Broker::try_start(&[]).await?)));
        };
        let answer = client::wait_for_metadata(&bootstrap, Duration::from_secs(10)).await;
        answer.with_context(|| format!("no Kafka answers at HANDOFF_TEST_KAFKA={bootstrap}"))?;
        Ok(Self::Given(bootstrap))
    }
}

/// Kafka's own command-line tools.
pub(crate) struct Tools(jvm::Jvm);

impl Tools {
    /// Runs the main class of a tool, which must succeed.
    pub(crate) async fn run(&self, class: &str, arguments: &[&str]) {
        self.0.run(class, arguments).await.unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// A broker of one test, with data of its own. Both end when it is dropped.
pub(crate) struct Broker {
    bootstrap: String,
    process: Process,
}

enum Process {
    Container(Box<container::Process>),
    Jvm(Box<jvm::Process>),
}

impl Broker {
    /// A new broker, up and empty.
    ///
    /// # Panics
    /// Where no broker can be had, as all the methods here.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A new broker whose `server.properties` differ from those of the others.
    pub(crate) async fn start_with(properties: &[(&str, &str)]) -> Self {
        Self::try_start(properties).await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// A new broker as a Java process, with the means to run Kafka's own tools against it.
    pub(crate) async fn start_with_tools(properties: &[(&str, &str)]) -> (Self, Tools) {
        let start = async {
            let jvm = launcher::find_jvm().await?;
            let broker = Self::try_once(Launcher::Jvm(jvm.clone()), properties).await?;
            Ok::<_, anyhow::Error>((broker, Tools(jvm)))
        };
        start.await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Two brokers of one cluster, as Java processes. The first one is its controller, and coordinates
    /// all groups.
    pub(crate) async fn start_two(properties: &[(&str, &str)]) -> (Self, Self) {
        let start = async {
            let jvm = launcher::find_jvm().await?;
            let controller = free_port()?;
            let voters = format!("1@127.0.0.1:{controller}");
            let mut own = properties.to_vec();
            own.push(("controller.quorum.voters", &voters));
            let listener = format!("CONTROLLER://127.0.0.1:{controller}");
            own.push(("listeners", &listener));
            let first = Self::try_once(Launcher::Jvm(jvm.clone()), &own).await?;
            // The topic of the groups is created now, and there is no other broker.
            client::committed(first.bootstrap(), "first", "none", 1).await;
            let port = free_port()?;
            let address = format!("PLAINTEXT://127.0.0.1:{port}");
            let second = [("process.roles", "broker"), ("node.id", "2"), ("listeners", &address)];
            let mut all = self::properties("127.0.0.1", port, &own)?;
            all.extend(second.map(|(key, value)| (key.to_owned(), value.to_owned())));
            let process = Process::Jvm(Box::new(jvm::Process::start(jvm, all).await?));
            let mut second = Self { bootstrap: format!("127.0.0.1:{port}"), process };
            second.wait().await?;
            Ok::<_, anyhow::Error>((first, second))
        };
        start.await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Where it is reached: `127.0.0.1:PORT`.
    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Stops it as an operator would, and waits for its end.
    pub(crate) async fn stop(&mut self) {
        let stopped = match &mut self.process {
            Process::Container(process) => process.stop().await,
            Process::Jvm(process) => process.stop().await,
        };
        stopped.expect("the broker stops");
    }

    /// Stops it as a power cut would.
    pub(crate) async fn kill(&mut self) {
        let killed = match &mut self.process {
            Process::Container(process) => process.kill().await,
            Process::Jvm(process) => process.kill(),
        };
        killed.expect("the broker is killed");
    }

    /// Sends a signal to a broker of [`Self::start_two`].
    pub(crate) fn signal(&self, name: &str) {
        match &self.process {
            Process::Container(_) => panic!("two brokers are Java processes"),
            Process::Jvm(process) => process.signal(name).expect("it is signalled"),
        }
    }

    /// Starts the stopped broker at its old address with its old data.
    pub(crate) async fn start_again(&mut self) {
        let started = match &mut self.process {
            Process::Container(process) => process.start_again().await,
            Process::Jvm(process) => process.start_again(),
        };
        started.expect("the broker starts again");
        self.wait().await.expect("the broker comes back");
    }

    /// The port was free when it was chosen; another process may be quicker, hence more than one try.
    async fn try_start(properties: &[(&str, &str)]) -> Result<Self> {
        let launcher = launcher::launcher().await?;
        let mut tries = 1;
        loop {
            match Self::try_once(launcher.clone(), properties).await {
                Err(error) if tries < TRIES => eprintln!("Kafka again, it failed: {error:#}"),
                result => return result,
            }
            tries += 1;
        }
    }

    pub(super) async fn try_once(launcher: Launcher, own: &[(&str, &str)]) -> Result<Self> {
        let port = free_port()?;
        let process = match launcher {
            Launcher::Docker(image) => {
                let properties = properties("0.0.0.0", port, own)?;
                let process = container::Process::start(image, port, properties).await?;
                Process::Container(Box::new(process))
            }
            Launcher::Jvm(jvm) => {
                let properties = properties("127.0.0.1", port, own)?;
                Process::Jvm(Box::new(jvm::Process::start(jvm, properties).await?))
            }
        };
        let mut broker = Self { bootstrap: format!("127.0.0.1:{port}"), process };
        broker.wait().await?;
        Ok(broker)
    }

    async fn wait(&mut self) -> Result<()> {
        let end = Instant::now() + START_LIMIT;
        while TcpStream::connect(&self.bootstrap).await.is_err() {
            self.check().await?;
            ensure!(Instant::now() < end, "Kafka does not listen after {START_LIMIT:?}");
            sleep(Duration::from_millis(50)).await;
        }
        while client::wait_for_metadata(&self.bootstrap, Duration::from_secs(1)).await.is_err() {
            self.check().await?;
            ensure!(Instant::now() < end, "Kafka does not answer after {START_LIMIT:?}");
        }
        Ok(())
    }

    async fn check(&mut self) -> Result<()> {
        match &mut self.process {
            Process::Container(process) => process.check().await,
            Process::Jvm(process) => process.check(),
        }
    }
}

fn properties(host: &str, port: u16, own: &[(&str, &str)]) -> Result<BTreeMap<String, String>> {
    let controller = free_port()?;
    let listeners = format!("PLAINTEXT://{host}:{port},CONTROLLER://127.0.0.1:{controller}");
    let advertised = format!("PLAINTEXT://127.0.0.1:{port}");
    let voters = format!("1@127.0.0.1:{controller}");
    let placed = [
        ("listeners", listeners.as_str()),
        ("advertised.listeners", &advertised),
        ("controller.quorum.voters", &voters),
    ];
    let mut all = BTreeMap::new();
    for (key, value) in PROPERTIES.iter().chain(&placed) {
        all.insert((*key).to_owned(), (*value).to_owned());
    }
    for (key, value) in own {
        let is_listener = key.contains("listener") && !key.starts_with("listener.name.");
        let ours = all.get(*key).filter(|_| is_listener);
        let value = ours.map_or_else(|| (*value).to_owned(), |ours| with_listeners(ours, value));
        all.insert((*key).to_owned(), value);
    }
    Ok(all)
}

/// A listener of the test's own replaces ours of the same name, or comes beside ours.
fn with_listeners(ours: &str, own: &str) -> String {
    let name = |entry: &str| entry.split(':').next().map(str::to_owned);
    let is_replaced = |entry: &&str| own.split(',').any(|own| name(own) == name(entry));
    let kept = ours.split(',').filter(|entry| !is_replaced(entry));
    kept.chain(own.split(',')).collect::<Vec<_>>().join(",")
}

/// Below the ports that the kernel gives to outgoing connections: while a broker is down, a client that
/// connects again and again could otherwise be given the broker's own port, and keep it. Each port is given
/// once, because it is bound later.
pub(in crate::support) fn free_port() -> Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    for _ in 0..100 {
        let port = fastrand::u16(20_000..32_000);
        if GIVEN.lock().insert(port) && TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between 20000 and 32000")
}
