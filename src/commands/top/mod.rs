//! `handoff top`: what the service does, live in a terminal, from `/status` of its instances.
//!
//! `status` reads the answers, `overview` makes of all of them what is shown, `state` keeps what the
//! person has chosen, `view` draws; these four have no input and output. Here are the polling and the
//! terminal.

mod ages;
mod once;
mod overview;
mod poll;
mod state;
mod status;
mod view;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use anyhow::{Context as _, anyhow};
use crossterm::event::{Event, EventStream, KeyEventKind};
use futures_util::StreamExt as _;
use ratatui::DefaultTerminal;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::overview::Overview;
use self::poll::{StatusUrls, default_url};
use self::state::{KeyAction, ScreenState};
use self::view::Palette;
use super::lines::StdoutLines;
use super::{Failure, load_for_tools};
use crate::adapters::secret_file;
use crate::task::spawn_owned;

const REFRESH: Duration = Duration::from_secs(1);

const AFTER_HELP: &str = "\
Examples:
  handoff top
  handoff top http://10.1.0.7:9464 http://10.1.0.8:9464
  handoff top --once | head -1

Without an address it asks admin.listen of the configuration, on this host. Only /status is read.
Exit codes: 0 ok, 69 an instance does not answer (--once), 70 bug, 78 bad configuration.";

/// Show the service live in the terminal
///
/// What is wrong and what to do, counts, the floor by routes, unfinished events, partitions and the last
/// outcomes, refreshed each second. Keys: q quit, p pause, Tab the next table, / filter, arrows, ? help.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct TopArgs {
    /// Addresses of admin ports, as http://host:port/, several for several instances
    #[arg(value_name = "URL", value_parser = poll::parse_url)]
    urls: Vec<reqwest::Url>,

    /// A file with the token of admin.token_file, which instances want that listen elsewhere than on
    /// loopback
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Print one screen as plain text and end; as without a terminal
    #[arg(long)]
    once: bool,
}

/// Shows the instances until a key, or `shutdown`, ends it.
pub(crate) async fn run(
    args: TopArgs,
    file: Option<&Path>,
    env: Vec<(String, String)>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let urls = if args.urls.is_empty() {
        vec![default_url(load_for_tools(file, env)?.admin_listen).map_err(Failure::Configuration)?]
    } else {
        args.urls
    };
    let token = match &args.token_file {
        Some(path) => {
            let token = secret_file::read("--token-file", path).await;
            Some(token.map_err(Failure::Configuration)?)
        }
        None => None,
    };
    let urls = StatusUrls::new(urls, token.as_ref()).map_err(Failure::Configuration)?;
    let is_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if args.once || !is_terminal {
        return print_once(&urls).await;
    }
    let palette = match AutoStream::choice(&std::io::stdout()) {
        ColorChoice::Never => Palette::Plain,
        _ => Palette::Colours,
    };
    let first = Overview::new(&urls.poll().await);
    // From here on a panic restores the terminal, too: a hook of ratatui does that.
    let mut terminal = ratatui::try_init()
        .context("failed to set up the terminal")
        .map_err(Failure::Unavailable)?;
    let ended = tokio::select! {
        ended = show(&mut terminal, urls, first, palette) => ended,
        () = shutdown.cancelled() => Ok(()),
    };
    ratatui::restore();
    ended
}

async fn print_once(urls: &StatusUrls) -> Result<(), Failure> {
    let polled = urls.poll().await;
    let mut lines = StdoutLines::new();
    for line in once::text(&Overview::new(&polled)) {
        lines.put(&line)?;
    }
    let silent = polled.iter().filter(|polled| polled.answer.is_err()).count();
    match silent {
        0 => Ok(()),
        n => Err(Failure::Unavailable(anyhow!("{n} of {} instances do not answer", polled.len()))),
    }
}

/// Draws after each key and each answer.
async fn show(
    terminal: &mut DefaultTerminal,
    urls: StatusUrls,
    first: Overview,
    palette: Palette,
) -> Result<(), Failure> {
    let (send, mut latest) = watch::channel(first);
    let polling = spawn_owned(async move {
        let mut tick = interval(REFRESH);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !send.is_closed() {
            tick.tick().await;
            send.send_replace(Overview::new(&urls.poll().await));
        }
    });
    let mut keys = EventStream::new();
    let mut state = ScreenState::default();
    let mut shown = latest.borrow_and_update().clone();
    let failed = |text: &'static str| move |error| Failure::Unavailable(anyhow!("{text}: {error}"));
    loop {
        let drawn = terminal.draw(|frame| view::draw(frame, &shown, &state, palette));
        drawn.map_err(failed("failed to write to the terminal"))?;
        tokio::select! {
            event = keys.next() => match event.transpose() {
                Ok(Some(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                    if state.press(key, &shown) == KeyAction::Quit {
                        return Ok(());
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(error) => return Err(failed("failed to read the terminal")(error)),
            },
            changed = latest.changed() => {
                if changed.is_err() {
                    let error = polling.await.err().map(anyhow::Error::new);
                    let error = error.unwrap_or_else(|| anyhow!("it ended early"));
                    return Err(Failure::Bug(error.context("the polling ended")));
                }
                let newest = latest.borrow_and_update();
                if !state.is_paused {
                    shown = newest.clone();
                }
            }
        }
    }
}
