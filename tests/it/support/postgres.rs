//! A real PostgreSQL for the tests.
//!
//! [`schema`] creates a schema in the one server that all tests of a process share; [`Server`] is one
//! that a test may stop and start. Looked for in this order: `HANDOFF_TEST_POSTGRES=url`; Docker, with
//! the image `HANDOFF_TEST_POSTGRES_IMAGE` (postgres:17-alpine); `initdb` and `pg_ctl` on this machine,
//! run as the user `postgres` where the tests run as root. A server started here ends with the test
//! process, however that ends. Without a server the test fails; it is not skipped.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::{
    process::Command,
    sync::OnceCell,
    time::{Instant, sleep, timeout},
};

use super::{guard::Guard, kafka};

const START_LIMIT: Duration = Duration::from_secs(60);
const DEFAULT_IMAGE: &str = "postgres:17-alpine";
const SETTINGS: &str = "-c max_connections=200";
const REMOVE_CONTAINER: &str = "docker rm --force --volumes \"$1\"";
const REMOVE_FOLDER: &str = "$2 \"$3\" -D \"$1\" -m immediate stop; rm -rf \"$1\"";

/// The URL of a new, empty schema in the shared server.
///
/// # Panics
/// Where no server can be had; the message names the ways to one.
pub(crate) async fn schema() -> String {
    create_schema(&shared_url().await).await.expect("a schema is created")
}

/// The database of the shared server.
///
/// # Panics
/// Where no server can be had.
pub(crate) async fn shared_url() -> String {
    static SHARED: OnceCell<Result<(String, Option<Server>), String>> = OnceCell::const_new();
    let start = || async { shared().await.map_err(|error| format!("{error:#}")) };
    match SHARED.get_or_init(start).await {
        Ok((url, _)) => url.clone(),
        Err(error) => panic!("{error}"),
    }
}

async fn shared() -> Result<(String, Option<Server>)> {
    if let Some(url) = variable("HANDOFF_TEST_POSTGRES") {
        return Ok((url, None));
    }
    let server = Server::try_start().await?;
    Ok((server.url().to_owned(), Some(server)))
}

async fn create_schema(url: &str) -> Result<String> {
    let name = kafka::unique("handoff_test").replace('-', "_");
    execute(url, &format!("CREATE SCHEMA {name}")).await?;
    let joint = if url.contains('?') { '&' } else { '?' };
    Ok(format!("{url}{joint}options[search_path]={name}"))
}

/// Run one statement.
pub(crate) async fn execute(url: &str, sql: &str) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await?;
    Ok(connection.close().await?)
}

/// A server of one test, with data of its own. Both end when it is dropped.
pub(crate) struct Server {
    url: String,
    way: Way,
    _guard: Guard,
}

enum Way {
    Docker { container: String },
    Local(Local),
}

/// The programs, and the user to run them as.
struct Local {
    pg_ctl: PathBuf,
    as_user: Vec<&'static str>,
    folder: PathBuf,
    options: String,
}

impl Server {
    /// A new server, up and empty.
    ///
    /// # Panics
    /// Where no server can be had.
    pub(crate) async fn start() -> Self {
        Self::try_start().await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Its database, as the superuser.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Stop it at once, as a crash would.
    pub(crate) async fn stop(&self) {
        let stopped = match &self.way {
            Way::Docker { container } => docker(&["kill", container]).await,
            Way::Local(local) => local.run(&["-m", "immediate", "stop"]).await,
        };
        stopped.expect("the server stops");
    }

    /// Start the stopped server at its old address with its old data.
    pub(crate) async fn start_again(&self) {
        let started = match &self.way {
            Way::Docker { container } => docker(&["start", container]).await,
            Way::Local(local) => local.start().await,
        };
        started.expect("the server starts again");
        self.wait().await.expect("the server comes back");
    }

    async fn try_start() -> Result<Self> {
        let no_docker = match Self::in_docker().await {
            Ok(server) => return Ok(server),
            Err(error) => error,
        };
        let no_local = match Self::local().await {
            Ok(server) => return Ok(server),
            Err(error) => error,
        };
        bail!(
            "no PostgreSQL for the tests. Any one of these will do:\n\
             - HANDOFF_TEST_POSTGRES=postgres://user:password@host/database, a server that runs already (enough for \
             tests that do not stop theirs)\n\
             - Docker with the image {DEFAULT_IMAGE}, or the one in HANDOFF_TEST_POSTGRES_IMAGE ({no_docker:#})\n\
             - initdb and pg_ctl, in the PATH or in /usr/lib/postgresql ({no_local:#})"
        )
    }

    async fn in_docker() -> Result<Self> {
        let image = variable("HANDOFF_TEST_POSTGRES_IMAGE").unwrap_or(DEFAULT_IMAGE.into());
        docker(&["version"]).await.context("no Docker daemon answers")?;
        if docker(&["image", "inspect", &image]).await.is_err() {
            docker(&["pull", "--quiet", &image]).await?;
        }
        let (port, container) = (kafka::free_port()?, kafka::unique("handoff-postgres"));
        let guard = Guard::new(REMOVE_CONTAINER, &[&container])?;
        let publish = format!("127.0.0.1:{port}:5432");
        let settings: Vec<_> = SETTINGS.split(' ').collect();
        let start = [
            &["run", "--detach", "--name", &container, "--publish", &publish][..],
            &["--env", "POSTGRES_HOST_AUTH_METHOD=trust", &image, "postgres"],
            &settings,
        ];
        docker(&start.concat()).await?;
        Self { url: url(port), way: Way::Docker { container }, _guard: guard }.up().await
    }

    async fn local() -> Result<Self> {
        let initdb = program("initdb")?;
        let is_root = String::from_utf8(run("id", &["-u"]).await?)?.trim() == "0";
        let as_user = if is_root { vec!["runuser", "-u", "postgres", "--"] } else { vec![] };
        let port = kafka::free_port()?;
        let folder = std::env::temp_dir().join(kafka::unique("handoff-postgres"));
        let options = format!("-p {port} -k {} {SETTINGS}", folder.display());
        let local = Local { pg_ctl: program("pg_ctl")?, as_user, folder, options };
        let (data, pg_ctl) =
            (local.folder.display().to_string(), local.pg_ctl.display().to_string());
        let guard = Guard::new(REMOVE_FOLDER, &[&data, &local.as_user.join(" "), &pg_ctl])?;
        let arguments = ["-D", &data, "-A", "trust", "-U", "postgres", "-E", "UTF8"];
        local.program(&initdb, &arguments).await?;
        local.start().await?;
        Self { url: url(port), way: Way::Local(local), _guard: guard }.up().await
    }

    async fn up(self) -> Result<Self> {
        self.wait().await?;
        Ok(self)
    }

    async fn wait(&self) -> Result<()> {
        let end = Instant::now() + START_LIMIT;
        while let Err(error) = execute(&self.url, "SELECT 1").await {
            ensure!(
                Instant::now() < end,
                "PostgreSQL does not answer in {START_LIMIT:?}: {error:#}"
            );
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

impl Local {
    async fn start(&self) -> Result<()> {
        let log = self.folder.join("log").display().to_string();
        self.run(&["-w", "-l", &log, "-o", &self.options, "start"]).await
    }

    async fn run(&self, arguments: &[&str]) -> Result<()> {
        let folder = self.folder.display().to_string();
        self.program(&self.pg_ctl, &[&["-D", &folder], arguments].concat()).await
    }

    async fn program(&self, program: &Path, arguments: &[&str]) -> Result<()> {
        let program = program.display().to_string();
        let words = [&self.as_user[..], &[&program], arguments].concat();
        run(words[0], &words[1..]).await.map(drop)
    }
}

fn url(port: u16) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/postgres")
}

fn program(name: &str) -> Result<PathBuf> {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<_> = installed.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.extend(variable("PATH").iter().flat_map(std::env::split_paths));
    let mut found = folders.into_iter().rev().map(|folder| folder.join(name));
    found.find(|file| file.is_file()).with_context(|| format!("there is no {name}"))
}

async fn docker(arguments: &[&str]) -> Result<()> {
    run("docker", arguments).await.map(drop)
}

async fn run(program: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    let what = format!("{program} {}", arguments.join(" "));
    let log = tempfile::tempfile()?;
    let mut command = Command::new(program);
    // A server outlives pg_ctl and keeps its standard error: a pipe would never end.
    command.args(arguments).current_dir("/").stderr(log.try_clone()?).kill_on_drop(true);
    let output = timeout(Duration::from_secs(300), command.output())
        .await
        .with_context(|| format!("{what}: no answer"))?
        .with_context(|| format!("{what} cannot be run"))?;
    let mut error = String::new();
    std::io::Seek::rewind(&mut &log)?;
    std::io::Read::read_to_string(&mut &log, &mut error)?;
    ensure!(output.status.success(), "{what}: {}", error.trim());
    Ok(output.stdout)
}

#[expect(clippy::disallowed_methods, reason = "the environment says where PostgreSQL is")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
