//! Draws the screen: the headline first, then counts, then one table at a time.
//!
//! Nothing is said by colour alone: the level is a word, the chosen tab has brackets, the chosen row a
//! mark.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table, TableState};

use super::ages::bars;
use super::overview::{Overview, ShownRow, ShownTable};
use super::state::ScreenState;
use super::status::SeenLevel;

/// The index of the floor among the tables.
const FLOOR: usize = 1;
/// From this height on the floor is shown above the other tables.
const TALL: u16 = 36;
/// From this height on small charts are shown.
const MEDIUM: u16 = 28;
/// Rows of the headline on a screen that is not tall.
const MAX_HEADLINE: usize = 6;

const HELP: &str = "\
q, Ctrl-C     quit
p, blank      pause, and go on
Tab, arrows   the next table; 1 to 7: this table
/             show only rows that contain a text; Enter keeps it, Esc removes it
up, down      the next row: its whole text is below the table
PgUp, PgDn, Home, End
?             this help

unfinished    escalations without a final, acknowledged outcome
left          time until the deadline; with a minus: past it
share         part of the outcomes of the last hour with nobody online
1st           part of the transfers that the first target of the route took
Ages are those of the instance's clock. The words of the column problem and
what to do about each: docs/operations.md.";

/// Whether the terminal shows colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Palette {
    Colours,
    /// Bold and reversed text only.
    Plain,
}

impl Palette {
    fn level(self, level: SeenLevel) -> Style {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        match (self, level) {
            (Self::Colours, SeenLevel::Well) => bold.fg(Color::Green),
            (Self::Colours, SeenLevel::Warning) => bold.fg(Color::Black).bg(Color::Yellow),
            (Self::Colours, SeenLevel::Critical) => bold.fg(Color::White).bg(Color::Red),
            (Self::Plain, SeenLevel::Well) => bold,
            (Self::Plain, _) => bold.add_modifier(Modifier::REVERSED),
        }
    }
}

/// The word for a level.
pub(super) fn level_word(level: SeenLevel) -> &'static str {
    match level {
        SeenLevel::Well => "WELL",
        SeenLevel::Warning => "WARNING",
        SeenLevel::Critical => "CRITICAL",
    }
}

pub(super) fn draw(
    frame: &mut Frame<'_>,
    overview: &Overview,
    state: &ScreenState,
    palette: Palette,
) {
    let area = frame.area();
    let width = usize::from(area.width);
    let headline = headline_rows(overview, area);
    let counts = count_rows(overview, area);
    let charts = if area.height >= MEDIUM { charts(overview, width) } else { Vec::new() };
    let height = |lines: &[String]| u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let is_floor_above = area.height >= TALL && state.tab != FLOOR;
    let floor = overview.tables.get(FLOOR).filter(|_| is_floor_above);
    let floor_height = floor.map_or(0, |floor| floor.rows.len().min(8) as u16 + 2);
    let rows = Layout::vertical([
        Constraint::Length(height(&headline)),
        Constraint::Length(1),
        Constraint::Length(height(&counts)),
        Constraint::Length(height(&charts)),
        Constraint::Length(floor_height),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(2),
        Constraint::Length(1),
    ])
    .split(area);
    draw_headline(frame, rows[0], &headline, palette.level(overview.level));
    let dim = Style::new().add_modifier(Modifier::DIM);
    frame.render_widget(Line::styled(overview.identity.as_str(), dim), rows[1]);
    frame.render_widget(paragraph(&counts), rows[2]);
    frame.render_widget(paragraph(&charts), rows[3]);
    if let Some(floor) = floor {
        let shown: Vec<_> = floor.rows.iter().collect();
        draw_table(frame, rows[4], floor, &shown, None);
    }
    frame.render_widget(tabs(overview, state), rows[5]);
    if let Some(table) = overview.tables.get(state.tab) {
        let shown = state.rows(overview);
        let chosen = state.row.min(shown.len().saturating_sub(1));
        draw_table(frame, rows[6], table, &shown, Some(chosen));
        let detail = shown.get(chosen).map_or("", |row| row.detail.as_str());
        let mut detail = wrapped(detail, width);
        detail.truncate(2);
        frame.render_widget(paragraph(&detail), rows[7]);
    }
    frame.render_widget(footer(state), rows[8]);
    if state.is_help {
        draw_help(frame, area);
    }
}

/// The level and its sentences. On a low screen the first ones only: the worst problem comes first.
fn headline_rows(overview: &Overview, area: Rect) -> Vec<String> {
    let width = usize::from(area.width);
    let first = overview.headline.first().map_or("", String::as_str);
    let first = format!("{}  {first}", level_word(overview.level));
    let rest = overview.headline.iter().skip(1).flat_map(|line| wrapped(line, width));
    let mut lines: Vec<_> = wrapped(&first, width).into_iter().chain(rest).collect();
    if area.height < TALL {
        lines.truncate(MAX_HEADLINE);
    }
    lines
}

/// On a low screen one row per topic: its most important parts come first.
fn count_rows(overview: &Overview, area: Rect) -> Vec<String> {
    let rows = overview.counts.iter().flat_map(|parts| {
        let mut rows = filled(parts, "  ", usize::from(area.width));
        if area.height < MEDIUM {
            rows.truncate(1);
        }
        rows
    });
    rows.collect()
}

fn draw_headline(frame: &mut Frame<'_>, area: Rect, lines: &[String], style: Style) {
    // The first sentence may take several rows; one row in the colour is enough to be seen.
    let lines = lines.iter().enumerate().map(|(row, line)| {
        let style = if row == 0 { style } else { Style::new() };
        Line::styled(line.as_str(), style)
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), area);
}

/// The ends of both series, next to each other.
fn charts(overview: &Overview, width: usize) -> Vec<String> {
    let room = (width / 2).saturating_sub(12);
    let end = |points: &[u64]| bars(&points[points.len().saturating_sub(room)..]);
    let history = &overview.history;
    if history.unfinished.is_empty() {
        return Vec::new();
    }
    vec![format!("answered {}  unfinished {}", end(&history.answered), end(&history.unfinished))]
}

fn tabs(overview: &Overview, state: &ScreenState) -> Line<'static> {
    let titles = overview.tables.iter().enumerate().map(|(index, table)| {
        let title = format!("{} {}", table.title, table.rows.len());
        if index == state.tab { format!("[{title}]") } else { format!(" {title} ") }
    });
    let style = Style::new().add_modifier(Modifier::BOLD);
    Line::styled(titles.collect::<Vec<_>>().join(""), style)
}

fn footer(state: &ScreenState) -> Line<'static> {
    let paused = if state.is_paused { "PAUSED   " } else { "" };
    if state.is_typing {
        return Line::from(format!("{paused}/{}_", state.filter));
    }
    let filter = match state.filter.as_str() {
        "" => String::new(),
        text => format!("filter /{text}   "),
    };
    Line::from(format!(
        "{paused}{filter}q quit  p pause  Tab table  / filter  up, down row  ? help"
    ))
}

/// A table; `chosen` is the index of the row with the mark.
fn draw_table(
    frame: &mut Frame<'_>,
    area: Rect,
    table: &ShownTable,
    rows: &[&ShownRow],
    chosen: Option<usize>,
) {
    let columns: Vec<_> = (0..table.columns.len())
        .filter(|index| table.columns[*index].from <= frame.area().width)
        .collect();
    let header = columns.iter().map(|index| Cell::from(table.columns[*index].name));
    let header = Row::new(header).style(Style::new().add_modifier(Modifier::UNDERLINED));
    let cells = |row: &ShownRow| {
        columns.iter().map(|index| Cell::from(row.cells[*index].clone())).collect::<Vec<_>>()
    };
    let last = columns.last().copied();
    let widths = columns.iter().map(|index| {
        let width = table.columns[*index].width;
        // The last column takes what is left.
        if Some(*index) == last { Constraint::Min(width) } else { Constraint::Length(width) }
    });
    let widget = Table::new(rows.iter().map(|row| Row::new(cells(row))), widths)
        .header(header)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .highlight_symbol(if chosen.is_some() { ">" } else { "" });
    let mut state = TableState::new().with_selected(chosen.filter(|_| !rows.is_empty()));
    frame.render_stateful_widget(widget, area, &mut state);
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let height = HELP.lines().count() as u16 + 2;
    let area = area.centered(Constraint::Max(82), Constraint::Max(height));
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title(" keys ")), area);
}

fn paragraph(lines: &[String]) -> Paragraph<'_> {
    Paragraph::new(lines.iter().map(|line| Line::from(line.as_str())).collect::<Vec<_>>())
}

/// Breaks a line between words; a longer word is cut at the end of the screen.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
    filled(&words, " ", width)
}

/// Rows with as many parts as fit; a part is not broken.
fn filled(parts: &[String], separator: &str, width: usize) -> Vec<String> {
    let measure = |text: &str| Line::from(text).width();
    let mut rows: Vec<String> = Vec::new();
    for part in parts {
        let needed = separator.len() + measure(part);
        match rows.last_mut().filter(|row| measure(row) + needed <= width) {
            Some(row) => {
                row.push_str(separator);
                row.push_str(part);
            }
            None => rows.push(part.clone()),
        }
    }
    rows
}

#[cfg(test)]
mod tests;
