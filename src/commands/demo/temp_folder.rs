//! A temporary folder for the demo's ledger.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Removed with its content when dropped.
pub(super) struct TempFolder(PathBuf);

impl TempFolder {
    pub(super) fn new() -> anyhow::Result<Self> {
        let name = format!("handoff-demo-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // What a killed process of the same number has left: its ledger knows events of the same ids.
        std::fs::remove_dir_all(&path).unwrap_or_default();
        std::fs::create_dir_all(&path)
            .with_context(|| format!("failed to create the folder {}", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        // If this fails the folder is left to the cleanup of the temporary directory.
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}
