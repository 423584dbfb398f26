//! From the topics to the report: escalations, then what was answered, then names for the first
//! few findings.
//!
//! Nothing is kept of a record but what `domain::audit` keeps. This file never judges.

use std::time::Duration;

use anyhow::anyhow;
use jiff::Timestamp;

use super::piece::Piece;
use crate::adapters::kafka::{Edge, Excerpt, Settings};
use crate::clock::Clock;
use crate::commands::{CHECK_HEADER, Failure};
use crate::domain::audit::{
    AuditFinding, AuditRange, AuditReport, AuditRules, AuditedOutcome, Escalations, FindingKind,
    Matcher,
};
use crate::domain::record::Record;
use crate::domain::wire::dead_letter::DeadLetter;
use crate::domain::wire::escalation::{DecodeRules, Decoded, decode};

/// The brokers may be silent for so long.
const LIMIT: Duration = Duration::from_secs(30);
/// The clocks of publishers, brokers and workers may differ by so much.
const SKEW: Duration = Duration::from_secs(3_600);

/// What it takes.
pub(super) struct Reading {
    pub(super) settings: Settings,
    pub(super) rules: DecodeRules,
    pub(super) piece: Piece,
    /// An answer may be so late.
    pub(super) grace: Duration,
    /// So many of each kind are named.
    pub(super) keep: usize,
}

/// What came out.
pub(super) struct Read {
    /// What was read.
    pub(super) range: AuditRange,
    /// For people.
    pub(super) piece: String,
    /// As of.
    pub(super) at: Timestamp,
    /// What is in the topics.
    pub(super) report: AuditReport,
    /// The first few findings.
    pub(super) cases: Vec<(FindingKind, Case)>,
    /// The first few that are open.
    pub(super) open: Vec<Case>,
    /// What the ledger has of these partitions that is not published, by stage.
    pub(super) stages: Vec<(String, i64)>,
}

/// One escalation that is named.
pub(super) struct Case {
    /// What is known.
    pub(super) finding: AuditFinding,
    /// The session, where it was looked up.
    pub(super) session_id: Option<String>,
    /// What the ledger says.
    pub(super) ledger: Option<String>,
}

impl Reading {
    /// Read everything.
    pub(super) fn read(self) -> Result<Read, Failure> {
        let topic = &self.settings.topics.escalations;
        let mut asked = self.open(topic)?;
        self.narrow(&mut asked)?;
        let range = AuditRange { topic: topic.as_str().into(), partitions: asked.ranges().clone() };
        let rules = AuditRules {
            range: range.clone(),
            grace: self.grace,
            dead_letter_grace: self.rules.time_to_live + self.grace,
            trimmed_until: self.trimmed_until().map_err(Failure::Unavailable)?,
            max_listed: self.keep,
        };
        let beyond = || Failure::Unavailable(anyhow!("{topic} has partitions beyond 65535"));
        let escalations = Escalations::new(rules).ok_or_else(beyond)?;
        let escalations = self.take(&asked, escalations).map_err(Failure::Unavailable)?;
        // What was due before now has been answered by now.
        let at = Clock::system().now();
        let report = self.answers(escalations, at).map_err(Failure::Unavailable)?;
        let mut read = Read {
            range,
            piece: self.piece.text.clone(),
            at,
            report,
            cases: vec![],
            open: vec![],
            stages: vec![],
        };
        self.name(&asked, &mut read).map_err(Failure::Unavailable)?;
        Ok(read)
    }

    fn open(&self, topic: &str) -> Result<Excerpt, Failure> {
        Excerpt::open(&self.settings, topic, LIMIT).map_err(Failure::Unavailable)
    }

    /// Before then an answer may have been deleted.
    fn trimmed_until(&self) -> anyhow::Result<Option<Timestamp>> {
        let mut until = None;
        for topic in [&self.settings.topics.outcomes, &self.settings.topics.dead_letters] {
            let topic = Excerpt::open(&self.settings, topic, LIMIT)?;
            until = until.max(topic.trimmed_until(Clock::system().now())?);
        }
        Ok(until)
    }

    fn narrow(&self, asked: &mut Excerpt) -> Result<(), Failure> {
        if !self.piece.partitions.is_empty() && !asked.keep(&self.piece.partitions) {
            let topic = &self.settings.topics.escalations;
            return Err(Failure::Usage(anyhow!("{topic} has not all of these partitions")));
        }
        if let Some(edge) = &self.piece.end {
            asked.end(edge).map_err(Failure::Unavailable)?;
        }
        if let Some(edge) = &self.piece.begin {
            asked.begin(edge).map_err(Failure::Unavailable)?;
        }
        Ok(())
    }

    fn take(&self, asked: &Excerpt, mut into: Escalations) -> anyhow::Result<Escalations> {
        asked.read(|record| {
            if is_check(&record) {
                into.skip();
            } else {
                let recorded = record.timestamp.unwrap_or(Timestamp::UNIX_EPOCH);
                into.add(&record, &decode(&record, &self.rules, recorded), recorded);
            }
            true
        })?;
        Ok(into)
    }

    fn answers(&self, escalations: Escalations, now: Timestamp) -> anyhow::Result<AuditReport> {
        let is_whole = self.piece.begin.is_none();
        let earliest = escalations.earliest().unwrap_or(now);
        let edge = Edge::At(earliest.saturating_sub(SKEW).unwrap_or(Timestamp::UNIX_EPOCH));
        let mut matcher = escalations.into_matcher();
        let topics = &self.settings.topics;
        let excerpt = |topic: &str| {
            let mut excerpt = Excerpt::open(&self.settings, topic, LIMIT)?;
            if !is_whole {
                excerpt.begin(&edge)?;
            }
            anyhow::Ok(excerpt)
        };
        read_outcomes(&excerpt(&topics.outcomes)?, &mut matcher)?;
        excerpt(&topics.dead_letters)?.read(|letter| {
            match (is_check(&letter), DeadLetter::read(&letter.headers).source()) {
                (true, _) => {}
                (_, Some(source)) => matcher.add_dead_letter(&source),
                (_, None) => matcher.add_unreadable(&letter.position, "it does not say its source"),
            }
            true
        })?;
        if !is_whole && matcher.overdue(now) > 0 {
            // It may repeat the identity of one that was answered long before.
            let mut before = Excerpt::open(&self.settings, &topics.outcomes, LIMIT)?;
            before.end(&edge)?;
            before.read(|record| {
                if let Ok(answer) = AuditedOutcome::read(&record) {
                    matcher.add_earlier(&answer);
                }
                true
            })?;
        }
        Ok(matcher.judge(now))
    }

    /// Look up whose the first few are: only their places were kept.
    fn name(&self, asked: &Excerpt, read: &mut Read) -> anyhow::Result<()> {
        for (kind, findings) in &read.report.findings {
            for finding in &findings.first {
                read.cases.push((*kind, self.case(asked, finding)?));
            }
        }
        for finding in &read.report.first_open {
            read.open.push(self.case(asked, finding)?);
        }
        Ok(())
    }

    fn case(&self, asked: &Excerpt, finding: &AuditFinding) -> anyhow::Result<Case> {
        let (mut finding, mut session_id) = (finding.clone(), None);
        let source = finding.source.as_ref().filter(|_| finding.event_id.is_none());
        let record = match source {
            Some(source) => asked.record_at(source.partition, source.offset)?,
            None => None,
        };
        if let Some(record) = record.filter(|record| Some(&record.position) == source) {
            match decode(&record, &self.rules, Clock::system().now()) {
                Decoded::Event(event) => {
                    session_id = Some(event.session_id.to_string());
                    finding.event_id = Some(event.id.to_string());
                }
                Decoded::Malformed(malformed) => finding.note = malformed.error,
                Decoded::NotForUs => {}
            }
        }
        Ok(Case { finding, session_id, ledger: None })
    }
}

fn read_outcomes(outcomes: &Excerpt, matcher: &mut Matcher) -> anyhow::Result<()> {
    outcomes.read(|record| {
        if !is_check(&record) {
            match AuditedOutcome::read(&record) {
                Ok(answer) => matcher.add_outcome(&answer),
                Err(error) => matcher.add_unreadable(&record.position, &error),
            }
        }
        true
    })
}

fn is_check(record: &Record) -> bool {
    record.header(CHECK_HEADER.0) == Some(CHECK_HEADER.1)
}
