//! The audited part of the escalations topic: everything, a span of time, or ranges of offsets.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::ensure;
use jiff::Timestamp;

use super::AuditArgs;
use crate::adapters::kafka::Boundary;

/// A partition and an offset, written as `3:4200`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OffsetArg {
    partition: i32,
    offset: i64,
}

impl FromStr for OffsetArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(partition, offset)| {
            let (partition, offset) = (partition.parse::<u16>().ok()?, offset.parse::<u64>().ok()?);
            Some(Self { partition: partition.into(), offset: i64::try_from(offset).ok()? })
        });
        parsed.ok_or_else(|| format!("{text:?} is not PARTITION:OFFSET, as 3:4200"))
    }
}

/// The audited part of the topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Selection {
    /// The first record; `None` is the oldest.
    pub(super) begin: Option<Boundary>,
    /// The end, exclusive; `None` is the current end of the topic.
    pub(super) end: Option<Boundary>,
    /// Only these partitions; empty means all.
    pub(super) partitions: Vec<i32>,
    /// The selection in words, for the summary.
    pub(super) text: String,
}

impl AuditArgs {
    /// Returns the selected part of the topic.
    pub(super) fn selection(&self, now: Timestamp) -> anyhow::Result<Selection> {
        if self.from.is_empty() && self.to.is_empty() {
            self.selection_by_time(now)
        } else {
            self.selection_by_offsets()
        }
    }

    fn selection_by_time(&self, now: Timestamp) -> anyhow::Result<Selection> {
        let since = self.since.map(|since| since.resolve(now));
        let until = self.until.map(|until| until.resolve(now));
        if let (Some(since), Some(until)) = (since, until) {
            ensure!(since < until, "--since {since:.0} is not before --until {until:.0}");
        }
        let text = match (since, until) {
            (None, None) => "up to the end of the topic".to_owned(),
            (Some(since), None) => format!("since {since:.0}"),
            (None, Some(until)) => format!("until {until:.0}"),
            (Some(since), Some(until)) => format!("from {since:.0} until {until:.0}"),
        };
        let (begin, end) = (since.map(Boundary::At), until.map(Boundary::At));
        Ok(Selection { begin, end, partitions: vec![], text })
    }

    fn selection_by_offsets(&self) -> anyhow::Result<Selection> {
        let (from, to) = (offsets("--from", &self.from)?, offsets("--to", &self.to)?);
        for (partition, first) in &from {
            let last = to.get(partition).unwrap_or(&i64::MAX);
            ensure!(first <= last, "--to {partition}:{last} is before --from {partition}:{first}");
        }
        let mut partitions: Vec<_> = from.keys().chain(to.keys()).copied().collect();
        partitions.sort_unstable();
        partitions.dedup();
        let text = "between the given offsets".to_owned();
        // `--to` names the last record, the selection ends after it.
        let beyond = to.into_iter().map(|(partition, last)| (partition, last.saturating_add(1)));
        let end = Some(Boundary::Offsets(beyond.collect()));
        Ok(Selection { begin: Some(Boundary::Offsets(from)), end, partitions, text })
    }
}

fn offsets(option: &str, given: &[OffsetArg]) -> anyhow::Result<BTreeMap<i32, i64>> {
    let offsets: BTreeMap<_, _> = given.iter().map(|arg| (arg.partition, arg.offset)).collect();
    ensure!(offsets.len() == given.len(), "{option} names a partition twice");
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct TestCli {
        #[command(flatten)]
        args: AuditArgs,
    }

    fn selection(arguments: &str) -> Option<Selection> {
        let words = ["audit"].into_iter().chain(arguments.split_whitespace());
        let now = "2026-11-23T10:00:00Z".parse().unwrap();
        TestCli::try_parse_from(words).ok()?.args.selection(now).ok()
    }

    fn check(arguments: &str, begin: Option<Boundary>, end: Option<Boundary>, partitions: &[i32]) {
        let selection = selection(arguments).expect("the arguments fit");
        let seen = (selection.begin, selection.end, selection.partitions);
        assert_eq!(seen, (begin, end, partitions.to_vec()), "{arguments}");
    }

    #[test]
    fn a_selection_is_everything_a_span_of_time_or_ranges_of_offsets() {
        let at = |text: &str| Some(Boundary::At(text.parse().unwrap()));
        let offsets =
            |offsets: &[(i32, i64)]| Some(Boundary::Offsets(offsets.iter().copied().collect()));
        check("", None, None, &[]);
        check("--since 1h", at("2026-11-23T09:00:00Z"), None, &[]);
        check("--until 30m", None, at("2026-11-23T09:30:00Z"), &[]);
        let ends = offsets(&[(3, 8), (5, 2)]);
        check("--from 3:4 --to 3:7 --to 5:1", offsets(&[(3, 4)]), ends, &[3, 5]);
    }

    #[test]
    fn contradictory_selections_are_refused() {
        for arguments in [
            "--since 1h --until 2h",
            "--since 1h --from 0:1",
            "--from 3:4 --to 3:3",
            "--from 3:4 --from 3:5",
            "--from 3",
            "--from -1:3",
        ] {
            assert_eq!(selection(arguments), None, "{arguments}");
        }
    }
}
