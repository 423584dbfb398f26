//! The connections of the port. One whose client has gone without a word, or reads nothing, is closed: it
//! would hold a place among the listeners of `/live` for a quarter of an hour, or for ever.

use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::{Listener, ListenerExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What is sent has to be taken by the client's system within this time. Each listener is sent
/// something every 15 s.
pub(super) const UNREAD_LIMIT: Duration = Duration::from_secs(30);
/// A connection on which nothing is sent is probed after this time.
#[cfg(target_os = "linux")]
const PROBE_AFTER: Duration = Duration::from_secs(60);

/// The listener, with bounds for each of its connections.
pub(super) fn bounded(
    listener: TcpListener,
    unread_limit: Duration,
) -> impl Listener<Io = TcpStream, Addr = SocketAddr> {
    listener.tap_io(move |connection| bound(connection, unread_limit))
}

/// Best effort: a connection that cannot be bounded is served all the same.
#[cfg(target_os = "linux")]
fn bound(connection: &TcpStream, unread_limit: Duration) {
    let socket = socket2::SockRef::from(connection);
    let probes = socket2::TcpKeepalive::new().with_time(PROBE_AFTER);
    let bounded = socket.set_tcp_user_timeout(Some(unread_limit));
    if let Err(error) = bounded.and_then(|()| socket.set_tcp_keepalive(&probes)) {
        tracing::debug!(%error, "a connection of the admin port has no time limits");
    }
}

/// Other systems have no such limit.
#[cfg(not(target_os = "linux"))]
fn bound(_: &TcpStream, _: Duration) {}
