//! The server: its URL, connections to it, and time limits.
//!
//! Every access has a time limit: a connection that a firewall dropped would block forever.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::time::timeout;

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);

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
    Ok(options.disable_statement_logging())
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
    /// The redacted URL, for errors.
    pub(super) name: String,
}

impl PostgresServer {
    pub(super) fn new(url: &SecretString) -> anyhow::Result<Self> {
        let url = url.expose_secret();
        let options = parse_url(url).map_err(|what| anyhow!("the ledger's URL {what}"))?;
        Ok(Self { options, name: redact_url(url) })
    }

    pub(super) async fn connect(&self) -> anyhow::Result<PgConnection> {
        self.within(CONNECT_TIMEOUT, self.options.connect()).await
    }

    /// Runs one access with a time limit; each error names the server.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        access: impl Future<Output = sqlx::Result<T>>,
    ) -> anyhow::Result<T> {
        match timeout(limit, access).await {
            Ok(result) => result.with_context(|| format!("the ledger {} failed", self.name)),
            Err(_) => bail!("the ledger {} did not answer in {limit:?}", self.name),
        }
    }
}
