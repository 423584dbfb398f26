//! The signature that every call carries: made once, renewed early, made anew on demand.
//!
//! Only one task at a time makes one; the others wait for it. The key file is read for every
//! new signature, so that a rotated key acts without a restart.
//! This file never shows the key or the signature: both live in `SecretString`.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::warn;

use super::KeySource;
use crate::domain::usersig::{self, Identity};

/// A key file on a mount that hangs must not stop everything.
const READ_LIMIT: Duration = Duration::from_secs(5);
/// Signatures are renewed at the latest after so long.
const RENEW_AFTER: Duration = Duration::from_secs(24 * 3600);
/// After a failed early renewal the old one serves for so long before another try.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Makes and keeps the signature.
pub(super) struct Signer {
    identity: Identity,
    key: KeySource,
    lifetime: Duration,
    current: Mutex<Option<Signed>>,
}

struct Signed {
    made: Timestamp,
    query: SecretString,
    /// It could not be renewed then.
    failed: Option<Timestamp>,
}

impl Signer {
    pub(super) fn new(identity: Identity, key: KeySource, lifetime: Duration) -> Self {
        Self { identity, key, lifetime, current: Mutex::new(None) }
    }

    /// The signed part of the query; made after `after`, where that is given.
    pub(super) async fn query(
        &self,
        now: Timestamp,
        after: Option<Timestamp>,
    ) -> anyhow::Result<SecretString> {
        let mut current = self.current.lock().await;
        let renew_after = RENEW_AFTER.min(self.lifetime * 2 / 3);
        if let Some(signed) = &*current {
            let fresh_enough = after.is_none_or(|after| signed.made > after);
            let since = |then: Timestamp| Duration::try_from(now.duration_since(then));
            let is_young = since(signed.made).is_ok_and(|age| age < renew_after);
            let failed = signed.failed.and_then(|then| since(then).ok());
            if fresh_enough && (is_young || failed.is_some_and(|age| age < RETRY_AFTER)) {
                return Ok(signed.query.clone());
            }
        }
        match self.sign(now).await {
            Ok(query) => {
                *current = Some(Signed { made: now, query: query.clone(), failed: None });
                Ok(query)
            }
            Err(error) => match (&mut *current, after) {
                // Only early: the old one is still good.
                (Some(signed), None) => {
                    signed.failed = Some(now);
                    warn!("cannot renew the signature yet, going on with the old one: {error:#}");
                    Ok(signed.query.clone())
                }
                _ => Err(error),
            },
        }
    }

    async fn sign(&self, now: Timestamp) -> anyhow::Result<SecretString> {
        let key = self.key.read().await?;
        let signature =
            usersig::sign(&self.identity, &key, now.as_second(), self.lifetime.as_secs());
        let sdkappid = self.identity.sdkappid.to_string();
        let pairs = [
            ("sdkappid", sdkappid.as_str()),
            ("identifier", &self.identity.identifier),
            ("usersig", signature.expose_secret()),
            ("contenttype", "json"),
        ];
        // The host is a stand-in: only the encoded query is kept.
        let url = Url::parse_with_params("http://desk", pairs)?;
        Ok(url.query().unwrap_or_default().to_owned().into())
    }
}

impl KeySource {
    /// The key as it is now.
    pub async fn read(&self) -> anyhow::Result<SecretString> {
        match self {
            Self::Given(key) => Ok(key.clone()),
            Self::File(path) => {
                let reading = timeout(READ_LIMIT, tokio::fs::read_to_string(path));
                let text = reading.await.map_err(anyhow::Error::from).and_then(|t| Ok(t?));
                let text = text.with_context(|| format!("failed to read {}", shown(path)))?;
                let key = text.trim_end_matches(['\r', '\n']);
                anyhow::ensure!(!key.is_empty(), "{} is empty", shown(path));
                Ok(key.to_owned().into())
            }
        }
    }
}

/// The setting and its file; some paste the key itself there, and that is not shown.
fn shown(path: &Path) -> String {
    let name = path.display().to_string();
    let looks_like_a_key =
        name.len() >= 32 && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let name = if looks_like_a_key { "(its value looks like a key, not a file)" } else { &name };
    format!("desk.secret_key_file {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn usersig(query: &SecretString) -> String {
        let url = Url::parse(&format!("http://desk?{}", query.expose_secret())).unwrap();
        let pair = url.query_pairs().find(|(name, _)| name == "usersig").unwrap();
        pair.1.into_owned()
    }

    #[tokio::test]
    async fn kept_renewed_early_and_made_anew_on_demand_with_the_key_as_it_is_now() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "first\n").unwrap();
        let identity = Identity { sdkappid: 1, identifier: "admin user&co".into() };
        let signer = Signer::new(identity.clone(), KeySource::File(path.clone()), 3 * DAY);
        let t0: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let verify = |query: &SecretString, key: &str, at: Timestamp| {
            usersig::verify(&usersig(query), &identity, &key.to_owned().into(), at.as_second())
        };
        let first = signer.query(t0, None).await.unwrap();
        assert_eq!(verify(&first, "first", t0), Ok(()));
        std::fs::write(&path, "second").unwrap();
        let kept = signer.query(t0 + DAY / 2, None).await.unwrap();
        assert_eq!(usersig(&kept), usersig(&first));
        let on_demand = signer.query(t0 + DAY / 2, Some(t0)).await.unwrap();
        assert_eq!(verify(&on_demand, "second", t0 + DAY / 2), Ok(()));
        let renewed = signer.query(t0 + 2 * DAY, None).await.unwrap();
        assert_ne!(usersig(&renewed), usersig(&on_demand));

        std::fs::remove_file(&path).unwrap();
        let old = signer.query(t0 + 4 * DAY, None).await.unwrap();
        assert_eq!(usersig(&old), usersig(&renewed), "renewal was early, the old one serves");
        let error = signer.query(t0 + 4 * DAY, Some(t0 + 4 * DAY)).await.unwrap_err();
        assert!(format!("{error:#}").contains("desk.secret_key_file"), "{error:#}");
    }
}
