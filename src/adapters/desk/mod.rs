//! The HTTP client of Tencent Cloud Desk: signs a call, sends it, reads the reply.
//!
//! The UserSig is a parameter of the URL. Therefore no URL, and no error that quotes one, leaves this
//! module. How a reply is classified is decided in [`crate::domain::verdict`]; calls are not retried
//! here.

use std::error::Error as _;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};

use self::connections::DeskConnections;
use self::hosts::{Hosts, Reachability};
use self::signer::Signer;
use crate::clock::{Clock, Rng};
use crate::deliver;
use crate::domain::reply::{DeskAnswer, Reply};
use crate::domain::request::DeskCommand;
use crate::domain::usersig::Identity;
use crate::telemetry::RealGauge;
use crate::telemetry::traces::{describe_failed_request, describe_request};

mod body;
mod connections;
mod hosts;
mod signer;

/// The settings of the client.
#[derive(Debug, Clone)]
pub struct DeskClientSettings {
    /// Base URL of Desk, such as `https://console.tim.qq.com`.
    pub endpoint: String,
    /// Base URL to use while the main one cannot be reached.
    pub backup_endpoint: Option<String>,
    /// The administrator account that calls are signed for.
    pub identity: Identity,
    /// The secret key of signatures.
    pub key: KeySource,
    /// Limit for a whole call.
    pub timeout: Duration,
    /// Limit for connecting.
    pub connect_timeout: Duration,
    /// How long a signature is valid.
    pub signature_lifetime: Duration,
}

/// Where the secret key comes from.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// The key itself, as configured.
    Given(SecretString),
    /// A file that is read for each new signature, without its trailing newline.
    File(PathBuf),
}

/// The client; shared by all tasks that call Desk.
pub(crate) struct DeskClient {
    connections: DeskConnections,
    signer: Signer,
    hosts: Hosts,
    clock: Clock,
    rng: Rng,
}

/// A reply and the time by Desk's clock.
#[derive(Debug)]
pub(crate) struct DatedReply {
    /// The reply.
    pub reply: Reply,
    /// The `Date` header, if there is one.
    pub date: Option<Timestamp>,
}

/// Desk's answers are much shorter; a longer body is an answer of something else.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

impl DeskClient {
    /// Creates the client. It connects at the first call.
    pub(crate) fn new(
        settings: DeskClientSettings,
        clock: Clock,
        rng: Rng,
    ) -> anyhow::Result<Self> {
        let connections = DeskConnections::new(&settings)?;
        let hosts = Hosts::new(&settings.endpoint, settings.backup_endpoint.as_deref())?;
        let signer = Signer::new(settings.identity, settings.key, settings.signature_lifetime);
        Ok(Self { connections, signer, hosts, clock, rng })
    }

    /// Shows in this gauge when the current signature expires.
    #[must_use]
    pub(crate) fn with_expiry_gauge(mut self, expiry: RealGauge) -> Self {
        self.signer.set_expiry_gauge(expiry);
        self
    }

    /// Makes one call. A signature made at or before `signature_after` is renewed first.
    pub(crate) async fn call_dated(
        &self,
        command: DeskCommand,
        body: Vec<u8>,
        signature_after: Option<Timestamp>,
    ) -> DatedReply {
        let (reply, date) = self.exchange(command, body, signature_after).await;
        let date = date.as_ref().and_then(|date| date.to_str().ok()).and_then(http_date);
        DatedReply { reply, date }
    }

    /// Returns the reply and its unparsed `Date` header.
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
        let http = self.connections.current();
        let request = http.client.post(url).header(CONTENT_TYPE, "application/json").body(body);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                describe_request(self.hosts.url(host, command), None);
                if error.is_timeout() && !error.is_connect() {
                    self.connections.distrust(&http);
                }
                let reply = failed_call(error);
                self.hosts.record(host, Reachability::of(&reply), now);
                return (reply, None);
            }
        };
        describe_request(self.hosts.url(host, command), Some(response.status().as_u16()));
        self.hosts.record(host, Reachability::Connected, now);
        let date = response.headers().get(DATE).cloned();
        let reply = read_reply(response, now).await;
        if !matches!(reply, Reply::Answer(_)) {
            self.connections.distrust(&http);
        }
        (reply, date)
    }
}

impl deliver::DeskApi for DeskClient {
    async fn call(
        &self,
        command: DeskCommand,
        body: Vec<u8>,
        signature_after: Option<Timestamp>,
    ) -> Reply {
        self.exchange(command, body, signature_after).await.0
    }
}

async fn read_reply(mut response: reqwest::Response, now: Timestamp) -> Reply {
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
            Err(error) => return failed_call(error),
        }
    }
    let body = body::content(response.headers(), body, MAX_ANSWER_BYTES);
    match DeskAnswer::parse(&body) {
        // A gateway's error page may contain an `ErrorCode` of 0; that is not a success.
        Some(answer) if status == 200 || answer.desk.code != 0 => Reply::Answer(answer),
        _ => Reply::Http { status, retry_after },
    }
}

/// Classifies a transport error: was the call sent? The text contains no URL.
fn failed_call(error: reqwest::Error) -> Reply {
    describe_failed_request(&error);
    let was_not_sent = error.is_connect() || error.is_builder();
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    if was_not_sent { Reply::NotSent(text) } else { Reply::Lost(text) }
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
