//! A folder for the demo's ledger, gone when the demo is.
//!
//! This file never touches a folder that it has not made.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The folder.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> anyhow::Result<Self> {
        let name = format!("handoff-demo-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)
            .with_context(|| format!("failed to make the folder {}", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is the system's temporary rubbish.
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}
