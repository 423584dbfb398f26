//! Where escalations come from: arguments, a file, or standard input as it comes.
//!
//! A file may be one JSON object, an array of them, objects one after another, or one per line;
//! each keeps the bytes that were written and the line it began on. Standard input is one per
//! line, so that a long or endless one can be read.
//! This file never judges what is in a line.

use std::path::Path;
use std::vec;

use anyhow::Context as _;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt as _, BufReader, Split, Stdin};

/// One escalation as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// The line it began on; `None`: it was made of arguments.
    pub(super) line: Option<usize>,
    /// Its bytes.
    pub(super) value: Vec<u8>,
}

/// The items, one after the other.
pub(super) enum Input {
    /// All there.
    Ready(vec::IntoIter<Item>),
    /// As they come.
    Stdin(Box<Split<BufReader<Stdin>>>, usize),
}

impl Input {
    /// The one that was made of arguments.
    pub(super) fn one(value: Vec<u8>) -> Self {
        Self::Ready(vec![Item { line: None, value }].into_iter())
    }

    /// Standard input.
    pub(super) fn stdin() -> Self {
        Self::Stdin(Box::new(BufReader::new(tokio::io::stdin()).split(b'\n')), 0)
    }

    /// A file.
    pub(super) async fn file(path: &Path) -> anyhow::Result<Self> {
        let bytes = tokio::fs::read(path).await;
        let bytes = bytes.with_context(|| format!("failed to read {}", path.display()))?;
        Ok(Self::Ready(split(&bytes).into_iter()))
    }

    /// The next item; nothing is lost when the wait for it is given up.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Item>> {
        match self {
            Self::Ready(items) => Ok(items.next()),
            Self::Stdin(segments, line) => loop {
                let segment = segments.next_segment().await;
                let Some(segment) = segment.context("failed to read standard input")? else {
                    return Ok(None);
                };
                *line += 1;
                if let Some(value) = content(&segment) {
                    return Ok(Some(Item { line: Some(*line), value: value.to_vec() }));
                }
            },
        }
    }
}

/// The items of a file.
fn split(bytes: &[u8]) -> Vec<Item> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let Ok(text) = str::from_utf8(bytes) else { return lines(bytes) };
    let values = serde_json::from_str::<Vec<&RawValue>>(text).ok().or_else(|| {
        serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>().ok()
    });
    match values {
        Some(values) => located(text, &values),
        None if is_one_per_line(text) => lines(bytes),
        // One broken value: whoever reads it will say where.
        None => {
            let before = &text[..text.len() - text.trim_start().len()];
            vec![Item { line: Some(1 + newlines(before)), value: text.trim().as_bytes().to_vec() }]
        }
    }
}

/// The values with the lines they begin on.
fn located(text: &str, values: &[&RawValue]) -> Vec<Item> {
    let (mut seen, mut line) = (0, 1);
    let mut items = Vec::with_capacity(values.len());
    for value in values {
        // A raw value is a piece of the text, in order.
        let start = value.get().as_ptr().addr() - text.as_ptr().addr();
        line += newlines(&text[seen..start]);
        seen = start;
        items.push(Item { line: Some(line), value: value.get().as_bytes().to_vec() });
    }
    items
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// Some line is an object of its own, and no bracket holds them together.
fn is_one_per_line(text: &str) -> bool {
    let is_object = |line: &str| {
        line.trim_start().starts_with('{') && serde_json::from_str::<&RawValue>(line).is_ok()
    };
    !text.trim_start().starts_with('[') && text.lines().any(is_object)
}

fn lines(bytes: &[u8]) -> Vec<Item> {
    let lines = (1..).zip(bytes.split(|byte| *byte == b'\n'));
    let item = |(line, bytes)| Some(Item { line: Some(line), value: content(bytes)?.to_vec() });
    lines.filter_map(item).collect()
}

/// A line without blanks at its ends; `None` where nothing is left.
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
    fn a_file_is_an_object_an_array_several_objects_or_lines() {
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
    fn a_broken_line_leaves_the_others_alone() {
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
