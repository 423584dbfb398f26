//! Lines on standard output: in colour on a terminal only, quiet once the reader has gone.
//!
//! What came from outside is made harmless before it reaches a terminal.
//! This file never panics because a pipe is broken.

use std::io::{ErrorKind, Stdout, Write as _};

use anstream::AutoStream;
use anstyle::Style;

use super::Failure;

/// Standard output, line by line.
pub(crate) struct Lines {
    out: AutoStream<Stdout>,
    is_gone: bool,
}

impl Lines {
    /// Standard output.
    pub(crate) fn new() -> Self {
        Self { out: AutoStream::auto(std::io::stdout()), is_gone: false }
    }

    /// Write a line of ours; colours are left out where nobody can see them.
    pub(crate) fn put(&mut self, line: &str) -> Result<(), Failure> {
        let written = writeln!(self.out, "{line}");
        self.settle(written)
    }

    /// Write these bytes and a newline, untouched.
    pub(crate) fn put_raw(&mut self, line: &[u8]) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(line).and_then(|()| out.write_all(b"\n"));
        self.settle(written)
    }

    /// The reader has closed the pipe: nothing more needs to be written.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    fn settle(&mut self, written: std::io::Result<()>) -> Result<(), Failure> {
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_gone = true;
                Ok(())
            }
            other => other.map_err(|error| Failure::Unavailable(error.into())),
        }
    }
}

/// A line on standard error; nobody is left to hear it where that cannot be written.
pub fn say(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// The text in this style.
pub(crate) fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Text from outside without what a terminal would act on.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_orders_from_outside() {
        assert_eq!(harmless("a\u{1b}[31mb\nc ü"), "a\u{fffd}[31mb\u{fffd}c ü");
    }
}
