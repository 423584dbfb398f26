//! Tencent Cloud Desk over HTTP: sign, call, read the reply.
//!
//! The UserSig travels in the URL; so no URL, and no error that quotes one, leaves this file.
//! This file never judges a reply and never retries a call.

use std::error::Error as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};

use self::hosts::Hosts;
use self::signer::Signer;
use crate::clock::{Clock, Rng};
use crate::deliver;
use crate::domain::reply::{DeskAnswer, Reply};
use crate::domain::request::DeskCommand;
use crate::domain::usersig::Identity;

mod hosts;
mod signer;

/// What the client needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where Desk is, as `https://console.tim.qq.com`.
    pub endpoint: String,
    /// Where to go when that cannot be reached.
    pub backup_endpoint: Option<String>,
    /// Who signs.
    pub identity: Identity,
    /// What signs.
    pub key: KeySource,
    /// The time for a whole call.
    pub timeout: Duration,
    /// The time for a connection.
    pub connect_timeout: Duration,
    /// How long a signature is valid.
    pub signature_lifetime: Duration,
}

/// Where the secret key comes from.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// It was given.
    Given(SecretString),
    /// This file is read for each new signature; its trailing newline is not part of the key.
    File(PathBuf),
}

/// The client: cheap to call from many tasks at once.
pub struct Client {
    http: reqwest::Client,
    signer: Signer,
    hosts: Hosts,
    clock: Clock,
    rng: Rng,
}

/// A reply, and the time by Desk's clock.
#[derive(Debug)]
pub struct Response {
    /// What came back.
    pub reply: Reply,
    /// The `Date` header, where there is one.
    pub date: Option<Timestamp>,
}

/// A longer answer is none of Desk's.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

impl Client {
    /// A client that has not called anybody yet.
    pub fn new(settings: Settings, clock: Clock, rng: Rng) -> anyhow::Result<Self> {
        // Fails only where a provider is installed already, which then serves.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("handoff/", env!("CARGO_PKG_VERSION")))
            .timeout(settings.timeout)
            .connect_timeout(settings.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(60));
        if is_here(&settings.endpoint) {
            // A proxy of the environment leads out; this machine is not out there.
            http = http.no_proxy();
        }
        let http = http
            .build()
            .map_err(reqwest::Error::without_url)
            .context("failed to set up the HTTP client")?;
        let hosts = Hosts::new(&settings.endpoint, settings.backup_endpoint.as_deref())?;
        let signer = Signer::new(settings.identity, settings.key, settings.signature_lifetime);
        Ok(Self { http, signer, hosts, clock, rng })
    }

    /// Make one call and say what came back, with Desk's time.
    pub async fn respond(
        &self,
        command: DeskCommand,
        body: Vec<u8>,
        signature_after: Option<Timestamp>,
    ) -> Response {
        let (reply, date) = self.exchange(command, body, signature_after).await;
        let date = date.as_ref().and_then(|date| date.to_str().ok()).and_then(http_date);
        Response { reply, date }
    }

    /// The reply, and its `Date` header as it stands there.
    async fn exchange(
        &self,
        command: DeskCommand,
        body: Vec<u8>,
        signature_after: Option<Timestamp>,
    ) -> (Reply, Option<HeaderValue>) {
        let now = self.clock.now();
        let query = match self.signer.query(now, signature_after).await {
            Ok(query) => query,
            Err(error) => return (Reply::Unsigned(format!("{error:#}")), None),
        };
        let host = self.hosts.current(now);
        let mut url = self.hosts.url(host, command).clone();
        let random = self.rng.next_u32();
        url.set_query(Some(&format!("{}&random={random}", query.expose_secret())));
        let request = self.http.post(url).header(CONTENT_TYPE, "application/json").body(body);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                let reply = failed(error);
                self.hosts.reached(host, reply.was_sent(), now);
                return (reply, None);
            }
        };
        self.hosts.reached(host, true, now);
        let date = response.headers().get(DATE).cloned();
        (read(response, now).await, date)
    }
}

impl deliver::DeskApi for Client {
    async fn call(
        &self,
        command: DeskCommand,
        body: Vec<u8>,
        signature_after: Option<Timestamp>,
    ) -> Reply {
        self.exchange(command, body, signature_after).await.0
    }
}

/// The simulated Desk, as a rule: on this machine.
fn is_here(endpoint: &str) -> bool {
    let url = reqwest::Url::parse(endpoint).ok();
    url.as_ref().and_then(reqwest::Url::host_str).is_some_and(|host| {
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

async fn read(mut response: reqwest::Response, now: Timestamp) -> Reply {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers(), now);
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER_BYTES => {
                body.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => return Reply::Http { status, retry_after },
            Ok(None) => break,
            Err(error) => return failed(error),
        }
    }
    match DeskAnswer::parse(&body) {
        // A gateway's page that happens to say "0" is no success of Desk's.
        Some(answer) if status == 200 || answer.desk.code != 0 => Reply::Answer(answer),
        _ => Reply::Http { status, retry_after },
    }
}

/// What an error means for the call: it never left, or its answer was lost. Without any URL.
fn failed(error: reqwest::Error) -> Reply {
    let never_left = error.is_connect() || error.is_builder();
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    if never_left { Reply::NotSent(text) } else { Reply::Lost(text) }
}

fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            Some(Duration::try_from(http_date(value)?.duration_since(now)).unwrap_or_default())
        }
    }
}

fn http_date(value: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_called_without_a_proxy() {
        for here in ["http://127.0.0.1:8080", "http://localhost:8080", "https://[::1]"] {
            assert!(is_here(here), "{here}");
        }
        for there in ["https://console.tim.qq.com", "http://10.0.0.1", "http://localhost.example"] {
            assert!(!is_here(there), "{there}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let check = |value: &str, expected: Option<u64>| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            assert_eq!(retry_after(&headers, now), expected.map(Duration::from_secs), "{value}");
        };
        check("7", Some(7));
        check("Mon, 23 Nov 2026 10:00:30 GMT", Some(30));
        check("Mon, 23 Nov 2026 09:00:00 GMT", Some(0));
        check("soon", None);
    }
}
