//! Reads the topics: escalations first, then outcomes and dead letters, then the records of the
//! listed findings once more, because the audit keeps their positions only.

use std::time::Duration;

use anyhow::anyhow;
use jiff::Timestamp;

use super::selection::Selection;
use crate::adapters::kafka::{Boundary, KafkaSettings, NoSuchPartition, RangeReader};
use crate::clock::Clock;
use crate::commands::{CHECK_HEADER, Failure};
use crate::domain::audit::{
    AuditFinding, AuditRange, AuditReport, AuditRules, AuditedOutcome, Escalations, FindingKind,
    Matcher,
};
use crate::domain::record::Record;
use crate::domain::repeats::SessionRepeats;
use crate::domain::wire::dead_letter::DeadLetter;
use crate::domain::wire::escalation::{DecodeRules, Decoded, decode};
use crate::domain::wire::replay::marked;

/// How long the brokers may take to deliver the next record.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest difference expected between the clocks of publishers, brokers and workers.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(3_600);

/// One audit, ready to run.
pub(super) struct AuditRun {
    pub(super) settings: KafkaSettings,
    pub(super) rules: DecodeRules,
    pub(super) selection: Selection,
    /// How long after its deadline an escalation may be decided.
    pub(super) grace: Duration,
    /// How many findings of each kind are listed.
    pub(super) max_listed: usize,
}

/// What an audit found.
pub(super) struct AuditResult {
    pub(super) range: AuditRange,
    /// The selection in words.
    pub(super) selection: String,
    /// The time of the audit: what was due before has been read.
    pub(super) as_of: Timestamp,
    /// What the topics say.
    pub(super) report: AuditReport,
    /// The first few findings of each kind.
    pub(super) findings: Vec<(FindingKind, ListedFinding)>,
    /// The first few escalations that are not due yet.
    pub(super) open: Vec<ListedFinding>,
    /// The number of unpublished ledger entries in these partitions, by state.
    pub(super) unfinished: Vec<(String, i64)>,
}

/// A finding with what was looked up about it.
pub(super) struct ListedFinding {
    pub(super) finding: AuditFinding,
    /// The session, where the escalation's record still exists.
    pub(super) session_id: Option<String>,
    /// The state of the ledger entry, in words.
    pub(super) ledger: Option<String>,
}

impl AuditRun {
    /// Reads the topics and judges them. Blocks until all of them have been read.
    pub(super) fn run(self) -> Result<AuditResult, Failure> {
        let topic = &self.settings.topics.escalations;
        let mut escalations_topic =
            RangeReader::open(&self.settings, topic, TIMEOUT).map_err(Failure::Unavailable)?;
        self.apply_selection(&mut escalations_topic)?;
        let range = AuditRange {
            topic: topic.as_str().into(),
            partitions: escalations_topic.ranges().clone(),
        };
        let rules = AuditRules {
            range: range.clone(),
            grace: self.grace,
            dead_letter_grace: self.rules.time_to_live + self.grace,
            trimmed_until: self.trimmed_until().map_err(Failure::Unavailable)?,
            max_listed: self.max_listed,
        };
        let beyond = || Failure::Unavailable(anyhow!("{topic} has partitions beyond 65535"));
        let escalations = Escalations::new(rules).ok_or_else(beyond)?;
        let escalations =
            self.read_escalations(&escalations_topic, escalations).map_err(Failure::Unavailable)?;
        // Taken before the outcomes are read: an outcome that was due by now is among them.
        let as_of = Clock::system().now();
        let report = self.read_answers(escalations, as_of).map_err(Failure::Unavailable)?;
        let mut result = AuditResult {
            range,
            selection: self.selection.text.clone(),
            as_of,
            report,
            findings: vec![],
            open: vec![],
            unfinished: vec![],
        };
        self.look_up_findings(&escalations_topic, &mut result).map_err(Failure::Unavailable)?;
        Ok(result)
    }

    /// Returns the time before which retention may have deleted an outcome or a dead letter.
    fn trimmed_until(&self) -> anyhow::Result<Option<Timestamp>> {
        let mut until = None;
        for topic in [&self.settings.topics.outcomes, &self.settings.topics.dead_letters] {
            let topic = RangeReader::open(&self.settings, topic, TIMEOUT)?;
            until = until.max(topic.trimmed_until(Clock::system().now())?);
        }
        Ok(until)
    }

    fn apply_selection(&self, escalations: &mut RangeReader) -> Result<(), Failure> {
        let partitions = &self.selection.partitions;
        if !partitions.is_empty()
            && let Err(NoSuchPartition(missing)) = escalations.select_partitions(partitions)
        {
            let topic = &self.settings.topics.escalations;
            return Err(Failure::Usage(anyhow!("{topic} has no partition {missing}")));
        }
        if let Some(edge) = &self.selection.end {
            escalations.end_at(edge).map_err(Failure::Unavailable)?;
        }
        if let Some(edge) = &self.selection.begin {
            escalations.start_at(edge).map_err(Failure::Unavailable)?;
        }
        Ok(())
    }

    fn read_escalations(
        &self,
        topic: &RangeReader,
        mut escalations: Escalations,
    ) -> anyhow::Result<Escalations> {
        let mut repeats = SessionRepeats::new(self.rules.input.same_session_within);
        topic.read(|record| {
            if is_check(&record) {
                escalations.skip();
            } else {
                // Decoded as the service did: received when it was recorded.
                let recorded = record.timestamp.unwrap_or(Timestamp::UNIX_EPOCH);
                let mut decoded = decode(&record, &self.rules, recorded);
                if let Decoded::Event(event) = &mut decoded
                    && let Some(first) = repeats.first_of(event, &record)
                {
                    // It has no id of its own, as every first one.
                    event.id = first.position.to_string().into();
                }
                escalations.add(&record, &decoded, recorded);
            }
        })?;
        Ok(escalations)
    }

    fn read_answers(
        &self,
        escalations: Escalations,
        now: Timestamp,
    ) -> anyhow::Result<AuditReport> {
        let is_from_oldest = self.selection.begin.is_none();
        let earliest = escalations.earliest().unwrap_or(now);
        let start =
            Boundary::At(earliest.saturating_sub(MAX_CLOCK_SKEW).unwrap_or(Timestamp::UNIX_EPOCH));
        let mut matcher = escalations.into_matcher();
        let topics = &self.settings.topics;
        let open = |topic: &str| {
            let mut topic = RangeReader::open(&self.settings, topic, TIMEOUT)?;
            if !is_from_oldest {
                topic.start_at(&start)?;
            }
            anyhow::Ok(topic)
        };
        read_outcomes(&open(&topics.outcomes)?, &mut matcher)?;
        read_dead_letters(&open(&topics.dead_letters)?, &mut matcher)?;
        if !is_from_oldest && matcher.overdue(now) > 0 {
            // An overdue record may repeat the id of an escalation that was answered long before
            // the range. Only now is it worth reading the older outcomes.
            let mut older = RangeReader::open(&self.settings, &topics.outcomes, TIMEOUT)?;
            older.end_at(&start)?;
            older.read(|record| {
                if let Ok(outcome) = AuditedOutcome::read(&record) {
                    matcher.add_earlier(&outcome);
                }
            })?;
        }
        Ok(matcher.judge(now))
    }

    fn look_up_findings(
        &self,
        topic: &RangeReader,
        result: &mut AuditResult,
    ) -> anyhow::Result<()> {
        for (kind, findings) in &result.report.findings {
            for finding in &findings.first {
                result.findings.push((*kind, self.look_up(topic, finding)?));
            }
        }
        for finding in &result.report.first_open {
            result.open.push(self.look_up(topic, finding)?);
        }
        Ok(())
    }

    /// Reads the escalation of a finding again to name its event and session.
    fn look_up(
        &self,
        topic: &RangeReader,
        finding: &AuditFinding,
    ) -> anyhow::Result<ListedFinding> {
        let (mut finding, mut session_id) = (finding.clone(), None);
        let source = finding.source.as_ref().filter(|_| finding.event_id.is_none());
        let record = match source {
            Some(source) => topic.record_at(source.partition, source.offset)?,
            None => None,
        };
        // After a compaction the next record may be read instead.
        if let Some(record) = record.filter(|record| Some(&record.position) == source) {
            match decode(&record, &self.rules, Clock::system().now()) {
                Decoded::Event(event) => {
                    session_id = Some(event.session_id.to_string());
                    finding.event_id = Some(event.id.to_string());
                }
                Decoded::Malformed(malformed) => finding.note = malformed.error,
                Decoded::NotForUs(_) => {}
            }
        }
        Ok(ListedFinding { finding, session_id, ledger: None })
    }
}

fn read_outcomes(outcomes: &RangeReader, matcher: &mut Matcher) -> anyhow::Result<()> {
    outcomes.read(|record| {
        if !is_check(&record) {
            match AuditedOutcome::read(&record) {
                Ok(outcome) => matcher.add_outcome(&outcome),
                Err(error) => matcher.add_unreadable(&record.position, &error),
            }
        }
    })
}

fn read_dead_letters(dead_letters: &RangeReader, matcher: &mut Matcher) -> anyhow::Result<()> {
    dead_letters.read(|record| {
        if !is_check(&record) && marked(&record).is_none() {
            match DeadLetter::read(&record.headers).source() {
                Some(source) => matcher.add_dead_letter(&source),
                None => matcher.add_unreadable(&record.position, "its headers name no source"),
            }
        }
    })
}

/// Records of `handoff check --write` are not audited.
fn is_check(record: &Record) -> bool {
    record.header(CHECK_HEADER.0) == Some(CHECK_HEADER.1)
}
