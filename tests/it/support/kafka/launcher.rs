//! Chooses how to start a broker on this machine, and reports the options where there is none.
//!
//! A way that was requested by name is used or the test fails; there is no fallback then.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use tokio::sync::OnceCell;

use super::{broker::Broker, container, jvm};

/// How this process starts brokers.
#[derive(Clone)]
pub(super) enum Launcher {
    /// As containers.
    Docker(container::Image),
    /// As Java processes.
    Jvm(jvm::Jvm),
}

/// The broker that the environment names, if it is to be used as the shared one.
pub(super) fn given() -> Result<Option<String>> {
    let bootstrap = variable("HANDOFF_TEST_KAFKA");
    match variable("HANDOFF_TEST_KAFKA_VIA").as_deref() {
        None => Ok(bootstrap),
        Some("given") => {
            let missing = "HANDOFF_TEST_KAFKA_VIA=given needs HANDOFF_TEST_KAFKA=host:port";
            Ok(Some(bootstrap.context(missing)?))
        }
        Some(_) => Ok(None),
    }
}

/// The way to start a broker, looked for once per process.
pub(super) async fn launcher() -> Result<Launcher> {
    static LAUNCHER: OnceCell<Result<Launcher, String>> = OnceCell::const_new();
    let found =
        LAUNCHER.get_or_init(|| async { find().await.map_err(|error| format!("{error:#}")) });
    found.await.clone().map_err(anyhow::Error::msg)
}

async fn find() -> Result<Launcher> {
    match variable("HANDOFF_TEST_KAFKA_VIA").as_deref() {
        Some("docker") => find_docker().await.context("HANDOFF_TEST_KAFKA_VIA=docker"),
        // A given broker belongs to somebody else: what a test stops is a process of its own.
        Some(way @ ("jvm" | "given")) => {
            let jvm = find_jvm().await;
            jvm.map(Launcher::Jvm).with_context(|| format!("HANDOFF_TEST_KAFKA_VIA={way}"))
        }
        Some(other) => bail!("HANDOFF_TEST_KAFKA_VIA={other:?} is none of given, docker, jvm"),
        None => find_any().await,
    }
}

async fn find_any() -> Result<Launcher> {
    let no_docker = match find_docker().await {
        Ok(launcher) => return Ok(launcher),
        Err(error) => error,
    };
    let no_jvm = match find_jvm().await {
        Ok(jvm) => return Ok(Launcher::Jvm(jvm)),
        Err(error) => error,
    };
    bail!(
        "no Apache Kafka for the tests. Any one of these will do:\n\
         - HANDOFF_TEST_KAFKA=host:port, a broker that runs already (enough for tests that do not stop theirs)\n\
         - Docker with the image apache/kafka:4.3.1, or the one in HANDOFF_TEST_KAFKA_IMAGE ({no_docker:#})\n\
         - Java 17 or later, and Maven for the jars of Kafka ({no_jvm:#})\n\
         scripts/test installs the last on Debian"
    )
}

async fn find_docker() -> Result<Launcher> {
    container::Image::find(variable("HANDOFF_TEST_KAFKA_IMAGE")).await.map(Launcher::Docker)
}

pub(super) async fn find_jvm() -> Result<jvm::Jvm> {
    let jvm = jvm::Jvm::find(variable("HANDOFF_CACHE").map(PathBuf::from)).await?;
    if let Some(recorder) = jvm.recorder() {
        // Only time is lost without it.
        if let Err(error) = record(&jvm, recorder).await {
            eprintln!("Kafka will start slowly, Java's archive of its classes failed: {error:#}");
        }
    }
    Ok(jvm)
}

async fn record(jvm: &jvm::Jvm, recorder: jvm::Jvm) -> Result<()> {
    let mut broker = Broker::try_once(Launcher::Jvm(recorder.clone()), &[]).await?;
    broker.stop().await;
    jvm.adopt(&recorder)
}

#[expect(clippy::disallowed_methods, reason = "the environment says where Kafka is")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
