//! Rows of cells, aligned; a column grows with what it has seen.
//!
//! The last column is as wide as it is. Widths are counted without colours.
//! This file never knows what a cell means.

use anstyle::Style;

use super::lines::{harmless, styled};

/// A cell: its text, and the style it has on a terminal.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

/// A row: one cell per column.
pub(crate) type Row = Vec<Cell>;

impl Cell {
    /// Plain text; nothing is a dash.
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self::styled(Style::new(), text)
    }

    /// Text with a style.
    pub(crate) fn styled(style: Style, text: impl AsRef<str>) -> Self {
        let text = harmless(text.as_ref());
        Self { text: if text.is_empty() { "-".to_owned() } else { text }, style }
    }
}

/// The table so far.
pub(crate) struct Table {
    columns: &'static [&'static str],
    widths: Vec<usize>,
    has_head: bool,
}

impl Table {
    /// A table with these columns, nothing in it.
    pub(crate) fn new(columns: &'static [&'static str]) -> Self {
        let widths = columns.iter().map(|name| name.len()).collect();
        Self { columns, widths, has_head: false }
    }

    /// Make room for these rows; the head, where they are the first.
    pub(crate) fn begin<'a>(&mut self, rows: impl Iterator<Item = &'a Row>) -> Option<String> {
        let mut has_rows = false;
        for row in rows {
            has_rows = true;
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        if !has_rows || self.has_head {
            return None;
        }
        self.has_head = true;
        let bold = Style::new().bold();
        let head: Row = self.columns.iter().map(|name| Cell::styled(bold, name)).collect();
        Some(self.line(&head))
    }

    /// A row as a line.
    pub(crate) fn line(&self, row: &Row) -> String {
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
    fn columns_grow_and_the_head_comes_once() {
        let mut table = Table::new(&["A", "LAST"]);
        let row = |a: &str, b: &str| vec![Cell::new(a), Cell::new(b)];
        assert_eq!(table.begin([].iter()), None);
        let first = row("größe", "");
        let head = table.begin([&first].into_iter()).unwrap();
        assert_eq!(anstream::adapter::strip_str(&head).to_string(), "A      LAST");
        assert_eq!(table.line(&first), "größe  -");
        let second = row("longer", "x\ny");
        assert_eq!(table.begin([&second].into_iter()), None);
        assert_eq!(table.line(&second), "longer  x\u{fffd}y");
        assert_eq!(table.line(&row("s", "t")), "s       t");
    }
}
