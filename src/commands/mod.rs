//! The command line: one file per subcommand, each an `Args` and a `run`.
//!
//! A command returns what happened as `Result<(), Failure>`; the kind of failure is the exit
//! code. This layer never decides anything about an escalation.

pub mod audit;
pub mod check;
pub mod demo;
pub mod desk;
pub mod events;
mod lines;
pub mod outcomes;
pub mod publish;
pub mod run;
mod table;
pub mod usersig;
mod values;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

pub use self::lines::say;
use crate::config::{self, Config, KafkaOnly};
use crate::telemetry::{self, LogFormat, LogSettings};

/// Why a command failed; each kind has its exit code.
#[derive(Debug)]
pub enum Failure {
    /// What was looked into is not well: exit code 1.
    Findings(String),
    /// Something outside is unavailable: exit code 69.
    Unavailable(anyhow::Error),
    /// A bug: exit code 70.
    Bug(anyhow::Error),
    /// The configuration is wrong: exit code 78.
    Configuration(anyhow::Error),
    /// The arguments do not fit: exit code 2.
    Usage(anyhow::Error),
    /// Stopped at once by a second signal: exit code 130.
    Interrupted,
    /// Stopped by a signal before what was asked for was done: exit code 130.
    Stopped,
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Findings(_) => 1,
            Self::Usage(_) => 2,
            Self::Unavailable(_) => 69,
            Self::Bug(_) => 70,
            Self::Configuration(_) => 78,
            Self::Interrupted | Self::Stopped => 130,
        })
    }

    /// What to tell people.
    pub fn text(&self) -> String {
        match self {
            Self::Findings(text) => text.clone(),
            Self::Unavailable(error)
            | Self::Bug(error)
            | Self::Configuration(error)
            | Self::Usage(error) => format!("{error:#}"),
            Self::Interrupted => "stopped at once; what was unfinished is delivered again".into(),
            Self::Stopped => "stopped before the end".into(),
        }
    }
}

/// Hands chatbot escalations from Kafka to human agents in Tencent Cloud Desk.
#[derive(Debug, Parser)]
#[command(name = "handoff", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub struct Cli {
    /// The configuration file; defaults and environment are laid under and over it; empty: none
    #[arg(long, global = true, env = "HANDOFF_CONFIG", value_name = "FILE")]
    #[arg(value_parser = clap::builder::OsStringValueParser::new())]
    config: Option<OsString>,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
See it work, with nothing else installed:
  handoff demo

Run it:
  handoff --config handoff.toml check
  handoff --config handoff.toml run

Every key can also be set in the environment, as HANDOFF__DESK__SDKAPPID=1400000000.
Exit codes: 0 ok, 1 audit has findings, 2 usage, 69 a dependency is unavailable, 70 bug, 78 bad configuration.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service until SIGTERM or SIGINT, then drain
    Run,
    Demo(demo::DemoArgs),
    /// Publish escalations: from arguments, a file or standard input
    Publish(Box<publish::PublishArgs>),
    /// Show what became of escalations, or what could not be read
    Outcomes(outcomes::OutcomesArgs),
    /// Match escalations with outcomes and dead letters: is every one answered, and once?
    Audit(audit::AuditArgs),
    /// What the ledger knows of escalations
    #[command(subcommand)]
    Events(events::Command),
    /// Check the configuration, then try everything live
    Check(check::Args),
    /// Run the simulated Desk as a server, for staging and tests
    Desk(desk::DeskArgs),
    /// Print a UserSig, to call Desk by hand
    Usersig(usersig::Args),
    /// Print the completions for a shell
    Completions(Completions),
    /// Print the man page (troff)
    Man,
}

#[derive(Debug, Args)]
struct Completions {
    /// Which shell
    shell: clap_complete::Shell,
}

impl Cli {
    /// Do what was asked for.
    pub async fn run(self, env: fn() -> Vec<(OsString, OsString)>) -> Result<(), Failure> {
        let file = self.config.filter(|name| !name.is_empty());
        let file = file.as_deref().map(Path::new);
        let env = || config::texts(env()).map_err(Failure::Configuration);
        let shutdown = CancellationToken::new();
        match self.command {
            Command::Run => {
                until_signalled(run::run(load(file, env()?)?, shutdown.clone()), shutdown).await
            }
            Command::Demo(args) => {
                until_signalled(demo::run(args, shutdown.clone()), shutdown).await
            }
            Command::Desk(args) => {
                until_signalled(desk::run(args, shutdown.clone()), shutdown).await
            }
            Command::Publish(args) => publish::run(*args, file, env()?).await,
            Command::Outcomes(args) => outcomes::run(args, file, env()?).await,
            Command::Audit(args) => audit::run(args, file, env()?).await,
            Command::Events(command) => events::run(command, file, env()?).await,
            Command::Check(args) => check::run(args, file, env()).await,
            Command::Usersig(args) => usersig::run(&args, file, env()?).await,
            Command::Completions(args) => {
                let mut out = Vec::new();
                clap_complete::generate(args.shell, &mut Self::command(), "handoff", &mut out);
                print(&out)
            }
            Command::Man => {
                let mut out = Vec::new();
                clap_mangen::Man::new(Self::command())
                    .render(&mut out)
                    .map_err(|error| Failure::Bug(error.into()))?;
                print(&out)
            }
        }
    }
}

/// The checked configuration.
pub(crate) fn load(file: Option<&Path>, env: Vec<(String, String)>) -> Result<Config, Failure> {
    config::load(file, env).map_err(Failure::Configuration)
}

/// The checked configuration of a command that never calls Desk.
pub(crate) fn load_kafka(
    file: Option<&Path>,
    env: Vec<(String, String)>,
) -> Result<KafkaOnly, Failure> {
    config::load_kafka(file, env).map_err(Failure::Configuration)
}

/// The header of records that `handoff check --write` leaves behind: they are no outcomes and no
/// dead letters, and whoever reads those topics passes over them.
pub(crate) const CHECK_HEADER: (&str, &[u8]) = ("handoff-type", b"check");

/// A log for commands that talk to people: only what goes wrong.
pub(crate) fn warnings_only() {
    let settings = LogSettings { level: "warn".to_owned(), format: LogFormat::Text };
    // Cannot fail: the level is one.
    drop(telemetry::start_log(&settings));
}

/// Write to standard output; a reader that has gone away is no failure.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    use std::io::Write as _;
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Unavailable(error.into()))
        }
        _ => Ok(()),
    }
}

/// Work until done. The first signal asks it to end; the second ends it at once.
pub(crate) async fn until_signalled(
    work: impl Future<Output = Result<(), Failure>>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        signal = signalled() => signal?,
    }
    tracing::info!("draining; a second signal stops at once");
    shutdown.cancel();
    tokio::select! {
        done = &mut work => done,
        signal = signalled() => signal.and(Err(Failure::Interrupted)),
    }
}

async fn signalled() -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|error| Failure::Bug(error.into()));
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verify_cli() {
        Cli::command().debug_assert();
    }
}
