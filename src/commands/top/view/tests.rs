//! Whole screens, from the samples of `/status`.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::commands::top::overview::AskedInstance;
use crate::commands::top::state::KeyAction;
use crate::commands::top::status::parse_status;

const BUSY: &[u8] = include_bytes!("../../../../tests/fixtures/status/busy.json");
const CALM: &[u8] = include_bytes!("../../../../tests/fixtures/status/calm.json");

fn sample(body: &[u8]) -> Overview {
    let answer = Ok(parse_status(body).unwrap());
    Overview::new(&[AskedInstance { url: "http://w-1:9464/".into(), answer }])
}

fn screen(width: u16, height: u16, overview: &Overview, keys: &str) -> String {
    let mut state = ScreenState::default();
    for c in keys.chars() {
        let code = match c {
            '\t' => KeyCode::Tab,
            '\n' => KeyCode::Enter,
            '↓' => KeyCode::Down,
            c => KeyCode::Char(c),
        };
        let action = state.press(KeyEvent::new(code, KeyModifiers::NONE), overview);
        assert_eq!(action, KeyAction::Stay);
    }
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, overview, &state, Palette::Plain)).unwrap();
    let buffer = terminal.backend().buffer();
    let rows = buffer.content().chunks(usize::from(width));
    let text = rows.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>());
    text.map(|row| row.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

#[test]
fn calm_on_a_small_screen() {
    insta::assert_snapshot!(screen(80, 24, &sample(CALM), ""));
}

#[test]
fn an_outage_on_a_small_screen() {
    insta::assert_snapshot!(screen(80, 24, &sample(BUSY), ""));
}

#[test]
fn an_outage_on_a_large_screen() {
    insta::assert_snapshot!(screen(160, 50, &sample(BUSY), "↓↓"));
}

#[test]
fn the_floor() {
    insta::assert_snapshot!(screen(80, 24, &sample(BUSY), "\t"));
}

#[test]
fn the_help() {
    insta::assert_snapshot!(screen(80, 24, &sample(CALM), "?"));
}

#[test]
fn a_filter_leaves_the_rows_with_its_text_in_any_table() {
    let busy = sample(BUSY);
    let filtered = screen(80, 40, &busy, "/BEHIND\n");
    let rows = filtered.lines().filter(|line| line.contains("behind_in_session")).count();
    assert!(rows >= 2 && filtered.contains("filter /BEHIND"), "{filtered}");
    assert!(!filtered.contains(">gate_shut") && filtered.contains(">behind_in"), "{filtered}");
    assert!(screen(80, 24, &busy, "/b").contains("/b_"), "while it is typed");
}

#[test]
fn every_size_can_be_drawn() {
    let busy = sample(BUSY);
    for (width, height) in [(1, 1), (20, 5), (40, 12), (80, 24), (300, 100)] {
        for keys in ["", "\t", "7", "?", "p"] {
            screen(width, height, &busy, keys);
        }
    }
}

#[test]
fn a_chosen_row_stays_on_the_screen() {
    let busy = sample(BUSY);
    let last = screen(80, 24, &busy, "G");
    assert!(last.lines().any(|line| line.starts_with('>')), "{last}");
}

#[test]
fn colours_only_repeat_what_words_say() {
    let (plain, coloured) = (Palette::Plain, Palette::Colours);
    assert_eq!(plain.level(SeenLevel::Critical).bg, None);
    assert_ne!(coloured.level(SeenLevel::Critical).bg, None);
    let levels = [SeenLevel::Well, SeenLevel::Warning, SeenLevel::Critical];
    assert_eq!(levels.map(level_word), ["WELL", "WARNING", "CRITICAL"]);
}
