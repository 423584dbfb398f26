//! The recipes under `docs/recipes/`: the files that a page shows are written to a folder, and each
//! command of its console blocks is run there, and prints what the page says.
//!
//! A block of a file follows a line that ends with its name in backticks and a colon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PAGES: &str = "docs/recipes";

/// A block of code: what is before it, its language, its lines.
pub(crate) struct Block<'p> {
    before: &'p str,
    pub(crate) language: &'p str,
    pub(crate) text: String,
}

pub(crate) fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let (mut before, mut lines) = ("", page.lines());
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let inside = lines.by_ref().take_while(|line| *line != "```");
            let text = inside.flat_map(|line| [line, "\n"]).collect();
            blocks.push(Block { before, language, text });
            before = "";
        } else if !line.is_empty() {
            before = line;
        }
    }
    blocks
}

/// The file that a block is, by the line before it.
fn file_name<'p>(block: &Block<'p>) -> Option<&'p str> {
    let name = block.before.strip_suffix("`:")?.rsplit('`').next()?;
    name.contains('.').then_some(name)
}

/// Writes the files that a page shows.
pub(crate) fn write_files(page: &str, folder: &Path) {
    for block in blocks(page) {
        if let Some(name) = file_name(&block) {
            fs::write(folder.join(name), &block.text).unwrap();
        }
    }
}

/// The commands of a console block, each with what it prints.
fn commands(block: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), String::new())),
            (None, Some((_, expected))) => expected.push_str(&format!("{line}\n")),
            (None, None) => panic!("a console block begins with a command: {line}"),
        }
    }
    commands
}

fn run(command: &str, folder: &Path) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_handoff"));
    let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
    let mut shell = Command::new("sh");
    let Output { stdout, stderr, .. } = shell
        .args(["-c", command])
        .current_dir(folder)
        .env_clear()
        .env("PATH", path)
        .output()
        .expect("a shell");
    String::from_utf8([stdout, stderr].concat()).expect("text")
}

/// Runs the commands of a page; returns their number.
fn check(page: &Path) -> usize {
    let text = fs::read_to_string(page).unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_files(&text, folder.path());
    let mut count = 0;
    for block in blocks(&text) {
        if block.language != "console" {
            continue;
        }
        for (command, expected) in commands(&block.text) {
            let printed: Vec<_> = run(&command, folder.path())
                .lines()
                .map(|line| line.trim_end().to_owned())
                .collect();
            let expected: Vec<_> = expected.lines().map(str::trim_end).collect();
            let page = page.display();
            let joined = printed.join("\n");
            assert_eq!(printed, expected, "{page}: {command}\n{joined}\n");
            count += 1;
        }
    }
    count
}

#[test]
fn the_commands_of_each_recipe_print_what_the_page_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGES);
    let mut pages: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|page| page.unwrap().path()).collect();
    pages.sort();
    for page in &pages {
        let is_index = page.file_name().is_some_and(|name| name == "README.md");
        assert!(check(page) > 0 || is_index, "{}: no commands", page.display());
    }
    assert!(pages.len() > 3, "{pages:?}");
}
