//! The command line: one module per subcommand, each with its arguments and a `run` function.
//!
//! A command returns `Result<(), Failure>`; the variant of [`Failure`] decides the exit code.
//! Modules that several commands share: `lines` (output), `table`, `values` (argument types),
//! `signals`.

mod admin_address;
pub(crate) mod audit;
pub(crate) mod check;
pub(crate) mod dead_letters;
pub(crate) mod demo;
pub(crate) mod desk;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod health;
mod lines;
mod man;
pub(crate) mod outcomes;
pub(crate) mod publish;
pub(crate) mod routes;
pub(crate) mod run;
pub(crate) mod schema;
mod signals;
mod table;
pub(crate) mod top;
pub(crate) mod usersig;
mod values;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches as _, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

pub(crate) use self::lines::print;
pub use self::lines::{as_failure, print_error};
use self::signals::run_until_signal;
use crate::config::{self, Config, ToolConfig};
use crate::telemetry::{self, LogFormat, LogSettings, LoggedIds};

/// Why a command failed. Each variant has an exit code.
#[derive(Debug)]
pub enum Failure {
    /// The command worked and found problems: exit code 1.
    Findings(String),
    /// A dependency, or standard output, is unavailable: exit code 69.
    Unavailable(anyhow::Error),
    /// A bug: exit code 70.
    Bug(anyhow::Error),
    /// The configuration is wrong: exit code 78.
    Configuration(anyhow::Error),
    /// The arguments contradict each other or the data: exit code 2.
    Usage(anyhow::Error),
    /// Stopped by a second signal, without draining: exit code 130.
    Interrupted,
    /// Stopped by a signal before the work was complete: exit code 130.
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

    /// The message for standard error.
    pub fn text(&self) -> String {
        match self {
            Self::Findings(text) => text.clone(),
            Self::Unavailable(error)
            | Self::Bug(error)
            | Self::Configuration(error)
            | Self::Usage(error) => format!("{error:#}"),
            Self::Interrupted => {
                "stopped without draining; unfinished events are delivered again".into()
            }
            Self::Stopped => "stopped before the work was complete".into(),
        }
    }
}

/// Hands chatbot escalations from Kafka to human agents in Tencent Cloud Desk.
#[derive(Debug, Parser)]
#[command(name = "handoff", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub struct Cli {
    /// Configuration file; it overrides the defaults, the environment overrides it; empty: none
    #[arg(long, global = true, env = "HANDOFF_CONFIG", value_name = "FILE")]
    #[arg(value_parser = clap::builder::OsStringValueParser::new())]
    config: Option<OsString>,
    #[command(subcommand)]
    command: CliCommand,
}

const AFTER_HELP: &str = "\
Try it, with nothing else installed:
  handoff demo

Run the service:
  handoff --config handoff.toml check
  handoff --config handoff.toml run

Every key can also be set in the environment, for example HANDOFF__DESK__SDKAPPID=1400000000.
Exit codes: 0 ok, 1 findings, 2 usage, 69 a dependency or the output is unavailable, 70 bug,
78 bad configuration, 130 stopped by a signal before the end.";

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Run the service until SIGTERM or SIGINT, then drain and exit
    Run,
    Demo(demo::DemoArgs),
    /// Publish escalations from arguments, a file or standard input
    Publish(Box<publish::PublishArgs>),
    /// Show outcomes or dead letters
    Outcomes(outcomes::OutcomesArgs),
    /// Check that every escalation has exactly one final outcome or dead letter
    Audit(audit::AuditArgs),
    /// List and show escalations in the ledger; retry one, or give it up
    #[command(subcommand)]
    Events(events::EventsCommand),
    Explain(Box<explain::ExplainArgs>),
    /// Try the routes of the configuration
    #[command(subcommand)]
    Routes(routes::RoutesCommand),
    /// List and show dead letters; replay them
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLettersCommand),
    /// Check the configuration, then Kafka, Desk and the ledger live
    Check(check::CheckArgs),
    Health(health::HealthArgs),
    Schema(schema::SchemaArgs),
    /// Run the simulated Desk as an HTTP server, for staging and tests
    Desk(desk::DeskArgs),
    Top(top::TopArgs),
    /// Print a UserSig, to call the Desk API by hand
    Usersig(usersig::UsersigArgs),
    /// Print the completion script for a shell
    Completions(CompletionsArgs),
    /// Print a man page (troff)
    Man(man::ManArgs),
}

#[derive(Debug, Args)]
struct CompletionsArgs {
    /// Which shell
    shell: clap_complete::Shell,
}

impl CliCommand {
    /// Whether the subcommand reads the configuration of the service.
    fn is_configured(&self) -> bool {
        !matches!(
            self,
            Self::Demo(_) | Self::Desk(_) | Self::Completions(_) | Self::Man(_) | Self::Schema(_)
        )
    }
}

impl Cli {
    /// Parses the command line.
    pub fn parse_from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(args)?;
        let cli = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        // HANDOFF_CONFIG may be set for the other subcommands.
        let has_option = matches.value_source("config") == Some(ValueSource::CommandLine);
        if has_option && !cli.command.is_configured() {
            let text = "this subcommand reads no configuration: omit --config";
            return Err(command.error(ErrorKind::ArgumentConflict, text));
        }
        Ok(cli)
    }

    /// Whether it runs the service.
    pub fn is_service(&self) -> bool {
        matches!(self.command, CliCommand::Run)
    }

    /// Runs the subcommand to its end. `env` returns the environment, which is read only where
    /// needed.
    pub fn run(self, env: fn() -> Vec<(OsString, OsString)>) -> Result<(), Failure> {
        let file = self.config.filter(|name| !name.is_empty());
        let file = file.as_deref().map(Path::new);
        let variables = env;
        let env = || config::utf8_variables(env()).map_err(Failure::Configuration);
        let shutdown = CancellationToken::new();
        match self.command {
            CliCommand::Run => {
                let service = run::ServiceConfig::load(file, env()?);
                let service = service.map_err(Failure::Configuration)?;
                let threads = service.config.worker_threads;
                let service = run::run(service, variables(), shutdown.clone());
                block_on(threads, run_until_signal(service, shutdown))
            }
            CliCommand::Demo(args) => {
                block_on(None, run_until_signal(demo::run(args, shutdown.clone()), shutdown))
            }
            CliCommand::Desk(args) => {
                block_on(None, run_until_signal(desk::run(args, shutdown.clone()), shutdown))
            }
            CliCommand::Publish(args) => block_on(None, publish::run(*args, file, env()?)),
            CliCommand::Outcomes(args) => block_on(None, outcomes::run(args, file, env()?)),
            CliCommand::Audit(args) => block_on(None, audit::run(args, file, env()?)),
            CliCommand::Events(command) => block_on(None, events::run(command, file, env()?)),
            CliCommand::Explain(args) => block_on(None, explain::run(*args, file, env()?)),
            CliCommand::Routes(command) => routes::run(command, file, env()?),
            CliCommand::DeadLetters(command) => {
                let work = dead_letters::run(command, file, env()?, shutdown.clone());
                block_on(None, run_until_signal(work, shutdown))
            }
            CliCommand::Check(args) => block_on(None, check::run(args, file, env())),
            CliCommand::Health(args) => block_on(Some(1), health::run(args, file, env()?)),
            CliCommand::Top(args) => {
                let work = top::run(args, file, env()?, shutdown.clone());
                block_on(None, run_until_signal(work, shutdown))
            }
            CliCommand::Usersig(args) => block_on(None, usersig::run(&args, file, env()?)),
            CliCommand::Completions(args) => {
                let mut out = Vec::new();
                clap_complete::generate(args.shell, &mut Self::command(), "handoff", &mut out);
                print(&out)
            }
            CliCommand::Man(args) => man::run(&args),
            CliCommand::Schema(args) => schema::run(&args),
        }
    }
}

/// Runs `work` in a runtime with this number of worker threads; `None`: one for each core.
fn block_on(
    worker_threads: Option<usize>,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = worker_threads {
        runtime.worker_threads(threads);
    }
    let runtime = runtime.enable_all().build().map_err(|error| Failure::Bug(error.into()))?;
    let result = runtime.block_on(work);
    // A thread that still blocks, in a name lookup for example, must not delay the exit.
    runtime.shutdown_background();
    result
}

/// Loads the configuration of the service.
pub(crate) fn load(file: Option<&Path>, env: Vec<(String, String)>) -> Result<Config, Failure> {
    config::load(file, env).map_err(Failure::Configuration)
}

/// Loads the configuration of a command that does not call Desk.
pub(crate) fn load_for_tools(
    file: Option<&Path>,
    env: Vec<(String, String)>,
) -> Result<ToolConfig, Failure> {
    config::load_for_tools(file, env).map_err(Failure::Configuration)
}

/// The header of the records that `handoff check --write` publishes to the outcome and dead-letter
/// topics. Every reader of these topics skips them.
pub(crate) const CHECK_HEADER: (&str, &[u8]) = ("handoff-type", b"check");

/// Starts a log of warnings and errors only, for commands whose output is for people.
pub(crate) fn start_log_of_warnings() {
    let settings =
        LogSettings { level: "warn".to_owned(), format: LogFormat::Text, ids: LoggedIds::Full };
    // "warn" is a valid level, so this cannot fail.
    drop(telemetry::start_log(&settings));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(words: &[&str]) -> String {
        let words = ["handoff"].iter().chain(words).map(OsString::from);
        Cli::parse_from_args(words).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn verify_cli() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_configuration_file_is_refused_where_it_would_be_ignored() {
        for words in [["demo", "--config", "f"], ["--config", "f", "desk"], ["man", "--config", ""]]
        {
            assert!(error_of(&words).contains("reads no configuration"), "{words:?}");
        }
        assert_eq!(error_of(&["run", "--config", "f"]), "");
        assert_eq!(error_of(&["demo"]), "");
    }
}
