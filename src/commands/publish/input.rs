//! The escalations to publish: from arguments, a file, or standard input.
//!
//! A file may hold one JSON object, an array of objects, several objects in a row, or one object
//! per line. Each item keeps its bytes and the number of its first line. Standard input has one
//! object per line, so that it can be read while it is still being written. Where its first line begins
//! an array, or ends inside an object, it is read to its end, as a file.

use std::path::Path;
use std::vec;

use anyhow::Context as _;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt as _, BufReader, Split, Stdin};

/// One escalation, not examined yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InputItem {
    /// The number of its first line; `None` for arguments.
    pub(super) line: Option<usize>,
    /// The bytes as they were written.
    pub(super) value: Vec<u8>,
}

/// A source of items.
pub(super) enum EscalationInput {
    /// Items that were read in advance.
    Ready(vec::IntoIter<InputItem>),
    /// Lines of standard input.
    Stdin {
        segments: Box<Split<BufReader<Stdin>>>,
        /// The number of the last line.
        line: usize,
        is_first: bool,
        /// All that was read, where it is no object per line.
        document: Option<Vec<u8>>,
    },
}

impl EscalationInput {
    /// Returns the single item that the arguments describe.
    pub(super) fn from_arguments(value: Vec<u8>) -> Self {
        Self::Ready(vec![InputItem { line: None, value }].into_iter())
    }

    /// Standard input.
    pub(super) fn stdin() -> Self {
        let segments = Box::new(BufReader::new(tokio::io::stdin()).split(b'\n'));
        Self::Stdin { segments, line: 0, is_first: true, document: None }
    }

    /// Reads a whole file.
    pub(super) async fn file(path: &Path) -> anyhow::Result<Self> {
        let bytes = tokio::fs::read(path).await;
        let bytes = bytes.with_context(|| format!("failed to read {}", path.display()))?;
        Ok(Self::Ready(split(&bytes).into_iter()))
    }

    /// Returns the next item, or `None` at the end. Safe to cancel: no bytes are lost.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<InputItem>> {
        match self {
            Self::Ready(items) => Ok(items.next()),
            Self::Stdin { segments, line, is_first, document } => loop {
                let segment = segments.next_segment().await;
                match (segment.context("failed to read standard input")?, &mut *document) {
                    (Some(segment), Some(document)) => {
                        document.push(b'\n');
                        document.extend(segment);
                    }
                    (Some(segment), None) => {
                        *line += 1;
                        let segment = without_bom(&segment);
                        let Some(value) = content(segment) else { continue };
                        if !std::mem::take(is_first) || !begins_document(value) {
                            let (line, value) = (Some(*line), value.to_vec());
                            return Ok(Some(InputItem { line, value }));
                        }
                        *document = Some([&vec![b'\n'; *line - 1], segment].concat());
                    }
                    (None, Some(document)) => {
                        let mut items = split(document).into_iter();
                        let first = items.next();
                        *self = Self::Ready(items);
                        return Ok(first);
                    }
                    (None, None) => return Ok(None),
                }
            },
        }
    }
}

/// Splits a file into its items.
fn split(bytes: &[u8]) -> Vec<InputItem> {
    let bytes = without_bom(bytes);
    let Ok(text) = str::from_utf8(bytes) else { return lines(bytes) };
    let values = serde_json::from_str::<Vec<&RawValue>>(text).ok().or_else(|| {
        serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>().ok()
    });
    match values {
        Some(values) => with_lines(text, &values),
        None if is_one_per_line(text) => lines(bytes),
        // One broken value: the decoder's error names the place.
        None => {
            let before = &text[..text.len() - text.trim_start().len()];
            vec![InputItem {
                line: Some(1 + newlines(before)),
                value: text.trim().as_bytes().to_vec(),
            }]
        }
    }
}

/// Adds the number of the first line to each value.
fn with_lines(text: &str, values: &[&RawValue]) -> Vec<InputItem> {
    let (mut seen, mut line) = (0, 1);
    let mut items = Vec::with_capacity(values.len());
    for value in values {
        // A raw value borrows from the text, so its address gives its offset.
        let start = value.get().as_ptr().addr() - text.as_ptr().addr();
        line += newlines(&text[seen..start]);
        seen = start;
        items.push(InputItem { line: Some(line), value: value.get().as_bytes().to_vec() });
    }
    items
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// Returns whether the text has one object per line, some of them broken.
fn is_one_per_line(text: &str) -> bool {
    let is_object = |line: &str| {
        line.trim_start().starts_with('{') && serde_json::from_str::<&RawValue>(line).is_ok()
    };
    !text.trim_start().starts_with('[') && text.lines().any(is_object)
}

fn lines(bytes: &[u8]) -> Vec<InputItem> {
    let lines = (1..).zip(bytes.split(|byte| *byte == b'\n'));
    let item =
        |(line, bytes)| Some(InputItem { line: Some(line), value: content(bytes)?.to_vec() });
    lines.filter_map(item).collect()
}

/// Removes a byte order mark.
fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Whether this first line is no object of its own.
fn begins_document(line: &[u8]) -> bool {
    let ends_inside = || serde_json::from_slice::<&RawValue>(line).is_err_and(|e| e.is_eof());
    line.starts_with(b"[") || ends_inside()
}

/// Trims a line; `None` for a blank one.
fn content(line: &[u8]) -> Option<&[u8]> {
    Some(line.trim_ascii()).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &[u8], expected: &[(usize, &str)]) {
        let items = split(file);
        let seen: Vec<_> = items
            .iter()
            .map(|item| (item.line.unwrap(), String::from_utf8_lossy(&item.value).into_owned()))
            .collect();
        let seen: Vec<_> = seen.iter().map(|(line, value)| (*line, value.as_str())).collect();
        assert_eq!(seen, expected, "{}", String::from_utf8_lossy(file));
    }

    #[test]
    fn a_file_holds_one_object_an_array_several_objects_or_one_per_line() {
        check(b"", &[]);
        check(b"\n \n", &[]);
        check(b"{\"a\": 1}\n", &[(1, r#"{"a": 1}"#)]);
        check(b"\xef\xbb\xbf\n{\n\"a\":1}", &[(2, "{\n\"a\":1}")]);
        check(b"[{\"a\":1},\n\n {\"b\":2}]", &[(1, r#"{"a":1}"#), (3, r#"{"b":2}"#)]);
        check(b"[]", &[]);
        check(b"{\n}\n{\n}", &[(1, "{\n}"), (3, "{\n}")]);
        check(b"{\"a\":1}\r\n\r\n{\"b\":2}\r\n", &[(1, r#"{"a":1}"#), (3, r#"{"b":2}"#)]);
    }

    #[test]
    fn a_broken_line_does_not_affect_the_others() {
        check(
            b"{\"a\":1}\n{oops\n{\"b\":2}",
            &[(1, r#"{"a":1}"#), (2, "{oops"), (3, r#"{"b":2}"#)],
        );
        check(b"{\"a\":1}\n\xff\n", &[(1, r#"{"a":1}"#), (2, "\u{fffd}")]);
        check(b"7\n{oops\n{}", &[(1, "7"), (2, "{oops"), (3, "{}")]);
    }

    #[test]
    fn a_broken_value_of_several_lines_is_one_item() {
        check(b"\n{\n  \"a\": 1,\n}\n", &[(2, "{\n  \"a\": 1,\n}")]);
        check(b"[\n{\"a\":1}\n{\"b\":2}\n]", &[(1, "[\n{\"a\":1}\n{\"b\":2}\n]")]);
    }
}
