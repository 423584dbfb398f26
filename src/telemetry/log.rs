//! The log: its settings and its start.
//!
//! A log line is a fixed lower-case phrase plus fields; docs/operations.md explains the phrases, and
//! docs/logs.md the fields that programs may rely on.

use std::backtrace::Backtrace;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;

use super::json_lines::JsonLines;
use crate::domain::ids::{shortened, without_session};

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object.
    Json,
}

/// The settings of the log.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// A level, or directives as in `info,handoff=debug`.
    pub level: String,
    /// The format of each line.
    pub format: LogFormat,
    /// The ids of people: of sessions, which are often those of customers, and of agents.
    pub ids: LoggedIds,
}

/// How the ids of people are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoggedIds {
    /// Only how they begin.
    Shortened,
    /// As they are.
    Full,
}

/// Lines that may wait for a slow reader of standard error: a few MiB at most.
const BUFFERED_LINES: usize = 8192;

/// Counts the lines that [`start_service_log`] dropped. Static, because the log itself is
/// process-wide.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Whether the ids of people are logged as they are. Static, because the log itself is process-wide.
static FULL_IDS: AtomicBool = AtomicBool::new(false);

/// The id of a session or an agent, as it is logged.
pub(crate) struct LoggedId<'i>(pub(crate) &'i str);

impl fmt::Display for LoggedId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if FULL_IDS.load(Ordering::Relaxed) {
            f.write_str(self.0)
        } else {
            f.write_str(&shortened(self.0))
        }
    }
}

/// The id of an event of this session, as it is logged.
pub(crate) struct LoggedEventId<'i> {
    pub(crate) id: &'i str,
    pub(crate) session: &'i str,
}

impl fmt::Display for LoggedEventId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if FULL_IDS.load(Ordering::Relaxed) {
            f.write_str(self.id)
        } else {
            f.write_str(&without_session(self.id, self.session))
        }
    }
}

/// Changes the filter of the running log; false if that has ended.
type SetFilter = Box<dyn Fn(EnvFilter) -> bool + Send + Sync>;

/// Static, because the log itself is process-wide.
static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();

/// Starts the log of a command that talks to people: each line is written before the command goes
/// on. A second start has no effect.
pub fn start_log(settings: &LogSettings) -> anyhow::Result<()> {
    start(settings, std::io::stderr)
}

/// Starts the log of the service: a thread of its own writes the lines to standard error, so that
/// a reader that stalls or has gone cannot stall or end the service. Lines beyond
/// [`BUFFERED_LINES`] are dropped and counted.
pub fn start_service_log(settings: &LogSettings) -> anyhow::Result<ServiceLog> {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(BUFFERED_LINES)
        .thread_name("log")
        .finish(std::io::stderr());
    DROPPED.get_or_init(|| writer.error_counter());
    start(settings, writer)?;
    // The default hook writes to standard error itself: it would block on a stalled reader, and
    // panic again on a closed one.
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        tracing::error!(%panic, %backtrace, "panicked: a bug");
    }));
    Ok(ServiceLog { guard: Some(guard) })
}

/// The running log of the service. When it is dropped, it writes what is buffered, for at most a
/// second.
pub struct ServiceLog {
    guard: Option<WorkerGuard>,
}

impl Drop for ServiceLog {
    fn drop(&mut self) {
        // If the buffer is full, the guard prints to standard output that it gives up. The reader of
        // that may be the one that has stalled.
        let guard = self.guard.take();
        within_a_second(move || drop(guard));
    }
}

/// Runs `write` in a thread of its own and waits for it, for at most a second: nothing that a process
/// writes at its end may keep it from ending, because the reader may have stalled.
pub fn within_a_second(write: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel::<()>();
    let write = move || {
        write();
        drop(done);
    };
    if std::thread::Builder::new().name("last-lines".into()).spawn(write).is_ok() {
        // Done or not, there is nothing left to wait for.
        finished.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
    }
}

/// Lines that were dropped because nobody read standard error.
pub fn dropped_lines() -> u64 {
    DROPPED.get().map_or(0, |dropped| dropped.dropped_lines() as u64)
}

fn start<W>(settings: &LogSettings, writer: W) -> anyhow::Result<()>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = filter(&settings.level)?;
    FULL_IDS.store(settings.ids == LoggedIds::Full, Ordering::Relaxed);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        // It would report a failed write by eprintln!, which panics when standard error is closed.
        .log_internal_errors(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    // `try_init` fails when a log is already running, for example when one test binary starts
    // several services. The first log keeps running, so the error is dropped.
    match settings.format {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            let set_filter: SetFilter = Box::new(move |filter| handle.reload(filter).is_ok());
            builder.try_init().map(|()| SET_FILTER.set(set_filter).is_ok()).unwrap_or_default();
        }
        LogFormat::Json => {
            let builder = builder.fmt_fields(JsonFields::new()).event_format(JsonLines);
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            let set_filter: SetFilter = Box::new(move |filter| handle.reload(filter).is_ok());
            builder.try_init().map(|()| SET_FILTER.set(set_filter).is_ok()).unwrap_or_default();
        }
    }
    Ok(())
}

/// Changes the level of the running log.
pub fn set_log_level(level: &str) -> anyhow::Result<()> {
    let filter = filter(level)?;
    let is_set = SET_FILTER.get().is_none_or(|set_filter| set_filter(filter));
    anyhow::ensure!(is_set, "the log has ended");
    Ok(())
}

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(level).map_err(|error| anyhow::anyhow!("log.level {level:?}: {error}"))
}
