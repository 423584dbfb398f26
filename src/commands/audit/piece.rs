//! Which escalations are asked for: all, those of a time, or those between offsets.
//!
//! This file never asks the brokers.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::ensure;
use jiff::Timestamp;

use super::Args;
use crate::adapters::kafka::Edge;

/// A partition and an offset, as `3:4200`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offset(i32, i64);

impl FromStr for Offset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(partition, offset)| {
            let (partition, offset) = (partition.parse::<u16>().ok()?, offset.parse::<u64>().ok()?);
            Some(Self(i32::from(partition), i64::try_from(offset).ok()?))
        });
        parsed.ok_or_else(|| format!("{text:?} is no PARTITION:OFFSET, as 3:4200"))
    }
}

/// The piece of the topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where it begins, if not at the oldest record.
    pub(super) begin: Option<Edge>,
    /// Where it ends, if not at the end.
    pub(super) end: Option<Edge>,
    /// Only these partitions; empty: all.
    pub(super) partitions: Vec<i32>,
    /// For people.
    pub(super) text: String,
}

impl Args {
    /// What is asked for.
    pub(super) fn piece(&self, now: Timestamp) -> anyhow::Result<Piece> {
        if self.from.is_empty() && self.to.is_empty() {
            let since = self.since.map(|since| since.from(now));
            let until = self.until.map(|until| until.from(now));
            if let (Some(since), Some(until)) = (since, until) {
                ensure!(since < until, "--since {since:.0} is not before --until {until:.0}");
            }
            let text = match (since, until) {
                (None, None) => "up to the end as it was".to_owned(),
                (Some(since), None) => format!("since {since:.0}"),
                (None, Some(until)) => format!("until {until:.0}"),
                (Some(since), Some(until)) => format!("from {since:.0} until {until:.0}"),
            };
            let (begin, end) = (since.map(Edge::At), until.map(Edge::At));
            return Ok(Piece { begin, end, partitions: vec![], text });
        }
        let (from, to) = (offsets("--from", &self.from)?, offsets("--to", &self.to)?);
        for (partition, first) in &from {
            let last = to.get(partition).unwrap_or(&i64::MAX);
            ensure!(first <= last, "--to {partition}:{last} is before --from {partition}:{first}");
        }
        let mut partitions: Vec<_> = from.keys().chain(to.keys()).copied().collect();
        partitions.sort_unstable();
        partitions.dedup();
        let text = "between the given offsets".to_owned();
        let beyond = to.into_iter().map(|(partition, last)| (partition, last.saturating_add(1)));
        let end = Some(Edge::Offsets(beyond.collect()));
        Ok(Piece { begin: Some(Edge::Offsets(from)), end, partitions, text })
    }
}

fn offsets(name: &str, given: &[Offset]) -> anyhow::Result<BTreeMap<i32, i64>> {
    let offsets: BTreeMap<_, _> = given.iter().map(|Offset(p, offset)| (*p, *offset)).collect();
    ensure!(offsets.len() == given.len(), "{name} names a partition twice");
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn check(words: &str, expected: Option<(Option<Edge>, Option<Edge>, Vec<i32>)>) {
        let words = ["audit"].into_iter().chain(words.split_whitespace());
        let now = "2026-11-23T10:00:00Z".parse().unwrap();
        let piece = Line::try_parse_from(words).ok().and_then(|line| line.args.piece(now).ok());
        assert_eq!(piece.map(|piece| (piece.begin, piece.end, piece.partitions)), expected);
    }

    #[test]
    fn pieces() {
        let at = |text: &str| Some(Edge::At(text.parse().unwrap()));
        let offsets =
            |offsets: &[(i32, i64)]| Some(Edge::Offsets(offsets.iter().copied().collect()));
        check("", Some((None, None, vec![])));
        check("--since 1h", Some((at("2026-11-23T09:00:00Z"), None, vec![])));
        check("--until 30m", Some((None, at("2026-11-23T09:30:00Z"), vec![])));
        check("--since 1h --until 2h", None);
        check("--since 1h --from 0:1", None);
        let ends = offsets(&[(3, 8), (5, 2)]);
        check("--from 3:4 --to 3:7 --to 5:1", Some((offsets(&[(3, 4)]), ends, vec![3, 5])));
        check("--from 3:4 --to 3:3", None);
        check("--from 3:4 --from 3:5", None);
        check("--from 3", None);
        check("--from -1:3", None);
    }
}
