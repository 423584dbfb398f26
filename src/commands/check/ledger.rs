//! The ledger, as `handoff check` tries it: is it there, and would the service start on it?
//!
//! This file never makes or changes a ledger: a missing one is made at the first start.

use std::path::Path;

use super::report::Finding;
use crate::adapters::ledger::{LedgerUrl, NOT_YET, Reader};

const WHAT: &str = "ledger";

/// Look at it.
pub(super) async fn check(place: &LedgerUrl) -> Finding {
    if let LedgerUrl::Sqlite(file) = place
        && !file.exists()
    {
        return absent(file);
    }
    let error = match Reader::open(place).await {
        Ok(_) => return Finding::ok(WHAT, format!("{place} opens, and has the form it must have")),
        Err(error) => format!("{error:#}"),
    };
    if error.contains(NOT_YET) && !error.contains("damaged") {
        let remedy = "nothing to do where this is the first start: it makes the tables";
        return Finding::warn(WHAT, format!("{place} has no tables yet"), remedy);
    }
    Finding::fail(WHAT, error, "see ledger.url in config/default.toml; nothing starts without it")
}

/// Made at the first start, where its folder lets us.
fn absent(file: &Path) -> Finding {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    // Only trying tells whether this user may write there; what is tried is taken away again.
    let trial = folder.join(format!(".handoff-check-{}", std::process::id()));
    let tried = std::fs::File::create_new(&trial).and_then(|_| std::fs::remove_file(&trial));
    match tried {
        Ok(()) => Finding::ok(WHAT, format!("{} is made at the first start", file.display())),
        Err(error) => Finding::fail(
            WHAT,
            format!("nothing can be made in the folder {}: {error}", folder.display()),
            "give the service a folder that it may write to, see ledger.url",
        ),
    }
}
