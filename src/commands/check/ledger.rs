//! The ledger, as `handoff check` tries it: is it there, and would the service start on it?
//!
//! This file never creates or changes a ledger: a missing one is made at the first start.

use std::path::Path;

use super::report::Finding;
use crate::adapters::ledger::{Place, Reader};

const WHAT: &str = "ledger";

/// Look at it.
pub(super) async fn check(place: &Place) -> Finding {
    if let Place::Sqlite(file) = place
        && !file.exists()
    {
        return absent(file);
    }
    let error = match Reader::open(place).await {
        Ok(_) => return Finding::ok(WHAT, format!("{place} opens, and has the form it must have")),
        Err(error) => format!("{error:#}"),
    };
    if error.contains("not one yet") && !error.contains("damaged") {
        let remedy = "nothing to do where this is the first start: it makes the tables";
        return Finding::warn(WHAT, format!("{place} has no tables yet"), remedy);
    }
    Finding::fail(WHAT, error, "see ledger.url in config/default.toml; nothing starts without it")
}

/// Made at the first start, where its folder lets us.
fn absent(file: &Path) -> Finding {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    match std::fs::metadata(folder) {
        Ok(found) if found.is_dir() && !found.permissions().readonly() => {
            Finding::ok(WHAT, format!("{} is made at the first start", file.display()))
        }
        Ok(_) => Finding::fail(
            WHAT,
            format!("{} is not a folder that can be written", folder.display()),
            "give the service a folder of its own, see ledger.url",
        ),
        Err(error) => Finding::fail(
            WHAT,
            format!("the folder {} of ledger.url: {error}", folder.display()),
            "make it, or name another one",
        ),
    }
}
