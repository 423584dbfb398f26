//! A contestant as a process of its own: started, looked at from outside, stopped as an operator stops it.
//!
//! CPU and memory are the kernel's figures of that process. It never asks the process about itself.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use handoff::sim::desk::DEMO_KEY;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::desk::Desk;
use crate::kafka::Topics;

const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Clock ticks a second in /proc, the same on every Linux.
const TICKS: f64 = 100.0;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Kind {
    /// `handoff run` as it is shipped.
    Handoff,
    /// The same with one worker thread.
    OneThread,
    /// The same without a ledger: not for any other use.
    NoLedger,
    /// A plain loop with a queue per session, without a ledger.
    Plain,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Handoff => "handoff",
            Self::OneThread => "handoff, 1 thread",
            Self::NoLedger => "handoff, no ledger",
            Self::Plain => "plain loop",
        }
    }

    /// The variable that sets its worker threads, where they are not the default.
    fn threads(self) -> Option<(&'static str, &'static str)> {
        (self == Self::OneThread).then_some(("HANDOFF__RUNTIME__WORKER_THREADS", "1"))
    }
}

/// Its process; killed when dropped.
pub(crate) struct Contestant {
    child: Child,
    folder: TempDir,
    pub(crate) kind: Kind,
    pub(crate) began_us: i64,
}

impl Contestant {
    /// Start it on these topics and this Desk, with more of the configuration in the environment.
    pub(crate) fn start(
        kind: Kind,
        topics: &Topics,
        desk: &Desk,
        more: &[(&str, String)],
    ) -> Result<Self> {
        Self::start_with(kind, topics, desk, more, None)
    }

    /// The same with a configuration file, where the environment cannot say it.
    pub(crate) fn start_with(
        kind: Kind,
        topics: &Topics,
        desk: &Desk,
        more: &[(&str, String)],
        config: Option<&Path>,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = match kind {
            Kind::Handoff | Kind::OneThread => Command::new(env!("CARGO_BIN_EXE_handoff")),
            Kind::NoLedger | Kind::Plain => Command::new(this_program()?),
        };
        match kind {
            Kind::Handoff | Kind::OneThread => command.arg("run"),
            Kind::NoLedger => command.args(["--as", "no-ledger"]),
            Kind::Plain => command.args(["--as", "plain"]),
        };
        let own = [
            ("KAFKA__BOOTSTRAP_SERVERS", topics.bootstrap.clone()),
            ("KAFKA__GROUP_ID", topics.name.clone()),
            ("KAFKA__ESCALATIONS_TOPIC", topics.of("in")),
            ("KAFKA__OUTCOMES_TOPIC", topics.of("out")),
            ("KAFKA__DEAD_LETTERS_TOPIC", topics.of("dead")),
            ("DESK__ENDPOINT", desk.endpoint()),
            ("DESK__SDKAPPID", "1400000000".into()),
            ("DESK__IDENTIFIER", "administrator".into()),
            ("DESK__SECRET_KEY", DEMO_KEY.into()),
            ("DESK__QUOTA_PER_SECOND", "0".into()),
            ("LEDGER__URL", format!("sqlite://{}", folder.path().join("ledger.db").display())),
            ("ESCALATION__TIME_TO_LIVE_S", "86400".into()),
            ("ADMIN__LISTEN", String::new()),
            ("LOG__LEVEL", "info".into()),
        ];
        if let Some(file) = config {
            command.arg("--config").arg(file);
        }
        let log = fs::File::create(folder.path().join("log"))?;
        let began_us = crate::kafka::now_us();
        let child = command
            .env_clear()
            .envs(kind.threads())
            .envs(desk.trust())
            .envs(own.iter().chain(more).map(|(key, value)| (format!("HANDOFF__{key}"), value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} does not start", kind.name()))?;
        Ok(Self { child, folder, kind, began_us })
    }

    /// It runs; else its last words.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = self.log();
            let end = log.lines().rev().take(5).collect::<Vec<_>>().join("\n");
            bail!("{} ended ({status}): {end}", self.kind.name());
        }
        Ok(())
    }

    /// The time its threads have run.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let rest = stat.rsplit_once(')').context("a name in /proc/PID/stat")?.1;
        let ticks = rest.split_whitespace().skip(11).take(2);
        let ticks = ticks.map(str::parse::<f64>).sum::<std::result::Result<f64, _>>()?;
        Ok(Duration::from_secs_f64(ticks / TICKS))
    }

    /// Its memory now and at its highest, in MiB.
    pub(crate) fn memory(&self) -> Result<(f64, f64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
            kib.with_context(|| format!("no {name} in /proc/PID/status"))
        };
        Ok((of("VmRSS:")? / 1024.0, of("VmHWM:")? / 1024.0))
    }

    /// SIGTERM; how long it took to end.
    pub(crate) async fn stop(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        let pid = self.child.id().to_string();
        Command::new("sh").args(["-c", "kill -TERM \"$1\"", "kill", &pid]).status()?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(
                    status.success(),
                    "{} ended with {status}: {}",
                    self.kind.name(),
                    self.log()
                );
                return Ok(begun.elapsed());
            }
            ensure!(
                begun.elapsed() < STOP_LIMIT,
                "{} does not end: {}",
                self.kind.name(),
                self.log()
            );
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        drop(self.child.wait());
    }
}

#[expect(clippy::disallowed_methods, reason = "it starts itself again, as another contestant")]
pub(crate) fn environment() -> Vec<(String, String)> {
    std::env::vars().collect()
}

fn this_program() -> Result<PathBuf> {
    std::env::current_exe().context("the bench has a file")
}
