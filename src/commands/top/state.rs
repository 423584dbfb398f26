//! The choices of the person in front of the screen: which table, which row, which filter.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::overview::{Overview, ShownRow};

/// Rows that page up and page down move by.
const PAGE: usize = 10;

#[derive(Debug, Clone, Default)]
pub(super) struct ScreenState {
    /// The index of the table.
    pub(super) tab: usize,
    /// The index of the row among those that the filter leaves.
    pub(super) row: usize,
    /// Rows are shown that contain this text; empty: all.
    pub(super) filter: String,
    /// The filter is being typed.
    pub(super) is_typing: bool,
    /// What is shown does not change.
    pub(super) is_paused: bool,
    pub(super) is_help: bool,
}

/// What a key asks for beyond a change of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyAction {
    Stay,
    Quit,
}

impl ScreenState {
    /// The rows of the chosen table that the filter leaves.
    pub(super) fn rows<'a>(&self, overview: &'a Overview) -> Vec<&'a ShownRow> {
        let Some(table) = overview.tables.get(self.tab) else { return Vec::new() };
        table.rows.iter().filter(|row| row.contains(&self.filter)).collect()
    }

    pub(super) fn press(&mut self, key: KeyEvent, overview: &Overview) -> KeyAction {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && key.code == KeyCode::Char('c') {
            return KeyAction::Quit;
        }
        if self.is_typing {
            self.type_filter(key.code);
            return KeyAction::Stay;
        }
        let tabs = overview.tables.len().max(1);
        let last = self.rows(overview).len().saturating_sub(1);
        match key.code {
            KeyCode::Char('q') => return KeyAction::Quit,
            KeyCode::Esc if self.is_help => self.is_help = false,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('?') => self.is_help = !self.is_help,
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('/') => (self.is_typing, self.is_help) = (true, false),
            KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => {
                self.choose((self.tab + 1) % tabs)
            }
            KeyCode::BackTab | KeyCode::Left | KeyCode::Char('h') => {
                self.choose((self.tab + tabs - 1) % tabs);
            }
            KeyCode::Char(digit @ '1'..='9') => {
                let tab = digit as usize - '1' as usize;
                if tab < tabs {
                    self.choose(tab);
                }
            }
            KeyCode::Down | KeyCode::Char('j') => self.row = (self.row + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => self.row = self.row.saturating_sub(1),
            KeyCode::PageDown => self.row = (self.row + PAGE).min(last),
            KeyCode::PageUp => self.row = self.row.saturating_sub(PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.row = 0,
            KeyCode::End | KeyCode::Char('G') => self.row = last,
            _ => {}
        }
        KeyAction::Stay
    }

    fn choose(&mut self, tab: usize) {
        (self.tab, self.row) = (tab, 0);
    }

    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.filter.clear();
                self.is_typing = false;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(c) if !c.is_control() => self.filter.push(c),
            _ => {}
        }
        self.row = 0;
    }
}
