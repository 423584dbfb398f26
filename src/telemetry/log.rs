//! The log: its settings and its start.
//!
//! A log line is a fixed lower-case phrase plus fields; docs/operations.md explains the phrases.

use tracing_subscriber::EnvFilter;

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
}

/// Starts logging to standard error, for the whole process. A second start has no effect.
pub fn start_log(settings: &LogSettings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.level)
        .map_err(|error| anyhow::anyhow!("log.level {:?}: {error}", settings.level))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    // `try_init` fails when a log is already running, for example when one test binary starts
    // several services. The first log keeps running, so the error is dropped.
    drop(match settings.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    });
    Ok(())
}
