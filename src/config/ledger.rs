//! Where the ledger is, and the password for it.

use std::path::PathBuf;

use secrecy::ExposeSecret as _;

use super::raw_config::RawConfig;
use crate::adapters::ledger::LedgerUrl;

/// The URL is read as a secret, because it may hold a password; the file's path, because some people
/// paste the password itself there.
pub(super) fn read(raw: &mut RawConfig) -> Option<LedgerUrl> {
    let (url_name, file_name) = ("ledger.url", "ledger.password_file");
    let (url, file) = (raw.secret(url_name), raw.secret(file_name));
    let place = url.as_ref().map(|url| format!(" {}", raw.place(url.origin, url_name)));
    let place = place.unwrap_or_default();
    let url = match url {
        Some(url) => LedgerUrl::parse(url.value.expose_secret()),
        // `secret` returns `None` both for an absent URL and for a rejected one.
        None if raw.has_problem(url_name) => return None,
        None => Err("is missing: sqlite://handoff.db, or postgres://...".into()),
    };
    let url = url
        .map_err(|text| raw.add_problem(url_name, format!("`{url_name}`{place} {text}")))
        .ok()?;
    let Some(file) = file else { return Some(url).filter(|_| !raw.has_problem(file_name)) };
    let url = url.with_password_file(PathBuf::from(file.value.expose_secret()));
    url.map_err(|text| raw.add_problem(file_name, format!("`{file_name}` {text}"))).ok()
}
