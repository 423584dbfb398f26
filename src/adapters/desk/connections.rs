//! The pool of connections to Desk, which is replaced when a call on it got no answer of Desk's.
//!
//! A connection goes on to the server that it was made to, for as long as it is in use. Once Desk's
//! name points elsewhere, the old server, or the balancer in front of it, may answer each call with an
//! error for ever.
//!
//! A firewall that has forgotten an idle connection drops in silence what is sent on it. Such a call
//! is in doubt after its time limit, and a pool may hold dozens of such connections: without a new
//! pool the state query and each repetition could meet the next one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::RwLock;
use tokio::time::Instant;
use tracing::error;

use super::DeskClientSettings;

/// Below the time after which firewalls and load balancers forget an idle connection.
const POOL_IDLE: Duration = Duration::from_secs(60);
/// The kernel asks an idle connection's other end this often, so that one whose other end is gone is
/// closed within some 20 s, before a call is sent on it.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// The current pool.
pub(super) struct DeskConnections {
    settings: PoolSettings,
    current: RwLock<Arc<Pool>>,
}

pub(super) struct Pool {
    pub(super) client: reqwest::Client,
    created: Instant,
}

struct PoolSettings {
    timeout: Duration,
    connect_timeout: Duration,
    /// A proxy in the environment cannot reach a server on this machine.
    is_loopback: bool,
}

impl DeskConnections {
    pub(super) fn new(settings: &DeskClientSettings) -> anyhow::Result<Self> {
        let settings = PoolSettings {
            timeout: settings.timeout,
            connect_timeout: settings.connect_timeout,
            is_loopback: is_loopback(&settings.endpoint),
        };
        let current = RwLock::new(Arc::new(settings.create()?));
        Ok(Self { settings, current })
    }

    pub(super) fn current(&self) -> Arc<Pool> {
        self.current.read().clone()
    }

    /// A call on this pool got no answer: the calls to come use a new one. Calls in flight go on. At
    /// most one pool per time limit of a call is created, so that errors do not cost a connection each.
    pub(super) fn distrust(&self, pool: &Arc<Pool>) {
        let is_new = pool.created.elapsed() < self.settings.timeout;
        if is_new || !Arc::ptr_eq(&self.current(), pool) {
            return;
        }
        match self.settings.create() {
            Ok(new) => {
                let mut current = self.current.write();
                // Another call may have replaced it meanwhile.
                if Arc::ptr_eq(&current, pool) {
                    *current = Arc::new(new);
                }
            }
            Err(error) => {
                error!(error = format!("{error:#}"), "failed to renew connections to Desk")
            }
        }
    }
}

impl PoolSettings {
    fn create(&self) -> anyhow::Result<Pool> {
        // Fails only if another provider is installed already, which is used then.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("handoff/", env!("CARGO_PKG_VERSION")))
            .timeout(self.timeout)
            .connect_timeout(self.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .tcp_keepalive(KEEPALIVE)
            .tcp_keepalive_interval(KEEPALIVE)
            .tcp_keepalive_retries(3)
            .pool_idle_timeout(POOL_IDLE);
        if self.is_loopback {
            http = http.no_proxy();
        }
        let client = http
            .build()
            .map_err(reqwest::Error::without_url)
            .context("failed to set up the HTTP client")?;
        Ok(Pool { client, created: Instant::now() })
    }
}

/// Whether the endpoint is on this machine, as the simulated Desk usually is.
fn is_loopback(endpoint: &str) -> bool {
    let url = reqwest::Url::parse(endpoint).ok();
    url.as_ref().and_then(reqwest::Url::host_str).is_some_and(|host| {
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_bypass_the_proxy() {
        for local in ["http://127.0.0.1:8080", "http://localhost:8080", "https://[::1]"] {
            assert!(is_loopback(local), "{local}");
        }
        for remote in ["https://console.tim.qq.com", "http://10.0.0.1", "http://localhost.example"]
        {
            assert!(!is_loopback(remote), "{remote}");
        }
    }
}
