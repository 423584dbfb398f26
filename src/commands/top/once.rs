//! One screen as plain text, for scripts and for where there is no terminal.

use super::overview::{Overview, ShownTable};
use super::view::level_word;
use crate::commands::table::{Cell, Table};

/// Rows of each table; the heading says how many there are.
const MAX_ROWS: usize = 20;

/// Headline, counts and all tables that have rows, below each other.
pub(super) fn text(overview: &Overview) -> Vec<String> {
    let first = overview.headline.first().map_or("", String::as_str);
    let mut lines = vec![format!("{}  {first}", level_word(overview.level))];
    lines.extend(overview.headline.iter().skip(1).cloned());
    lines.push(overview.identity.clone());
    lines.extend(overview.counts.iter().map(|parts| parts.join("   ")));
    for table in overview.tables.iter().filter(|table| !table.rows.is_empty()) {
        lines.push(String::new());
        lines.extend(table_lines(table));
    }
    lines.retain({
        let mut was_empty = true;
        move |line| {
            let is_repeated = was_empty && line.is_empty();
            was_empty = line.is_empty();
            !is_repeated
        }
    });
    lines
}

fn table_lines(shown: &ShownTable) -> Vec<String> {
    let heading = match shown.rows.len() {
        count @ 0..=MAX_ROWS => format!("{} ({count})", shown.title),
        count => format!("{} (the first {MAX_ROWS} of {count})", shown.title),
    };
    let rows = shown.rows.iter().take(MAX_ROWS);
    let rows: Vec<Vec<Cell>> = rows.map(|row| row.cells.iter().map(Cell::new).collect()).collect();
    let names: Vec<_> = shown.columns.iter().map(|column| column.name).collect();
    let mut table = Table::new(&names);
    let header = table.fit(rows.iter());
    let body = rows.iter().map(|row| table.line(row));
    let lines = header.into_iter().chain(body).map(|line| plain(&line));
    [heading].into_iter().chain(lines).collect()
}

fn plain(line: &str) -> String {
    anstream::adapter::strip_str(line).to_string().trim_end().to_owned()
}
