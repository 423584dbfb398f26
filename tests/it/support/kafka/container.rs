//! Kafka as a container: an image that takes the `KAFKA_*` variables of `apache/kafka`.
//!
//! The broker listens inside on the same port as outside, so that the address it advertises is right
//! on both sides.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use testcontainers_modules::testcontainers::{
    ContainerAsync, GenericImage, ImageExt, core::IntoContainerPort, runners::AsyncRunner,
};
use tokio::{process::Command, time::timeout};

use crate::support::guard::Guard;

const DEFAULT_IMAGE: &str = "apache/kafka:4.3.1";

/// An image that is in the local store.
#[derive(Clone)]
pub(super) struct Image {
    name: String,
    tag: String,
}

impl Image {
    /// Asks the Docker daemon for the image, and pulls it where it is not there yet.
    pub(super) async fn find(reference: Option<String>) -> Result<Self> {
        let reference = reference.unwrap_or_else(|| DEFAULT_IMAGE.to_owned());
        let (name, tag) = reference.rsplit_once(':').context("the image needs a tag")?;
        docker(&["version"], Duration::from_secs(10)).await.context("no Docker daemon answers")?;
        let short = Duration::from_secs(30);
        if docker(&["image", "inspect", &reference], short).await.is_err() {
            let long = Duration::from_secs(600);
            docker(&["pull", "--quiet", &reference], long).await?;
        }
        Ok(Self { name: name.to_owned(), tag: tag.to_owned() })
    }
}

async fn docker(arguments: &[&str], limit: Duration) -> Result<()> {
    let command = Command::new("docker").args(arguments).kill_on_drop(true).output();
    let what = format!("docker {}", arguments.join(" "));
    let output = timeout(limit, command)
        .await
        .with_context(|| format!("{what}: no answer in {limit:?}"))?
        .with_context(|| format!("{what} cannot be run"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{what}: {}", error.trim());
    Ok(())
}

/// A Kafka container, running or stopped.
pub(super) struct Process {
    container: ContainerAsync<GenericImage>,
    _guard: Guard,
}

impl Process {
    /// Creates and starts a container that serves `port`.
    pub(super) async fn start(
        image: Image,
        port: u16,
        properties: BTreeMap<String, String>,
    ) -> Result<Self> {
        let name = super::unique("handoff-kafka");
        let guard = Guard::new("docker rm --force --volumes \"$1\"", &[&name])?;
        let mut request = GenericImage::new(image.name, image.tag)
            .with_container_name(name)
            .with_mapped_port(port, port.tcp())
            .with_env_var("CLUSTER_ID", "AAAAAAAAAAAAAAAAAAAAAQ");
        for (key, value) in properties {
            let variable = format!("KAFKA_{}", key.to_uppercase().replace('.', "_"));
            request = request.with_env_var(variable, value);
        }
        let container = request.start().await.context("the container does not start")?;
        Ok(Self { container, _guard: guard })
    }

    /// As an operator would (`SIGTERM`), and after 20 seconds as the kernel would.
    pub(super) async fn stop(&self) -> Result<()> {
        Ok(self.container.stop_with_timeout(Some(20)).await?)
    }

    /// At once (`SIGKILL`).
    pub(super) async fn kill(&self) -> Result<()> {
        Ok(self.container.stop_with_timeout(Some(0)).await?)
    }

    /// Starts the stopped container on its old data.
    pub(super) async fn start_again(&self) -> Result<()> {
        Ok(self.container.start().await?)
    }

    /// Fails with the end of its log where the container has ended by itself.
    pub(super) async fn check(&self) -> Result<()> {
        if self.container.is_running().await? {
            return Ok(());
        }
        let log = self.container.stderr_to_vec().await.unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<_> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(20)..].join("\n");
        anyhow::bail!("the container ended: {end}")
    }
}
