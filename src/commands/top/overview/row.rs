//! A row of a table.

use crate::commands::lines::sanitize;

#[derive(Debug, Clone)]
pub(in crate::commands::top) struct ShownRow {
    /// One per column.
    pub(in crate::commands::top) cells: Vec<String>,
    /// What does not fit into a row.
    pub(in crate::commands::top) detail: String,
}

impl ShownRow {
    pub(super) fn new<const N: usize>(cells: [String; N], detail: &str) -> Self {
        let cells = cells.iter().map(|cell| sanitize(cell)).collect();
        Self { cells, detail: sanitize(detail) }
    }

    /// Whether it contains this text, in any case.
    pub(in crate::commands::top) fn contains(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let has = |cell: &String| cell.to_lowercase().contains(&text);
        self.cells.iter().any(has) || has(&self.detail)
    }
}
