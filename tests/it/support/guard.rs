//! Cleans up after the test process, also when it is killed.
//!
//! A guard is a small shell that reads from a pipe whose write end only this process has. When the
//! process ends, the kernel closes the pipe, the read returns and the shell cleans up. `Drop` alone
//! would not do: statics are not dropped, and a killed process drops nothing.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};

/// Cleans when dropped, and when this process ends.
pub(crate) struct Guard {
    shell: Child,
}

impl Guard {
    /// `script` is shell text, run with `arguments` as `$1`, `$2` and so on.
    pub(crate) fn new(script: &str, arguments: &[&str]) -> Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", &format!("read -r word || {{ {script}\n}}"), "guard"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its own group, so that Ctrl-C reaches the tests and not their guard.
            .process_group(0)
            .spawn()
            .context("cannot start a shell")?;
        Ok(Self { shell })
    }

    /// Ends the guard; it cleans nothing.
    pub(crate) fn release(mut self) {
        if let Some(mut pipe) = self.shell.stdin.take() {
            writeln!(pipe, "done").expect("the guard reads one line");
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        if let Err(error) = self.shell.wait() {
            eprintln!("a guard was lost: {error}");
        }
    }
}
