//! One connection: whether it can still be trusted, and whether a pooler is in between.
//!
//! A pooler in transaction mode (PgBouncer) may give each transaction another connection of its own
//! to the server. So nothing may outlive a transaction: no named statement, no setting, no lock. Behind
//! a pooler each query is a transaction of its own with an unnamed statement: three round trips more
//! than on a direct connection, where each query is one named statement.

use std::time::Duration;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, SqlSafeStr};
use tokio::time::{Instant, timeout};

/// A query with its parameters.
pub(super) type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// A connection that was idle for longer is pinged before it is used: a firewall may have dropped it
/// in silence.
const TRUSTED_FOR: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// The time limit of an access. A connection that was used before may have been dropped, so it is
/// given up sooner; if the server is only slow, the next attempt has a new one and more time.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);

/// The server ends a statement after this time, in milliseconds: above all time limits here. It does
/// not notice that the client has given up while the statement waits for a lock, so each attempt would
/// leave a session behind, and could still be carried out.
pub(super) const STATEMENT_LIMIT: (&str, &str) = ("statement_timeout", "16000");

/// The time limits let the server end the transaction of a client that has vanished; otherwise its
/// row locks could stay for hours.
const BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 15000; \
    SET LOCAL statement_timeout = 16000";

/// How queries reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DatabaseRoute {
    Direct,
    Pooled,
}

/// A connection. After an error or an abandoned access it is dropped, never used again.
pub(super) struct PostgresConnection {
    inner: PgConnection,
    route: DatabaseRoute,
    in_transaction: bool,
    /// When its last access succeeded; `None`: it is new.
    used: Option<Instant>,
}

impl PostgresConnection {
    pub(super) fn new(inner: PgConnection, route: DatabaseRoute) -> Self {
        Self { inner, route, in_transaction: false, used: None }
    }

    pub(super) fn is_pooled(&self) -> bool {
        self.route == DatabaseRoute::Pooled
    }

    /// How long the next access may take.
    pub(super) fn time_limit(&self) -> Duration {
        if self.used.is_some() { STATEMENT_TIMEOUT } else { FIRST_STATEMENT_TIMEOUT }
    }

    /// Marks it as used, after an access that succeeded.
    pub(super) fn after_success(mut self) -> Self {
        self.used = Some(Instant::now());
        self
    }

    /// Whether the server can still be reached, as far as a ping tells.
    pub(super) async fn is_alive(&mut self) -> bool {
        let is_trusted = self.used.is_none_or(|used| used.elapsed() < TRUSTED_FOR);
        is_trusted || matches!(timeout(PING_TIMEOUT, self.ping()).await, Ok(Ok(())))
    }

    pub(super) async fn ping(&mut self) -> sqlx::Result<()> {
        self.inner.ping().await
    }

    /// Performs a query, in the current transaction or in one of its own.
    pub(super) async fn fetch_all(&mut self, query: Query<'_>) -> sqlx::Result<Vec<PgRow>> {
        if !self.is_pooled() {
            return query.fetch_all(&mut self.inner).await;
        }
        let is_alone = !self.in_transaction;
        if is_alone {
            self.begin().await?;
        }
        let rows = query.persistent(false).fetch_all(&mut self.inner).await?;
        if is_alone {
            self.commit().await?;
        }
        Ok(rows)
    }

    /// Performs statements without parameters.
    pub(super) async fn fetch_raw(&mut self, sql: impl SqlSafeStr) -> sqlx::Result<Vec<PgRow>> {
        sqlx::raw_sql(sql).fetch_all(&mut self.inner).await
    }

    pub(super) async fn begin(&mut self) -> sqlx::Result<()> {
        self.fetch_raw(BEGIN).await?;
        self.in_transaction = true;
        Ok(())
    }

    pub(super) async fn commit(&mut self) -> sqlx::Result<()> {
        self.fetch_raw("COMMIT").await?;
        self.in_transaction = false;
        Ok(())
    }

    pub(super) fn is_in_transaction(&self) -> bool {
        self.in_transaction
    }

    pub(super) async fn roll_back(&mut self) -> sqlx::Result<()> {
        self.fetch_raw("ROLLBACK").await?;
        self.in_transaction = false;
        Ok(())
    }

    pub(super) async fn close(self) -> sqlx::Result<()> {
        self.inner.close().await
    }
}
