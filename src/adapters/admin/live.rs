//! `GET /live`: the document of `/status` as server-sent events, whenever it has changed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Admin;
use super::reply::AdminRefusal;
use super::snapshot::Snapshots;

/// Listeners at once: each holds a connection.
const MAX_LISTENERS: usize = 32;
/// From one look for a change to the next.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Proxies close connections on which nothing is sent, mostly after a minute.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The places for listeners.
#[derive(Debug, Clone)]
pub(super) struct Listeners(Arc<Semaphore>);

impl Default for Listeners {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_LISTENERS)))
    }
}

/// One listener.
struct Listener {
    snapshots: Arc<Snapshots>,
    /// The id of the document that it has.
    seen: Option<String>,
    interval: Interval,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
}

/// `GET /live`.
pub(super) async fn live(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let Ok(place) = admin.listeners.0.clone().try_acquire_owned() else {
        let text = "too many listeners: try again later, or ask for /status";
        let refusal = AdminRefusal::new(StatusCode::SERVICE_UNAVAILABLE, text);
        return refusal.with_header(header::RETRY_AFTER, "5").into_response();
    };
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let mut interval = interval(LOOK_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (snapshots, stop) = (admin.snapshots.clone(), admin.stop.clone());
    let listener = Listener { snapshots, seen, interval, stop, _place: place };
    let events = stream::unfold(listener, |mut listener| async {
        let event = listener.next().await?;
        Some((Ok::<_, Infallible>(event), listener))
    });
    let heartbeat = KeepAlive::new().interval(HEARTBEAT);
    Sse::new(events).keep_alive(heartbeat).into_response()
}

impl Listener {
    /// The next document that differs; `None` when the service stops.
    async fn next(&mut self) -> Option<Event> {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return None,
                _ = self.interval.tick() => {}
            }
            let snapshot = self.snapshots.current().await;
            let id = snapshot.id();
            if self.seen.as_ref() != Some(&id) {
                let event = Event::default().event("status").id(&id).data(snapshot.json());
                self.seen = Some(id);
                return Some(event);
            }
        }
    }
}
