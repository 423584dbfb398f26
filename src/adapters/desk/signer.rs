//! The signature of all calls: created once, renewed early, and renewed on demand.
//!
//! The key file is read for each new signature, so that a rotated key takes effect without a
//! restart. Key and signature are kept in `SecretString` and are never logged.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tracing::warn;

use super::KeySource;
use crate::adapters::secret_file;
use crate::domain::usersig::{self, Identity};
use crate::telemetry::RealGauge;
use crate::telemetry::metrics::seconds;

/// Maximum age of a signature before it is renewed.
const RENEW_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Time between two tries of an early renewal, during which the old signature is used.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Creates signatures and caches the current one.
pub(super) struct Signer {
    identity: Identity,
    key: KeySource,
    lifetime: Duration,
    // Held while a signature is created: one task signs, the others wait for the result.
    current: Mutex<Option<CachedSignature>>,
    /// Shows when the current one expires.
    expiry: RealGauge,
}

struct CachedSignature {
    created: Timestamp,
    query: SecretString,
    /// When the last early renewal failed.
    renewal_failed: Option<Timestamp>,
}

impl Signer {
    pub(super) fn new(identity: Identity, key: KeySource, lifetime: Duration) -> Self {
        let (current, expiry) = (Mutex::new(None), RealGauge::default());
        Self { identity, key, lifetime, current, expiry }
    }

    pub(super) fn set_expiry_gauge(&mut self, expiry: RealGauge) {
        self.expiry = expiry;
    }

    /// The signed part of the query, with a signature that was created after `after`, if given.
    pub(super) async fn query(
        &self,
        now: Timestamp,
        after: Option<Timestamp>,
    ) -> anyhow::Result<SecretString> {
        let mut current = self.current.lock().await;
        let renew_after = RENEW_AFTER.min(self.lifetime * 2 / 3);
        if let Some(cached) = &*current {
            let is_recent_enough = after.is_none_or(|after| cached.created > after);
            let since = |then: Timestamp| Duration::try_from(now.duration_since(then));
            let is_young = since(cached.created).is_ok_and(|age| age < renew_after);
            let failed = cached.renewal_failed.and_then(|then| since(then).ok());
            if is_recent_enough && (is_young || failed.is_some_and(|age| age < RETRY_AFTER)) {
                return Ok(cached.query.clone());
            }
        }
        match self.sign(now).await {
            Ok(query) => {
                self.expiry.set(seconds(now) + self.lifetime.as_secs_f64());
                *current = Some(CachedSignature {
                    created: now,
                    query: query.clone(),
                    renewal_failed: None,
                });
                Ok(query)
            }
            Err(error) => match (&mut *current, after) {
                // Renewal was early: the old signature is still valid.
                (Some(cached), None) => {
                    cached.renewal_failed = Some(now);
                    warn!(
                        error = format!("{error:#}"),
                        "cannot renew the signature yet, using the old one"
                    );
                    Ok(cached.query.clone())
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
        // The host is a placeholder: only the encoded query is used.
        let url = Url::parse_with_params("http://desk", pairs)?;
        Ok(url.query().unwrap_or_default().to_owned().into())
    }
}

impl KeySource {
    /// Reads the current key. Fails if the file cannot be read in time or is empty.
    pub async fn read(&self) -> anyhow::Result<SecretString> {
        match self {
            Self::Given(key) => Ok(key.clone()),
            Self::File(path) => secret_file::read("desk.secret_key_file", path).await,
        }
    }
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
    async fn a_signature_is_cached_and_renewed_early_or_on_demand_with_the_current_key() {
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
        assert_eq!(signer.expiry.get(), seconds(t0 + 5 * DAY));

        std::fs::remove_file(&path).unwrap();
        let old = signer.query(t0 + 4 * DAY, None).await.unwrap();
        assert_eq!(
            usersig(&old),
            usersig(&renewed),
            "after a failed early renewal the old one is used"
        );
        let error = signer.query(t0 + 4 * DAY, Some(t0 + 4 * DAY)).await.unwrap_err();
        assert!(format!("{error:#}").contains("desk.secret_key_file"), "{error:#}");
    }
}
