//! Kafka as a Java process on this machine: Java 17 or later, and the jars that
//! `scripts/kafka-jars` fetches.
//!
//! Java keeps an archive of the loaded classes beside the jars, which halves the start-up time. The
//! data folder stays until the broker is dropped, so a stopped or killed broker starts again with its
//! data.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::task::spawn_blocking;

use crate::support::guard::Guard;

const VERSION: &str = "4.3.1";
const CLEAN: &str = r#"
if [ -n "$1" ]; then
  kill -9 "$1"
  for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$1" || break; sleep 0.1; done
fi
rm -rf "$2""#;

/// What it takes to start Kafka.
#[derive(Clone)]
pub(super) struct Jvm {
    java: PathBuf,
    jars: PathBuf,
    archive: PathBuf,
    records: bool,
}

impl Jvm {
    /// Finds Java and the jars; fetches the jars where they are not there yet.
    pub(super) async fn find(cache: Option<PathBuf>) -> Result<Self> {
        spawn_blocking(move || {
            let java = PathBuf::from("java");
            let version = check_java(&java)?;
            let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
            let cache = cache.or(target.map(Path::to_owned)).context("no cache folder")?;
            let _turn = lock(&cache)?;
            let jars = fetch_jars(&cache)?;
            let archive = cache.join(format!("kafka-{VERSION}-java-{version}.jsa"));
            Ok(Self { java, jars, archive, records: false })
        })
        .await?
    }

    /// The same, to be started and stopped once, which writes the archive; `None` where there is one.
    pub(super) fn recorder(&self) -> Option<Self> {
        let archive = self.archive.with_extension(format!("{}.tmp", std::process::id()));
        (!self.archive.exists()).then(|| Self { archive, records: true, ..self.clone() })
    }

    /// Takes what the recorder has written.
    pub(super) fn adopt(&self, recorder: &Self) -> Result<()> {
        Ok(fs::rename(&recorder.archive, &self.archive)?)
    }

    /// Runs a main class of Kafka's to its end.
    pub(super) async fn run(&self, class: &str, arguments: &[&str]) -> Result<()> {
        let mut command = self.command(&[]);
        command.arg(class).args(arguments);
        let output = spawn_blocking(move || command.output()).await?.context("cannot run java")?;
        ensure!(
            output.status.success(),
            "{class} failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn command(&self, settings: &[&OsStr]) -> Command {
        let mut command = Command::new(&self.java);
        command
            .args([
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-XX:-UsePerfData",
                "-Xshare:auto",
            ])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .args(settings)
            .args((!self.records).then(|| option("-XX:SharedArchiveFile=", &self.archive)))
            .arg("-cp")
            .arg(self.jars.join("*"))
            .stdin(Stdio::null())
            .process_group(0);
        command
    }
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(path);
    option
}

fn check_java(java: &Path) -> Result<String> {
    let output = Command::new(java).arg("-version").output().context("no java on the PATH")?;
    let text = String::from_utf8_lossy(&output.stderr);
    let version = text.split('"').nth(1).unwrap_or_default();
    let major = version.split(['.', '-']).next().and_then(|major| major.parse::<u32>().ok());
    ensure!(major >= Some(17), "Kafka {VERSION} needs java 17 or later, this one is {version:?}");
    Ok(version.to_owned())
}

/// One process at a time fetches; the others find the jars when it is their turn.
fn lock(cache: &Path) -> Result<File> {
    fs::create_dir_all(cache)?;
    let lock = File::create(cache.join(format!("kafka-{VERSION}.lock")))?;
    lock.lock()?;
    Ok(lock)
}

fn fetch_jars(cache: &Path) -> Result<PathBuf> {
    let jars = cache.join(format!("kafka-{VERSION}"));
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka-jars"))
        .arg(&jars)
        .output()
        .context("cannot run scripts/kafka-jars")?;
    ensure!(
        output.status.success(),
        "scripts/kafka-jars failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(jars)
}

/// A Kafka process, or what a stopped one left.
pub(super) struct Process {
    jvm: Jvm,
    folder: PathBuf,
    java: Option<Child>,
    guard: Option<Guard>,
}

impl Process {
    /// Formats a new data folder and starts Kafka on it.
    pub(super) async fn start(jvm: Jvm, mut properties: BTreeMap<String, String>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("handoff-kafka-").tempdir()?.keep();
        properties.insert("log.dirs".into(), folder.join("data").display().to_string());
        let lines: Vec<_> =
            properties.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        fs::write(folder.join("server.properties"), lines.concat())?;

        let mut process = Self { jvm, folder, java: None, guard: None };
        process.watch()?;
        process.format().await?;
        process.start_again()?;
        Ok(process)
    }

    async fn format(&self) -> Result<()> {
        let properties = self.folder.join("server.properties").display().to_string();
        let arguments = ["format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", &properties];
        let formatted = self.jvm.run("kafka.tools.StorageTool", &arguments).await;
        formatted.context("Kafka cannot format its data folder")
    }

    /// Starts the stopped process on its old data.
    pub(super) fn start_again(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.folder.join("log"))?;
        let record = option("-XX:ArchiveClassesAtExit=", &self.jvm.archive);
        let mut settings = vec![OsStr::new("-Xmx512m")];
        settings.extend(self.jvm.records.then_some(record.as_os_str()));
        let java = self
            .jvm
            .command(&settings)
            .arg("kafka.Kafka")
            .arg(self.folder.join("server.properties"))
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start java")?;
        self.java = Some(java);
        self.watch()
    }

    /// As an operator would (`SIGTERM`), and after 20 seconds as the kernel would.
    pub(super) async fn stop(&mut self) -> Result<()> {
        let Some(java) = &mut self.java else { return Ok(()) };
        let pid = java.id().to_string();
        Command::new("sh").args(["-c", "kill -TERM \"$1\"", "kill", &pid]).status()?;
        for _ in 0..1000 {
            if java.try_wait()?.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.kill()
    }

    /// At once (`SIGKILL`).
    pub(super) fn kill(&mut self) -> Result<()> {
        if let Some(mut java) = self.java.take() {
            java.kill()?;
            java.wait()?;
        }
        self.watch()
    }

    /// Sends a signal to the running process.
    pub(super) fn signal(&self, name: &str) -> Result<()> {
        let java = self.java.as_ref().context("it was not started")?;
        let sent = Command::new("kill").args(["-s", name, &java.id().to_string()]).status()?;
        ensure!(sent.success(), "kill -s {name} failed");
        Ok(())
    }

    /// Fails with the end of its log where the process has ended by itself.
    pub(super) fn check(&mut self) -> Result<()> {
        let Some(java) = &mut self.java else { bail!("it was not started") };
        let Some(status) = java.try_wait()? else { return Ok(()) };
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        bail!("Kafka ended ({status}): {}", lines[lines.len().saturating_sub(20)..].join("\n"))
    }

    /// The guard of what is there now: the process, if any, and the folder.
    fn watch(&mut self) -> Result<()> {
        let pid = self.java.as_ref().map(|java| java.id().to_string()).unwrap_or_default();
        let folder = self.folder.display().to_string();
        let guard = Guard::new(CLEAN, &[&pid, &folder])?;
        if let Some(old) = self.guard.replace(guard) {
            old.release();
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("Kafka cannot be ended: {error:#}");
        }
        // The guard goes last and removes the folder.
    }
}
