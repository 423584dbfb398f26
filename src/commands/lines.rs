//! Lines on standard output and standard error.
//!
//! Colours appear on a terminal only. A closed pipe ends the output without an error. Text from
//! outside is sanitized before it reaches a terminal.

use std::io::{ErrorKind, Stdout, Write as _};

use anstream::AutoStream;
use anstyle::Style;
use anyhow::anyhow;

use super::Failure;

/// Standard output, line by line.
pub(crate) struct StdoutLines {
    out: AutoStream<Stdout>,
    is_closed: bool,
}

impl StdoutLines {
    pub(crate) fn new() -> Self {
        Self { out: AutoStream::auto(std::io::stdout()), is_closed: false }
    }

    /// Writes a line; colours are removed unless standard output is a terminal.
    pub(crate) fn put(&mut self, line: &str) -> Result<(), Failure> {
        let written = writeln!(self.out, "{line}");
        self.finish(written)
    }

    /// Writes these bytes, unchanged, and a newline.
    pub(crate) fn put_raw(&mut self, line: &[u8]) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(line).and_then(|()| out.write_all(b"\n"));
        self.finish(written)
    }

    /// Whether the reader has closed the pipe, so that writing more is useless.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    fn finish(&mut self, written: std::io::Result<()>) -> Result<(), Failure> {
        self.is_closed |= written.as_ref().is_err_and(is_closed_pipe);
        as_failure(written)
    }
}

/// Writes to standard output. A closed pipe is not a failure, as in `handoff man | head`.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    as_failure(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Makes a failed write to standard output a failure of the command, except for a closed pipe.
pub fn as_failure(written: std::io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if !is_closed_pipe(&error) => {
            Err(Failure::Unavailable(anyhow!(error).context("failed to write to standard output")))
        }
        _ => Ok(()),
    }
}

fn is_closed_pipe(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::BrokenPipe
}

/// Writes a line to standard error.
pub fn print_error(line: &str) {
    // If standard error is closed, there is nowhere left to report that.
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// The text with the escape sequences of a style.
pub(crate) fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Replaces control characters, which could make a terminal execute something, and those that change
/// the direction of the text, which could make a line say something else.
pub(crate) fn sanitize(text: &str) -> String {
    let is_replaced = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if is_replaced(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(sanitize("a\u{1b}[31mb\nc ü"), "a\u{fffd}[31mb\u{fffd}c ü");
        assert_eq!(sanitize("a\u{202e}b\u{2066}c \u{641}"), "a\u{fffd}b\u{fffd}c \u{641}");
    }
}
