//! Where a ledger is: the file or server that `ledger.url` names.

use std::fmt;
use std::path::PathBuf;

use secrecy::ExposeSecret as _;

use super::postgres::{self, PostgresUrl};

/// The URL of a ledger. Prints without user, password and parameters.
#[derive(Clone)]
pub enum LedgerUrl {
    /// A file.
    Sqlite(PathBuf),
    /// A server.
    Postgres(PostgresUrl),
}

impl LedgerUrl {
    /// `sqlite://FILE` or `postgres://USER:PASSWORD@HOST/DATABASE?sslmode=..`; the error is a
    /// fragment that never quotes the URL.
    pub fn parse(url: &str) -> Result<Self, String> {
        if let Some(file) = url.strip_prefix("sqlite:") {
            let file = file.strip_prefix("//").unwrap_or(file);
            return match file {
                "" => Err("names no file: write it as sqlite:///var/lib/handoff/handoff.db".into()),
                ":memory:" => {
                    Err("must name a file: what is only in memory is lost in a crash".into())
                }
                file if file.contains(['?', '#']) => {
                    Err("takes no parameters for SQLite: remove what follows ? or #".into())
                }
                file => Ok(Self::Sqlite(file.into())),
            };
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            postgres::parse_url(url)?;
            let url = url.to_owned().into();
            return Ok(Self::Postgres(PostgresUrl { url, password_file: None }));
        }
        Err("must begin with sqlite:// or postgres://".into())
    }

    /// The same server, with its password in a file; the error is a fragment.
    pub fn with_password_file(self, file: PathBuf) -> Result<Self, String> {
        match self {
            Self::Sqlite(_) => Err("is for a PostgreSQL ledger: a file has no password".into()),
            Self::Postgres(server) if server.has_password() => {
                Err("is set, and `ledger.url` contains a password: keep one of them".into())
            }
            Self::Postgres(server) => {
                Ok(Self::Postgres(PostgresUrl { password_file: Some(file), ..server }))
            }
        }
    }
}

impl fmt::Display for LedgerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => write!(f, "sqlite://{}", file.display()),
            Self::Postgres(server) => {
                f.write_str(&postgres::redact_url(server.url.expose_secret()))
            }
        }
    }
}

impl fmt::Debug for LedgerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
