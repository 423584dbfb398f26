//! The real parts of a run: Kafka, database, Desk, topics, and the variables of its workers.
//!
//! All of them belong to the run and end with it. `faults` stops and restarts them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use handoff::adapters::ledger::{LedgerReader, LedgerUrl};
use handoff::sim::desk::DEMO_KEY;

use rusqlite::Connection;
use sqlx::{Connection as _, PgConnection};

use super::desk::DeskProcess;
use super::faults::ConnectedTo;
use super::input_topic::InputTopic;
use super::piles;
use super::settings::{LedgerKind, RunSettings, SESSION_TIMEOUT, SETTLE};
use crate::support::kafka::{Broker, alter_topic, create_topic_with, unique};
use crate::support::postgres::{self, execute};
use crate::support::relay::Relay;

pub(super) const PARTITIONS: i32 = 6;
/// The workers' user in PostgreSQL, and their database.
const ROLE: &str = "handoff";

/// The broker's clock: a record arrives when the broker has it.
pub(super) const APPEND_TIME: (&str, &str) = ("message.timestamp.type", "LogAppendTime");

pub(super) struct Environment {
    pub(super) broker: Broker,
    /// Only with a ledger in PostgreSQL.
    pub(super) database: Option<postgres::Server>,
    /// Between the workers and the broker, and between them and the database.
    broker_relay: Relay,
    database_relay: Option<Relay>,
    pub(super) desk: DeskProcess,
    pub(super) input: Arc<InputTopic>,
    pub(super) name: String,
    settings: RunSettings,
}

impl Environment {
    pub(super) async fn start(settings: &RunSettings) -> Self {
        drop(fs::remove_dir_all(&settings.folder));
        fs::create_dir_all(&settings.folder).expect("a folder");
        // All clients follow what the broker advertises, those of the test too.
        let (broker_relay, broker) = Relay::with_broker().await;
        let (database, database_relay) = match settings.ledger {
            LedgerKind::Sqlite => (None, None),
            LedgerKind::Postgres => {
                let database = start_database(&password_file(settings)).await;
                let relay = Relay::to(&address(&database)).await;
                (Some(database), Some(relay))
            }
        };
        let desk = DeskProcess::start(&settings.folder, settings.seed).await;
        let name = unique("chaos");
        let input = Arc::new(InputTopic::new(broker.bootstrap(), format!("{name}-in")));
        let environment = Self {
            broker,
            database,
            broker_relay,
            database_relay,
            desk,
            input,
            name,
            settings: settings.clone(),
        };
        let names = ["in", "out", "dead"].map(|topic| environment.topic(topic));
        for name in names {
            let bootstrap = environment.broker.bootstrap();
            create_topic_with(bootstrap, &name, PARTITIONS, &[APPEND_TIME]).await;
        }
        fs::write(environment.config_file(), piles::ROUTES).expect("a file is written");
        environment.desk.change_staff(&piles::staff()).await;
        environment
    }

    pub(super) fn topic(&self, which: &str) -> String {
        format!("{}-{which}", self.name)
    }

    /// Sets up the topics that the workers publish to; every other setting gets its default.
    pub(super) async fn set_up_output_topics(&self, settings: &[(&str, &str)]) {
        for topic in ["out", "dead"] {
            alter_topic(self.broker.bootstrap(), &self.topic(topic), settings).await;
        }
    }

    fn config_file(&self) -> PathBuf {
        self.settings.folder.join("handoff.toml")
    }

    /// Drops the workers' connections in silence.
    pub(super) fn drop_connections(&self, of: ConnectedTo) {
        let relay = match of {
            ConnectedTo::Broker => Some(&self.broker_relay),
            ConnectedTo::Database => self.database_relay.as_ref(),
        };
        relay.expect("only if there is one").drop_in_silence();
    }

    /// Changes the password of the workers' user and ends its connections. The file that the workers
    /// read gets the new one before or after that.
    pub(super) async fn change_password(&self, password: &str) {
        let server = self.database.as_ref().expect("only if there is one");
        let sql = format!(
            "ALTER ROLE {ROLE} PASSWORD '{password}';
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'"
        );
        execute(server.url(), &sql).await.expect("the password is changed");
    }

    pub(super) fn write_password(&self, password: &str) {
        write_password(&password_file(&self.settings), password);
    }

    /// The ledger, read past the workers' relay and password.
    fn ledger(&self) -> String {
        match &self.database {
            Some(server) => format!("postgres://postgres@{}/{ROLE}", address(server)),
            None => format!("sqlite://{}", self.settings.folder.join("ledger.db").display()),
        }
    }

    /// The history of all unfinished ledger entries, for people.
    pub(super) async fn unfinished_entries(&self) -> String {
        let place = LedgerUrl::parse(&self.ledger()).expect("a place");
        let reader = LedgerReader::open(&place).await.expect("the ledger opens");
        let mut text = String::new();
        for key in self.unpublished_keys().await {
            let entry = reader.entry(&key).await.expect("a row that can be read");
            text.push_str(&format!("{key}: {entry:#?}\n"));
        }
        text
    }

    /// The keys of all unfinished ledger entries, without those that nobody can finish.
    pub(super) async fn unpublished_keys(&self) -> Vec<String> {
        let mut keys = self.ledger_keys("state <> 'published'").await;
        keys.retain(|key| !self.input.is_abandoned(key));
        keys
    }

    /// The keys of the entries that only Kafka can give back, without those as above.
    pub(super) async fn keys_in_work(&self) -> Vec<String> {
        let condition = "state = 'open' AND NOT from_ledger OR waits_for = 'redelivery'";
        let mut keys = self.ledger_keys(condition).await;
        keys.retain(|key| !self.input.is_abandoned(key));
        keys
    }

    /// The keys of the ledger entries for which this SQL holds.
    pub(super) async fn ledger_keys(&self, condition: &'static str) -> Vec<String> {
        if self.database.is_some() {
            let sql = format!("SELECT key FROM handoff_events WHERE {condition}");
            let mut connection = PgConnection::connect(&self.ledger()).await.expect("a connection");
            let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql));
            return query.fetch_all(&mut connection).await.expect("keys");
        }
        let ledger = Connection::open(self.settings.folder.join("ledger.db")).expect("a file");
        let sql = format!("SELECT key FROM handoff_ledger WHERE {condition}");
        let mut query = ledger.prepare(&sql).expect("a ledger");
        let keys = query.query_map([], |row| row.get(0)).expect("keys");
        keys.collect::<Result<_, _>>().expect("keys")
    }

    /// The environment variables of worker `number`.
    pub(super) fn variables(&self, number: usize) -> Vec<(String, String)> {
        let mut env = vec![
            ("KAFKA__BOOTSTRAP_SERVERS", self.broker_relay.address()),
            ("KAFKA__GROUP_ID", self.name.clone()),
            ("KAFKA__ESCALATIONS_TOPIC", self.topic("in")),
            ("KAFKA__OUTCOMES_TOPIC", self.topic("out")),
            ("KAFKA__DEAD_LETTERS_TOPIC", self.topic("dead")),
            ("KAFKA__PROPERTIES__RECONNECT_BACKOFF_MAX_MS", "500".into()),
            ("DESK__ENDPOINT", self.desk.endpoint.clone()),
            ("DESK__SDKAPPID", "1400000000".into()),
            ("DESK__IDENTIFIER", "administrator".into()),
            ("DESK__SECRET_KEY", DEMO_KEY.into()),
            // Above the rate of the records; re-attempts of a full pile alone would need more.
            ("DESK__QUOTA_PER_SECOND", "1000".into()),
            ("DESK__TIMEOUT_MS", "1200".into()),
            ("DESK__CONNECT_TIMEOUT_MS", "500".into()),
            // More than Desk needs: a call arrives there later than it began.
            ("DESK__SETTLE_MS", millis(SETTLE + Duration::from_millis(500))),
            ("DESK__PROBE_INITIAL_MS", "300".into()),
            ("DESK__PROBE_MAX_MS", "1000".into()),
            ("RETRY__INITIAL_MS", "50".into()),
            ("RETRY__MAX_MS", "500".into()),
            ("RETRY__PARK_MS", "2000,3000".into()),
            ("DRAIN__TIMEOUT_MS", "4000".into()),
            ("LEDGER__URL", self.workers_ledger()),
            ("ADMIN__LISTEN", String::new()),
            ("LOG__LEVEL", "info,handoff=debug".into()),
        ];
        if self.database.is_some() {
            let file = password_file(&self.settings).display().to_string();
            env.push(("LEDGER__PASSWORD_FILE", file));
        }
        env.extend(self.group(number));
        let keys = env.into_iter().map(|(key, value)| (format!("HANDOFF__{key}"), value));
        let file = self.config_file().display().to_string();
        keys.chain([("HANDOFF_CONFIG".to_owned(), file)]).collect()
    }

    fn workers_ledger(&self) -> String {
        match &self.database_relay {
            Some(relay) => format!("postgres://{ROLE}@{}/{ROLE}", relay.address()),
            None => self.ledger(),
        }
    }

    fn group(&self, number: usize) -> Vec<(&'static str, String)> {
        let mut env = Vec::new();
        let group = &self.settings.group;
        if group.static_members {
            env.push(("KAFKA__CONSUMER_PROPERTIES__GROUP_INSTANCE_ID", format!("worker-{number}")));
        }
        if group.protocol == "consumer" {
            // The broker sets the session time-out: see the fixture.
            env.push(("KAFKA__CONSUMER_PROPERTIES__GROUP_PROTOCOL", "consumer".into()));
            return env;
        }
        let strategy = if group.protocol == "eager" { "range" } else { "cooperative-sticky" };
        env.push(("KAFKA__CONSUMER_PROPERTIES__PARTITION_ASSIGNMENT_STRATEGY", strategy.into()));
        env.push(("KAFKA__CONSUMER_PROPERTIES__SESSION_TIMEOUT_MS", millis(SESSION_TIMEOUT)));
        env.push(("KAFKA__CONSUMER_PROPERTIES__HEARTBEAT_INTERVAL_MS", "1000".into()));
        env
    }
}

/// A server with a user and a database for the workers. The user needs its password, nobody else does.
async fn start_database(password_file: &Path) -> postgres::Server {
    let server = postgres::Server::start().await;
    let role = format!("CREATE ROLE {ROLE} LOGIN PASSWORD 'first'");
    let database = format!("CREATE DATABASE {ROLE} OWNER {ROLE}");
    let rules = format!(
        "DO $$ BEGIN EXECUTE format('COPY (VALUES (%L), (%L), (%L)) TO %L', 'local all all trust',
         'host all {ROLE} all scram-sha-256', 'host all all all trust',
         current_setting('hba_file')); PERFORM pg_reload_conf(); END $$"
    );
    for sql in [role, database, rules] {
        execute(server.url(), &sql).await.expect("the database is set up");
    }
    write_password(password_file, "first");
    server
}

/// `host:port` of a server.
fn address(server: &postgres::Server) -> String {
    let url = server.url();
    let address = url.split(['@', '/']).nth(3).expect("postgres://user@host:port/database");
    address.to_owned()
}

fn password_file(settings: &RunSettings) -> PathBuf {
    settings.folder.join("password")
}

/// In one step, as a mounted secret changes.
fn write_password(file: &Path, password: &str) {
    let new = file.with_extension("new");
    fs::write(&new, password).expect("a file is written");
    fs::rename(&new, file).expect("the file is replaced");
}

fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}
