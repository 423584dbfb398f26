//! A real PgBouncer in transaction mode, before the server of the tests.
//!
//! It gives each transaction the next of its connections to the server (round robin), so whatever
//! relies on keeping one fails at once.

use std::{os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use sqlx::{ConnectOptions, postgres::PgConnectOptions};
use tokio::time::{Instant, sleep};

use super::{guard::Guard, kafka, postgres};

const STOP: &str = "kill $(cat \"$1/pid\"); rm -rf \"$1\"";

/// A pooler of one test; it ends when it is dropped.
pub(crate) struct PgBouncer {
    port: u16,
    server: String,
    _guard: Guard,
}

impl PgBouncer {
    /// As Debian configures it, but for the mode.
    ///
    /// # Panics
    /// Where the program is missing: `scripts/setup` installs it.
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// With this line of configuration.
    pub(crate) async fn start_with(line: &str) -> Self {
        let server = postgres::shared_url().await;
        let folder = std::env::temp_dir().join(kafka::unique("handoff-pgbouncer"));
        std::fs::create_dir(&folder).expect("a folder");
        let everybody = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&folder, everybody).expect("its permissions");
        let port = kafka::free_port().expect("a port");
        let options: PgConnectOptions = server.parse().expect("the server's URL");
        configure(&folder, &options, port, line);
        let guard = Guard::new(STOP, &[&folder.display().to_string()]).expect("a guard");
        let mut command = Command::new("/usr/sbin/pgbouncer");
        // It refuses to run as root.
        let is_root = std::fs::metadata("/proc/self")
            .is_ok_and(|process| std::os::unix::fs::MetadataExt::uid(&process) == 0);
        if is_root {
            command.args(["-u", "postgres"]);
        }
        let started = command.arg("-d").arg("-q").arg(folder.join("ini")).status();
        let started = started.expect("PgBouncer is installed (scripts/setup installs it)");
        assert!(started.success(), "PgBouncer starts");
        let bouncer = Self { port, server, _guard: guard };
        let until = Instant::now() + Duration::from_secs(10);
        while let Err(error) = bouncer.options("postgres").connect().await {
            assert!(Instant::now() < until, "PgBouncer does not answer: {error}");
            sleep(Duration::from_millis(50)).await;
        }
        bouncer
    }

    /// The URL of a new, empty database, through the pooler.
    pub(crate) async fn database(&self) -> String {
        let name = kafka::unique("handoff_pooled").replace('-', "_");
        let create = format!("CREATE DATABASE {name}");
        postgres::execute(&self.server, &create).await.expect("a database is created");
        self.url(&name)
    }

    /// The URL of a database, through the pooler.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    fn options(&self, database: &str) -> PgConnectOptions {
        let options: PgConnectOptions = self.url(database).parse().expect("a URL");
        options.extra_float_digits(None)
    }
}

fn configure(folder: &Path, server: &PgConnectOptions, port: u16, line: &str) {
    let (host, server_port, user) = (server.get_host(), server.get_port(), server.get_username());
    let folder_name = folder.display();
    let ini = format!(
        "[databases]\n* = host={host} port={server_port} user={user}\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = trust\nauth_file = {folder_name}/users\npidfile = {folder_name}/pid\n\
         logfile = {folder_name}/log\npool_mode = transaction\nserver_round_robin = 1\n\
         min_pool_size = 4\ndefault_pool_size = 6\n{line}\n"
    );
    std::fs::write(folder.join("ini"), ini).expect("its configuration");
    std::fs::write(folder.join("users"), "\"postgres\" \"\"\n").expect("its users");
}
