//! An aligned table that is printed while its rows arrive.
//!
//! A column grows with the rows seen so far; the last column is not padded.

use anstyle::Style;

use super::lines::{sanitize, styled};

/// A cell: its text and its style on a terminal.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

/// One cell per column.
pub(crate) type TableRow = Vec<Cell>;

impl Cell {
    /// Plain text; empty text is shown as a dash.
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self::styled(Style::new(), text)
    }

    /// Text with a style; empty text is shown as a dash.
    pub(crate) fn styled(style: Style, text: impl AsRef<str>) -> Self {
        let text = sanitize(text.as_ref());
        Self { text: if text.is_empty() { "-".to_owned() } else { text }, style }
    }
}

/// The columns and their widths so far.
pub(crate) struct Table {
    columns: Vec<&'static str>,
    widths: Vec<usize>,
    has_header: bool,
}

impl Table {
    /// A table with these columns and no rows.
    pub(crate) fn new(columns: &[&'static str]) -> Self {
        let widths = columns.iter().map(|name| name.len()).collect();
        Self { columns: columns.to_vec(), widths, has_header: false }
    }

    /// Widens the columns for these rows. Returns the header if they are the first rows.
    pub(crate) fn fit<'a>(&mut self, rows: impl Iterator<Item = &'a TableRow>) -> Option<String> {
        let mut has_rows = false;
        for row in rows {
            has_rows = true;
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        if !has_rows || self.has_header {
            return None;
        }
        self.has_header = true;
        let bold = Style::new().bold();
        let header: TableRow = self.columns.iter().map(|name| Cell::styled(bold, name)).collect();
        Some(self.line(&header))
    }

    /// A row as an aligned line.
    pub(crate) fn line(&self, row: &TableRow) -> String {
        let mut line = String::new();
        let last = row.len().saturating_sub(1);
        for (i, (cell, width)) in row.iter().zip(&self.widths).enumerate() {
            line.push_str(&styled(cell.style, &cell.text));
            if i < last {
                let blanks = width.saturating_sub(cell.text.chars().count()) + 2;
                line.push_str(&" ".repeat(blanks));
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_grow_and_the_header_is_printed_once() {
        let mut table = Table::new(&["A", "LAST"]);
        let row = |a: &str, b: &str| vec![Cell::new(a), Cell::new(b)];
        assert_eq!(table.fit([].iter()), None);
        let first = row("größe", "");
        let header = table.fit([&first].into_iter()).unwrap();
        assert_eq!(anstream::adapter::strip_str(&header).to_string(), "A      LAST");
        assert_eq!(table.line(&first), "größe  -");
        let second = row("longer", "x\ny");
        assert_eq!(table.fit([&second].into_iter()), None);
        assert_eq!(table.line(&second), "longer  x\u{fffd}y");
        assert_eq!(table.line(&row("s", "t")), "s       t");
    }
}
