//! `handoff events list`: entries of the ledger, one line each.
//!
//! It reads page by page, so memory does not grow with the ledger. What the course and the answer
//! say is read field by field, as `show` does.

use anstyle::AnsiColor;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{EventsListArgs, open_reader};
use crate::adapters::ledger::{LedgerUrl, ListQuery, ListedEntry, Listing};
use crate::clock::Clock;
use crate::commands::Failure;
use crate::commands::lines::{StdoutLines, print_error};
use crate::commands::table::{Cell, Table, TableRow};
use crate::domain::ledger_entry::{
    EntryState, HistoryKind, LedgerEntry, WaitsFor, key, outcome_of, snapshot_of,
};

const COLUMNS: &[&str] = &[
    "ID",
    "SESSION",
    "STATE",
    "SINCE",
    "DEADLINE",
    "ATTEMPTS",
    "CODE",
    "ROUTE",
    "NEXT ATTEMPT",
    "PROBLEM",
];

/// An event is in work, or its answer unpublished, for longer than this only if something is wrong.
const LONG: SignedDuration = SignedDuration::from_secs(60);

/// Lists the entries. With `--problem` each of them is a finding.
pub(super) async fn list(args: EventsListArgs, url: &LedgerUrl) -> Result<(), Failure> {
    let reader = open_reader(url).await?;
    let query = ListQuery {
        state: args.listed_state(),
        session_id: args.session.as_deref().map(Into::into),
    };
    let mut listing = Listing::new(&reader, query);
    let mut output = ListOutput { args, table: Table::new(COLUMNS), lines: StdoutLines::new() };
    let mut shown = 0;
    loop {
        let page = listing.next_page().await.map_err(Failure::Unavailable)?;
        if page.is_empty() || output.lines.is_closed() {
            break;
        }
        shown += output.put(&page, Clock::system().now())?;
    }
    if shown == 0 {
        print_error(&format!("nothing found in {url}"));
        return Ok(());
    }
    if output.args.problem {
        return Err(Failure::Findings(format!("{shown} with a problem")));
    }
    Ok(())
}

struct ListOutput {
    args: EventsListArgs,
    table: Table,
    lines: StdoutLines,
}

impl ListOutput {
    /// Prints the entries that are wanted; returns how many.
    fn put(&mut self, page: &[ListedEntry], now: Timestamp) -> Result<usize, Failure> {
        let entries = page.iter().map(|listed| ListItem::new(listed, now));
        let wanted: Vec<_> = entries.filter(|item| item.is_wanted(&self.args)).collect();
        if self.args.json {
            for item in &wanted {
                self.lines.put_raw(item.json().to_string().as_bytes())?;
            }
            return Ok(wanted.len());
        }
        let rows: Vec<_> = wanted.iter().map(ListItem::row).collect();
        if let Some(header) = self.table.fit(rows.iter()) {
            self.lines.put(&header)?;
        }
        for row in &rows {
            self.lines.put(&self.table.line(row))?;
        }
        Ok(rows.len())
    }
}

/// What is shown of one entry.
struct ListItem<'a> {
    key: &'a str,
    /// `None`: it cannot be read.
    entry: Option<&'a LedgerEntry>,
    attempts: Option<u64>,
    code: Option<i64>,
    route: Option<String>,
    problem: Option<String>,
}

impl<'a> ListItem<'a> {
    fn new(listed: &'a ListedEntry, now: Timestamp) -> Self {
        let entry = match &listed.entry {
            Ok(entry) => entry,
            Err(error) => {
                let problem = Some(format!("unreadable: {error:#}"));
                let (attempts, code, route) = (None, None, None);
                return Self { key: &listed.key, entry: None, attempts, code, route, problem };
            }
        };
        let answer = entry.answer.as_deref().and_then(outcome_of);
        let course = snapshot_of(entry);
        let (attempts, code, route) = match (&answer, &course) {
            (Some(answer), _) => (&answer["attempts"], &answer["desk"]["code"], &answer["route"]),
            (None, Some(course)) => {
                (&course["attempts"], &course["last_verdict"]["code"], &course["route"])
            }
            (None, None) => (&Value::Null, &Value::Null, &Value::Null),
        };
        Self {
            key: &listed.key,
            entry: Some(entry),
            attempts: attempts.as_u64(),
            code: code.as_i64(),
            route: route.as_str().map(str::to_owned),
            problem: problem(entry, course.as_ref(), now),
        }
    }

    fn is_wanted(&self, args: &EventsListArgs) -> bool {
        let is_of_route = args.route.is_none() || args.route == self.route;
        is_of_route && (!args.problem || self.problem.is_some())
    }

    fn row(&self) -> TableRow {
        let Some(entry) = self.entry else {
            let mut row = vec![Cell::new(key::name_of(self.key))];
            row.resize(COLUMNS.len() - 1, Cell::new(""));
            row.push(problem_cell(self.problem.as_deref()));
            return row;
        };
        let number = |number: Option<String>| Cell::new(number.unwrap_or_default());
        vec![
            Cell::new(key::name_of(self.key)),
            Cell::new(entry.session_id.as_deref().unwrap_or_default()),
            Cell::new(entry.state.as_str()),
            Cell::new(format!("{:.0}", since(entry))),
            Cell::new(entry.deadline.map(|at| format!("{at:.0}")).unwrap_or_default()),
            number(self.attempts.map(|attempts| attempts.to_string())),
            number(self.code.map(|code| code.to_string())),
            Cell::new(self.route.as_deref().unwrap_or_default()),
            Cell::new(next_attempt(entry).unwrap_or_default()),
            problem_cell(self.problem.as_deref()),
        ]
    }

    fn json(&self) -> Value {
        let entry = self.entry;
        let parked = entry.and_then(|entry| match &entry.state {
            EntryState::Parked { until, waits_for } => Some((*until, waits_for.to_string())),
            _ => None,
        });
        let (next_attempt, waits_for) = parked.unzip();
        json!({
            "key": self.key,
            "id": key::name_of(self.key),
            "session_id": entry.and_then(|entry| entry.session_id.clone()),
            "state": entry.map(|entry| entry.state.as_str()),
            "since": entry.map(since),
            "deadline": entry.and_then(|entry| entry.deadline),
            "attempts": self.attempts,
            "code": self.code,
            "route": self.route,
            "next_attempt": next_attempt,
            "waits_for": waits_for,
            "source": entry.map(|entry| &entry.source),
            "owner": entry.map(|entry| &entry.owner),
            "given_up": entry.and_then(LedgerEntry::given_up).map(|given_up| json!({
                "at": given_up.at, "by": given_up.by, "reason": given_up.reason,
            })),
            "problem": self.problem,
        })
    }
}

fn problem_cell(problem: Option<&str>) -> Cell {
    Cell::styled(AnsiColor::Red.on_default(), problem.unwrap_or_default())
}

/// When the entry came into its state.
fn since(entry: &LedgerEntry) -> Timestamp {
    match &entry.state {
        EntryState::Open { .. } => entry.claimed_at,
        EntryState::Parked { .. } => {
            let parked = entry.history.iter().rev().find(|item| item.kind == HistoryKind::Parked);
            parked.map_or(entry.claimed_at, |item| item.at)
        }
        EntryState::Settled { at } | EntryState::Published { at, .. } => *at,
    }
}

/// When it is tried again, for people.
fn next_attempt(entry: &LedgerEntry) -> Option<String> {
    let EntryState::Parked { until, waits_for } = &entry.state else { return None };
    let until = format!("{until:.0}");
    Some(match waits_for {
        WaitsFor::Time => until,
        WaitsFor::Session => format!("behind its session, {until}"),
        WaitsFor::Agent(_) => format!("waiting room, {until}"),
        WaitsFor::Redelivery => "when Kafka delivers it".into(),
    })
}

/// What an operator may have to look at.
fn problem(entry: &LedgerEntry, course: Option<&Value>, now: Timestamp) -> Option<String> {
    let long_ago = |at: Timestamp| now.duration_since(at) > LONG;
    match &entry.state {
        EntryState::Published { .. } => return None,
        EntryState::Settled { at } => {
            return long_ago(*at).then(|| "its answer is not published".to_owned());
        }
        EntryState::Open { .. } | EntryState::Parked { .. } => {}
    }
    if entry.deadline.is_some_and(long_ago) {
        return Some("past its deadline: no instance answers it".into());
    }
    if matches!(entry.state, EntryState::Open { .. }) && long_ago(entry.claimed_at) {
        return Some("in work for more than a minute".into());
    }
    let course = course?;
    if !course["in_doubt"].is_null() {
        return Some("a call may have taken effect".into());
    }
    let last = &course["last_verdict"];
    let is_fault = last["class"].as_str().is_some_and(|class| class != "no_agent");
    is_fault.then(|| last["text"].as_str().unwrap_or("a fault").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ledger_entry::{HistoryItem, RecordOrigin};
    use crate::domain::record::Position;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn entry(state: EntryState, snapshot: &str) -> ListedEntry {
        let item = |second, kind| HistoryItem {
            at: at(second),
            kind,
            owner: "a".into(),
            note: String::new(),
        };
        let entry = LedgerEntry {
            session_id: Some("s".into()),
            source: Position { topic: "t".into(), partition: 1, offset: 2 },
            recorded_at: None,
            record: None,
            first_seen: at(0),
            deadline: Some(at(600)),
            owner: "a".into(),
            claimed_at: at(1),
            version: 2,
            state,
            snapshot: Some(snapshot.to_owned()),
            answer: None,
            history: vec![item(1, HistoryKind::Claimed), item(5, HistoryKind::Parked)],
        };
        ListedEntry { key: "record:t/1/2@7".into(), entry: Ok(entry) }
    }

    fn line(listed: &ListedEntry, now: i64) -> String {
        let row = ListItem::new(listed, at(now)).row();
        let line = Table::new(COLUMNS).line(&row);
        let line = anstream::adapter::strip_str(&line).to_string();
        line.split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .collect::<Vec<_>>()
            .join("|")
    }

    #[test]
    fn a_line_says_how_far_an_event_is_and_what_is_wrong() {
        let parked = |waits_for| EntryState::Parked { until: at(90), waits_for };
        let fault = r#"{"attempts":4,"route":"vip","last_verdict":{"class":"transient","code":60008,
            "text":"busy"}}"#;
        let shown = line(&entry(parked(WaitsFor::Time), fault), 10);
        let start = "t/1/2|s|parked|2027-01-15T08:00:05Z|2027-01-15T08:10:00Z";
        assert_eq!(shown, format!("{start}|4|60008|vip|2027-01-15T08:01:30Z|busy"));
        let room = WaitsFor::Agent("group 7".into());
        let nobody =
            r#"{"attempts":1,"last_verdict":{"class":"no_agent","code":141001,"text":"x"}}"#;
        let shown = line(&entry(parked(room), nobody), 10);
        assert_eq!(shown, format!("{start}|1|141001|-|waiting room, 2027-01-15T08:01:30Z|-"));
        let in_doubt = line(&entry(parked(WaitsFor::Redelivery), r#"{"in_doubt":"occupied"}"#), 10);
        let rest = "-|-|-|when Kafka delivers it|a call may have taken effect";
        assert_eq!(in_doubt, format!("{start}|{rest}"));
        assert!(
            line(&entry(parked(WaitsFor::Time), "{"), 661)
                .ends_with("|past its deadline: no instance answers it")
        );
        let open = || EntryState::Open { origin: RecordOrigin::Kafka };
        assert!(line(&entry(open(), "{}"), 62).ends_with("|in work for more than a minute"));
        assert!(line(&entry(open(), "{}"), 61).ends_with("|-"));
        let settled = || EntryState::Settled { at: at(3) };
        assert!(line(&entry(settled(), "{}"), 64).ends_with("|its answer is not published"));
        let broken = ListedEntry { key: "id:e".into(), entry: Err(anyhow::anyhow!("damaged")) };
        assert_eq!(line(&broken, 0), "e|-|-|-|-|-|-|-|-|unreadable: damaged");
    }
}
