//! `handoff man`: the man pages, one for the program and one for each subcommand.

use anyhow::anyhow;
use clap::{Command, CommandFactory as _};

use super::{Cli, Failure, print};

/// Arguments of `handoff man`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ManArgs {
    /// A page, such as handoff-publish
    #[arg(value_name = "PAGE", default_value = "handoff")]
    page: String,

    /// Print the names of all pages instead
    #[arg(long, conflicts_with = "page")]
    list: bool,
}

const AFTER_HELP: &str = "\
Install all pages:
  for page in $(handoff man --list); do handoff man $page >/usr/local/share/man/man1/$page.1; done";

/// Prints a page, or the names of all.
pub(crate) fn run(args: &ManArgs) -> Result<(), Failure> {
    let mut pages = pages();
    let names: Vec<_> = pages.iter().map(|page| page_name(page).to_owned()).collect();
    if args.list {
        return print(format!("{}\n", names.join("\n")).as_bytes());
    }
    let Some(at) = names.iter().position(|name| *name == args.page) else {
        let (page, names) = (&args.page, names.join(", "));
        return Err(Failure::Usage(anyhow!("there is no page {page:?}; there are {names}")));
    };
    let mut out = Vec::new();
    clap_mangen::Man::new(pages.swap_remove(at))
        .source(concat!("handoff ", env!("CARGO_PKG_VERSION")))
        .render(&mut out)
        .map_err(|error| Failure::Bug(error.into()))?;
    print(&out)
}

fn pages() -> Vec<Command> {
    let mut program = Cli::command();
    // Gives the subcommands their full names and the global arguments.
    program.build();
    let mut pages = vec![];
    add_pages(program, &mut pages);
    pages
}

fn add_pages(command: Command, pages: &mut Vec<Command>) {
    let subcommands: Vec<_> = command.get_subcommands().cloned().collect();
    pages.push(command);
    subcommands.into_iter().for_each(|subcommand| add_pages(subcommand, pages));
}

/// `handoff-publish`.
fn page_name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_has_a_page_of_its_own() {
        let pages = pages();
        let names: Vec<_> = pages.iter().map(page_name).collect();
        let subcommands = Cli::command().get_subcommands().count();
        let nested = [
            "handoff-dead-letters-ls",
            "handoff-dead-letters-replay",
            "handoff-dead-letters-show",
            "handoff-events-give-up",
            "handoff-events-list",
            "handoff-events-retry",
            "handoff-events-show",
            "handoff-routes-test",
        ];
        assert_eq!(names.len(), 1 + subcommands + nested.len());
        assert!(names.starts_with(&["handoff", "handoff-run"]), "{names:?}");
        assert!(nested.iter().all(|name| names.contains(name)), "{names:?}");
    }
}
