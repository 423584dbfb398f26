//! Who may ask for what.
//!
//! A page of another site can make a browser send requests to this port, under a name that it
//! resolves to this machine (DNS rebinding). So the name in `Host` must be one of ours. What is read
//! needs no token on a loopback address, and one everywhere else; what changes something always needs
//! one, in a header that no browser sends by itself. Probes and metrics are open.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::error;

use super::reply::AdminRefusal;
use super::{Admin, AdminSettings};
use crate::adapters::secret_file;

const TOKEN_FILE: &str = "admin.token_file";
const MAX_TOKEN_AGE: Duration = Duration::from_secs(1);

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The checks of this port.
#[derive(Debug)]
pub(super) struct Guard {
    address: IpAddr,
    hosts: Vec<String>,
    token_file: Option<PathBuf>,
    /// One read at a time, at most one per second: requests without the token must not be able to
    /// keep threads busy with a file system that hangs.
    token: Mutex<Option<(Instant, SecretString)>>,
}

impl Guard {
    pub(super) fn new(address: SocketAddr, settings: &AdminSettings) -> Self {
        let hosts = settings.hosts.iter().map(|host| host.to_lowercase()).collect();
        Self {
            address: address.ip(),
            hosts,
            token_file: settings.token_file.clone(),
            token: Mutex::default(),
        }
    }

    /// Whether what is read needs the token.
    pub(super) fn reading_needs_token(&self) -> bool {
        !self.address.is_loopback()
    }

    /// Whether there is a token.
    pub(super) fn has_token(&self) -> bool {
        self.token_file.is_some()
    }

    /// Whether this name, without a port, is one of ours. An address cannot be rebound.
    fn is_ours(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_lowercase();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let is_address = address.is_ok_and(|address| {
            address == self.address || address.is_loopback() || self.address.is_unspecified()
        });
        is_address || host == "localhost" || self.hosts.contains(&host)
    }

    /// Whether the request has the token.
    pub(super) async fn check_token(&self, headers: &HeaderMap) -> Result<(), AdminRefusal> {
        let Some(file) = &self.token_file else { return Err(no_token_file()) };
        let token = self.token_of(file).await.map_err(|error| {
            error!(error = format!("{error:#}"), "admin token cannot be read");
            let text = "the token of this port cannot be read; the log says why";
            AdminRefusal::new(StatusCode::SERVICE_UNAVAILABLE, text)
        })?;
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split_once(' '));
        let is_right = given.is_some_and(|(scheme, given)| {
            scheme.eq_ignore_ascii_case("bearer") && is_equal(given.trim(), token.expose_secret())
        });
        if is_right { Ok(()) } else { Err(unauthorized()) }
    }
}

impl Guard {
    async fn token_of(&self, file: &Path) -> anyhow::Result<SecretString> {
        let mut last = self.token.lock().await;
        if let Some((_, token)) = last.as_ref().filter(|(at, _)| at.elapsed() < MAX_TOKEN_AGE) {
            return Ok(token.clone());
        }
        *last = None;
        let token = secret_file::read(TOKEN_FILE, file).await?;
        Ok(last.insert((Instant::now(), token)).1.clone())
    }
}

/// In the same time wherever the two differ: what is compared is the hash of each.
fn is_equal(given: &str, expected: &str) -> bool {
    let hash = |text: &str| Sha256::digest(text.as_bytes());
    let pairs = hash(given).into_iter().zip(hash(expected));
    pairs.fold(0, |difference, (one, other)| difference | (one ^ other)) == 0
}

fn unauthorized() -> AdminRefusal {
    let text = "this needs the token of `admin.token_file`: Authorization: Bearer TOKEN";
    AdminRefusal::new(StatusCode::UNAUTHORIZED, text)
        .with_header(header::WWW_AUTHENTICATE, "Bearer")
}

fn no_token_file() -> AdminRefusal {
    let text = "set `admin.token_file`: without it this port accepts no actions, and shows nothing \
                but /health, /ready and /metrics where `admin.listen` is not a loopback address";
    AdminRefusal::new(StatusCode::FORBIDDEN, text)
}

/// The host must be one of ours.
pub(super) async fn require_host(
    State(admin): State<Admin>,
    request: Request,
    next: Next,
) -> Response {
    let host = host_of(request.headers(), request.uri());
    if host.as_deref().is_some_and(|host| admin.guard.is_ours(host)) {
        return next.run(request).await;
    }
    let text = "this port is not known by the name of the request: add it to `admin.hosts`";
    AdminRefusal::new(StatusCode::FORBIDDEN, text).into_response()
}

/// The name in the request, without its port.
fn host_of(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let mut named = headers.get_all(header::HOST).iter();
    let host = named.next().and_then(|host| host.to_str().ok()).or_else(|| uri.host())?;
    // Two of them: somebody wants this port and a proxy to see different ones.
    if named.next().is_some() {
        return None;
    }
    let authority = host.parse::<axum::http::uri::Authority>().ok()?;
    if host.contains('@') {
        return None;
    }
    Some(authority.host().to_owned())
}

/// What is read needs the token, unless only this machine can ask.
pub(super) async fn require_reader(
    State(admin): State<Admin>,
    request: Request,
    next: Next,
) -> Response {
    if admin.guard.reading_needs_token()
        && let Err(refusal) = admin.guard.check_token(request.headers()).await
    {
        return refusal.into_response();
    }
    next.run(request).await
}

/// Adds the headers by which browsers restrict every answer.
pub(super) async fn add_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let pairs = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in pairs {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(listen: &str, hosts: &[&str]) -> Guard {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        let settings = AdminSettings { hosts, ..AdminSettings::default() };
        Guard::new(listen.parse().unwrap(), &settings)
    }

    #[test]
    fn only_our_own_names_are_served() {
        let loopback = guard("127.0.0.1:9464", &["Handoff.example.com"]);
        for host in ["localhost", "LOCALHOST.", "127.0.0.1", "[::1]", "handoff.example.com"] {
            assert!(loopback.is_ours(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "10.0.0.5", "", "127.0.0.1.nip.io"] {
            assert!(!loopback.is_ours(host), "{host}");
        }
        let anywhere = guard("0.0.0.0:9464", &[]);
        assert!(anywhere.is_ours("10.0.0.5"), "nobody can rebind an address");
        assert!(!anywhere.is_ours("handoff.example.com"));
        assert!(guard("10.0.0.5:9464", &[]).is_ours("10.0.0.5"));
    }

    #[test]
    fn the_name_is_taken_from_the_request_without_its_port() {
        let host = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::HOST, value.parse().unwrap());
            }
            host_of(&headers, &Uri::from_static("/status"))
        };
        assert_eq!(host(&["localhost:9464"]).as_deref(), Some("localhost"));
        assert_eq!(host(&["[::1]:9464"]).as_deref(), Some("[::1]"));
        assert_eq!(host(&["evil.example@localhost"]), None);
        assert_eq!(host(&["localhost", "evil.example"]), None);
        assert_eq!(host(&[]), None);
        assert_eq!(host(&["a b"]), None);
    }

    #[test]
    fn a_token_is_compared_as_a_whole() {
        assert!(is_equal("abc", "abc"));
        for wrong in ["", "ab", "abcd", "abx"] {
            assert!(!is_equal(wrong, "abc"), "{wrong}");
        }
    }

    #[test]
    fn reading_is_free_for_this_machine_only() {
        assert!(!guard("127.0.0.1:1", &[]).reading_needs_token());
        assert!(!guard("[::1]:1", &[]).reading_needs_token());
        assert!(guard("0.0.0.0:1", &[]).reading_needs_token());
        assert!(guard("192.168.0.7:1", &[]).reading_needs_token());
    }
}
