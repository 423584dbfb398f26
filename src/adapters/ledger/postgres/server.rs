//! The server: its URL, new connections, and errors that say what to repair.
//!
//! Every access has a time limit: a connection that a firewall dropped would block forever.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Row as _};
use tokio::time::timeout;

use super::connection::{DatabaseRoute, PostgresConnection, STATEMENT_LIMIT};
use crate::adapters::secret_file;

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

const PASSWORD_FILE: &str = "ledger.password_file";

/// A setting of the session that PostgreSQL takes at the connection and that means nothing to it. A
/// pooler shares its connections, so it cannot pass it on: it refuses or drops it.
const DIRECT_MARK: &str = "handoff.direct";
const SHOW_MARK: &str = "SELECT current_setting('handoff.direct', true)";

const POOLER_AND_OPTIONS: &str = "is behind a connection pooler, which cannot keep the `options` of the \
    URL: set them for the role instead (ALTER ROLE .. SET search_path = ..), and take them out of \
    ledger.url";

/// Where a server is, and the password for it.
#[derive(Clone)]
pub struct PostgresUrl {
    pub(in super::super) url: SecretString,
    /// Read for each connection.
    pub(in super::super) password_file: Option<PathBuf>,
}

impl PostgresUrl {
    pub(in super::super) fn has_password(&self) -> bool {
        let url = reqwest::Url::parse(self.url.expose_secret());
        url.is_ok_and(|url| {
            url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password")
        })
    }
}

/// The parameters that sqlx knows. It prints an unknown one with its value, which may be a secret.
/// It also knows `options[NAME]`.
const PARAMETERS: [&str; 18] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// Parses the URL; the error never quotes it, because it may contain a password.
pub(in super::super) fn parse_url(url: &str) -> Result<PgConnectOptions, String> {
    let is_known = |name: &str| PARAMETERS.contains(&name) || name.starts_with("options[");
    // An invalid URL gets its error from sqlx below.
    if let Ok(url) = reqwest::Url::parse(url)
        && url.query_pairs().any(|(name, _)| !is_known(&name))
    {
        let known = PARAMETERS.join(", ");
        return Err(format!("has an unknown parameter; there are {known}"));
    }
    let options: PgConnectOptions = url.parse().map_err(|error| match error {
        sqlx::Error::Configuration(cause) => format!("is not a PostgreSQL URL: {cause}"),
        _ => "is not a PostgreSQL URL".to_owned(),
    })?;
    let is_named = options.get_application_name().is_some();
    let options = if is_named { options } else { options.application_name("handoff") };
    // Nothing here is a float, and PgBouncer refuses this parameter.
    Ok(options.extra_float_digits(None).disable_statement_logging())
}

/// The URL without user, password and parameters.
pub(in super::super) fn redact_url(url: &str) -> String {
    match parse_url(url) {
        Ok(options) => {
            let database = options.get_database().unwrap_or_default();
            format!("postgres://{}:{}/{database}", options.get_host(), options.get_port())
        }
        Err(_) => "postgres://".into(),
    }
}

/// A server that can be connected to.
pub(super) struct PostgresServer {
    options: PgConnectOptions,
    password_file: Option<PathBuf>,
    /// Whether a pooler has refused [`DIRECT_MARK`]: it would log each further attempt.
    refuses_mark: AtomicBool,
    /// The redacted URL, for errors.
    pub(super) name: String,
}

impl PostgresServer {
    pub(super) fn new(server: &PostgresUrl) -> anyhow::Result<Self> {
        let url = server.url.expose_secret();
        let options = parse_url(url).map_err(|what| anyhow!("the ledger's URL {what}"))?;
        let password_file = server.password_file.clone();
        Ok(Self { options, password_file, refuses_mark: false.into(), name: redact_url(url) })
    }

    /// This connection where it is still alive, else a new one.
    pub(super) async fn alive(
        &self,
        idle: Option<PostgresConnection>,
    ) -> anyhow::Result<PostgresConnection> {
        if let Some(mut connection) = idle
            && connection.is_alive().await
        {
            return Ok(connection);
        }
        self.connect().await
    }

    pub(super) async fn connect(&self) -> anyhow::Result<PostgresConnection> {
        let mut options = self.options.clone();
        if let Some(file) = &self.password_file {
            let password = secret_file::read(PASSWORD_FILE, file).await;
            let password = password.with_context(|| format!("the ledger {}", self.name))?;
            options = options.password(password.expose_secret());
        }
        self.within(CONNECT_TIMEOUT, self.open(options)).await
    }

    /// Connects, and finds out whether a pooler is in between.
    async fn open(&self, options: PgConnectOptions) -> sqlx::Result<PostgresConnection> {
        if !self.refuses_mark.load(Ordering::Relaxed) {
            let marked = options.clone().options([(DIRECT_MARK, "on"), STATEMENT_LIMIT]);
            match marked.connect().await {
                Ok(mut connection) => {
                    let mark = sqlx::raw_sql(SHOW_MARK).fetch_one(&mut connection).await?;
                    if mark.try_get::<Option<&str>, _>(0)? == Some("on") {
                        return Ok(PostgresConnection::new(connection, DatabaseRoute::Direct));
                    }
                    self.check_options()?;
                    return Ok(PostgresConnection::new(connection, DatabaseRoute::Pooled));
                }
                Err(error) if is_unsupported_parameter(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.check_options()?;
        let connection = options.connect().await?;
        self.refuses_mark.store(true, Ordering::Relaxed);
        Ok(PostgresConnection::new(connection, DatabaseRoute::Pooled))
    }

    /// Refuses options of the URL, such as a search path, behind a pooler: it refuses or drops them,
    /// and without them the ledger would be another one.
    fn check_options(&self) -> sqlx::Result<()> {
        match self.options.get_options() {
            Some(_) => Err(sqlx::Error::Configuration(POOLER_AND_OPTIONS.into())),
            None => Ok(()),
        }
    }

    /// Runs one access with a time limit; each error names the server.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        access: impl Future<Output = sqlx::Result<T>>,
    ) -> anyhow::Result<T> {
        let failed = |what| AccessError { server: self.name.clone(), what, code: None };
        match timeout(limit, access).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => {
                let code = error.as_database_error().and_then(|error| error.code());
                let code = code.map(|code| code.into_owned());
                Err(AccessError { code, ..failed(self.describe(&error)) }.into())
            }
            Err(_) => Err(failed(format!("did not answer in {limit:?}")).into()),
        }
    }

    /// What happened and, where it is known, what to repair. The causes of sqlx's errors are already
    /// in their texts.
    fn describe(&self, error: &sqlx::Error) -> String {
        match error {
            sqlx::Error::Database(refusal) => {
                let message = refusal.message();
                let is_login = matches!(refusal.code().as_deref(), Some("28P01" | "28000"))
                    || message.contains("password authentication failed")
                    || message.contains("SASL authentication failed");
                let remedy = if is_login { self.login_remedy() } else { String::new() };
                format!("refused: {message}{remedy}")
            }
            sqlx::Error::Io(error) => format!("cannot be reached: {error}"),
            sqlx::Error::Configuration(problem) => problem.to_string(),
            other => format!("failed: {other}"),
        }
    }

    fn login_remedy(&self) -> String {
        match &self.password_file {
            Some(file) => {
                let file = secret_file::describe(PASSWORD_FILE, file);
                format!("; write the current password into {file}: the next attempt reads it")
            }
            None => format!(
                "; correct user and password in ledger.url and restart, or name a file with the \
                 password in {PASSWORD_FILE}, which is read again for each connection"
            ),
        }
    }
}

/// A failed access to the database.
#[derive(Debug, thiserror::Error)]
#[error("the ledger {server} {what}")]
pub(super) struct AccessError {
    server: String,
    what: String,
    /// The SQLSTATE of a refusal.
    pub(super) code: Option<String>,
}

/// PgBouncer refuses a connection with parameters that it does not know.
fn is_unsupported_parameter(error: &sqlx::Error) -> bool {
    let refusal = error.as_database_error();
    refusal.is_some_and(|refusal| refusal.message().contains("unsupported startup parameter"))
}
