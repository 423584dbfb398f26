//! The ledger's part of `handoff check`: can it be opened, and would the service start on it?
//!
//! The check creates and changes nothing: the service creates a missing ledger at its first start.

use std::path::Path;

use super::report::Finding;
use crate::adapters::ledger::{LedgerReader, LedgerUrl, NO_TABLES};

const WHAT: &str = "ledger";

pub(super) async fn check(url: &LedgerUrl) -> Finding {
    if let LedgerUrl::Sqlite(file) = url
        && !file.exists()
    {
        return check_folder(file);
    }
    let error = match LedgerReader::open(url).await {
        Ok(_) => return Finding::ok(WHAT, format!("{url} opens and has the expected schema")),
        Err(error) => format!("{error:#}"),
    };
    if error.contains(NO_TABLES) && !error.contains("damaged") {
        let remedy = "nothing to do before the first start: the service creates the tables";
        return Finding::warn(WHAT, format!("{url} has no tables yet"), remedy);
    }
    let remedy =
        "repair it, or set another ledger.url: the service does not start without a ledger";
    Finding::fail(WHAT, error, remedy)
}

/// Whether the service could create the file.
fn check_folder(file: &Path) -> Finding {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    // Permissions, quotas and read-only mounts: only an attempt shows whether all of them allow it.
    let probe = folder.join(format!(".handoff-check-{}", std::process::id()));
    let created = std::fs::File::create_new(&probe).and_then(|_| std::fs::remove_file(&probe));
    match created {
        Ok(()) => Finding::ok(WHAT, format!("{} is created at the first start", file.display())),
        Err(error) => Finding::fail(
            WHAT,
            format!("nothing can be created in the folder {}: {error}", folder.display()),
            "give the service a folder that it may write to, and name it in ledger.url",
        ),
    }
}
