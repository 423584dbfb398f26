//! Asks the instances for `/status`, all at once.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures_util::future::join_all;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};

use super::overview::AskedInstance;
use super::status::parse_status;
use crate::commands::admin_address::on_this_host;

/// The limit for the whole answer of an instance.
const LIMIT: Duration = Duration::from_secs(3);

/// The instances, and the client that asks them.
pub(super) struct StatusUrls {
    client: reqwest::Client,
    urls: Vec<Url>,
}

impl StatusUrls {
    /// `token`: for instances that listen elsewhere than on a loopback address.
    pub(super) fn new(urls: Vec<Url>, token: Option<&SecretString>) -> anyhow::Result<Self> {
        // Fails if it was installed before, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let value = format!("Bearer {}", token.expose_secret());
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| anyhow!("the token has characters that no HTTP header may have"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = reqwest::Client::builder()
            .timeout(LIMIT)
            .default_headers(headers)
            // The token must not follow a redirect to somewhere else.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("failed to create the HTTP client")?;
        Ok(Self { client, urls })
    }

    /// What each of them says, in their order.
    pub(super) async fn poll(&self) -> Vec<AskedInstance> {
        join_all(self.urls.iter().map(|url| self.ask(url))).await
    }

    async fn ask(&self, url: &Url) -> AskedInstance {
        let answer = async {
            let sent = self.client.get(status_url(url)).send().await.map_err(in_words)?;
            let status = sent.status();
            if status == StatusCode::UNAUTHORIZED {
                let text = "it wants the token of its admin.token_file, see --token-file";
                return Err(text.to_owned());
            }
            if !status.is_success() {
                return Err(format!("HTTP {}", status.as_u16()));
            }
            parse_status(&sent.bytes().await.map_err(in_words)?)
        };
        AskedInstance { url: url.to_string(), answer: answer.await }
    }
}

/// The admin port may be behind a path prefix.
fn status_url(url: &Url) -> Url {
    let mut url = url.clone();
    let path = format!("{}/status", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

fn in_words(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer for {} s", LIMIT.as_secs());
    }
    // The innermost cause says what happened; those around it repeat the address.
    let error = anyhow::Error::new(error.without_url());
    error.root_cause().to_string()
}

/// Parses an address: `http://host:port/prefix`, or only `host:port`.
pub(super) fn parse_url(text: &str) -> Result<Url, String> {
    let wrong = || "it must be an address as http://host:9464/".to_owned();
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url: Url = text.parse().map_err(|_| wrong())?;
    let is_http = ["http", "https"].contains(&url.scheme());
    if is_http && url.has_host() { Ok(url) } else { Err(wrong()) }
}

/// The admin port of the service that runs with this configuration, on this host.
pub(super) fn default_url(listen: Option<SocketAddr>) -> anyhow::Result<Url> {
    let listen = listen.ok_or_else(|| anyhow!("admin.listen is empty: give an address"))?;
    let url = format!("http://{}/", on_this_host(listen));
    url.parse().context("admin.listen is no address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_lack_scheme_and_path() {
        let check = |text: &str, expected: &str| {
            let url = parse_url(text).map(|url| status_url(&url).to_string());
            assert_eq!(url.as_deref(), Ok(expected), "{text}");
        };
        check("127.0.0.1:9464", "http://127.0.0.1:9464/status");
        check("http://w-1:9464/", "http://w-1:9464/status");
        check("https://ops.example.com/handoff/", "https://ops.example.com/handoff/status");
        for wrong in ["", "ftp://a", "http://"] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
        let listen = "0.0.0.0:9464".parse().ok();
        assert_eq!(default_url(listen).unwrap().as_str(), "http://127.0.0.1:9464/");
        assert!(default_url(None).is_err());
    }
}
