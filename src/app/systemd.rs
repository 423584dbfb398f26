//! What the service reports to systemd (`Type=notify`, `WatchdogSec=`; sd_notify(3)): that it has
//! started or stops, what `/ready` says, and that it makes progress.
//!
//! The watchdog means progress: nothing is sent to it while `/health` fails, so that systemd restarts
//! a service that has stalled, and not only one whose threads hang.

use std::ffi::OsString;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often `systemctl status` gets a new sentence, and the watchdog its message, at least.
const INTERVAL: Duration = Duration::from_secs(5);

/// Where systemd wants messages, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SystemdNotify {
    socket: PathBuf,
    /// systemd ends a process whose last message to the watchdog is older than this.
    watchdog: Option<Duration>,
}

/// What `/health` and `/ready` say.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceState {
    /// What has stalled, if anything has.
    pub(crate) stalled: Option<String>,
    /// Why events cannot be answered, if they cannot.
    pub(crate) not_ready: Option<String>,
}

impl SystemdNotify {
    /// Reads the variables that systemd sets; `None` where it wants no messages.
    pub(crate) fn from_variables(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Option<Self> {
        let (mut socket, mut micros, mut for_pid) = (None, None, None);
        for (name, value) in variables {
            match name.to_str() {
                Some("NOTIFY_SOCKET") => socket = Some(PathBuf::from(value)),
                Some("WATCHDOG_USEC") => micros = value.to_str().and_then(|text| text.parse().ok()),
                Some("WATCHDOG_PID") => for_pid = value.into_string().ok(),
                _ => {}
            }
        }
        // The variables are inherited: the watchdog may be meant for the process that started us.
        let is_ours = for_pid.is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = micros.filter(|_| is_ours).map(Duration::from_micros);
        Some(Self { socket: socket?, watchdog: watchdog.filter(|time| !time.is_zero()) })
    }

    /// Reports until it is dropped. The service has started; it stops from `stopping` on.
    pub(super) async fn report(
        self,
        state: impl Fn() -> ServiceState,
        stopping: CancellationToken,
    ) {
        // A third: one message may be late without a restart.
        let period = self.watchdog.map_or(INTERVAL, |time| INTERVAL.min(time / 3));
        let mut ticks = interval(period.max(Duration::from_millis(1)));
        let (mut news, mut shown, mut failed) = ("READY=1\n", String::new(), false);
        let mut stop = StopMessage { notify: &self, is_sent: false };
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stopping.cancelled(), if !stop.is_sent => {}
            }
            if stopping.is_cancelled() && news.is_empty() && !stop.is_sent {
                news = STOPPING;
                stop.is_sent = true;
            }
            let state = state();
            let status = status(&state, &stopping);
            let mut message = std::mem::take(&mut news).to_owned();
            if status != shown {
                message += &format!("STATUS={status}\n");
                shown = status;
            }
            if self.watchdog.is_some() && state.stalled.is_none() {
                message += "WATCHDOG=1\n";
            }
            if message.is_empty() {
                continue;
            }
            if let Err(error) = self.send(&message) {
                if !failed {
                    warn!(%error, socket = %self.socket.display(), "cannot notify systemd");
                }
                failed = true;
            }
        }
    }

    /// Never waits: a message that does not fit into the queue is lost.
    fn send(&self, message: &str) -> std::io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to(message.as_bytes(), &self.socket).map(drop)
    }
}

const STOPPING: &str = "STOPPING=1\n";
const DRAINING: &str = "draining";

/// Says when it is dropped that the service stops, unless that was said. A stop without anything to drain
/// is over before anybody looks.
struct StopMessage<'n> {
    notify: &'n SystemdNotify,
    is_sent: bool,
}

impl Drop for StopMessage<'_> {
    fn drop(&mut self) {
        if !self.is_sent {
            // Nobody is left who could warn.
            drop(self.notify.send(&format!("{STOPPING}STATUS={DRAINING}\n")));
        }
    }
}

/// One line for `systemctl status`.
fn status(state: &ServiceState, stopping: &CancellationToken) -> String {
    let sentence = match state {
        _ if stopping.is_cancelled() => DRAINING.to_owned(),
        ServiceState { stalled: Some(problem), .. } => format!("stalled: {problem}"),
        ServiceState { not_ready: Some(problem), .. } => format!("not ready: {problem}"),
        _ => "ready: events can be answered".to_owned(),
    };
    sentence.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tokio::time::{advance, sleep};

    use super::*;
    use crate::task::spawn_owned;

    fn variables(list: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        list.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn systemd_says_where_and_how_often() {
        let read = |list: &[(&str, &str)]| SystemdNotify::from_variables(variables(list));
        assert_eq!(read(&[("WATCHDOG_USEC", "30000000")]), None);
        let socket = ("NOTIFY_SOCKET", "/run/systemd/notify");
        let watchdog = |list: &[(&str, &str)]| read(list).unwrap().watchdog;
        let pid = std::process::id().to_string();
        let half_a_minute = ("WATCHDOG_USEC", "30000000");
        assert_eq!(watchdog(&[socket]), None);
        assert_eq!(watchdog(&[socket, half_a_minute]), Some(Duration::from_secs(30)));
        assert_eq!(watchdog(&[socket, half_a_minute, ("WATCHDOG_PID", "1")]), None);
        let ours = watchdog(&[("WATCHDOG_PID", &pid), socket, half_a_minute]);
        assert_eq!(ours, Some(Duration::from_secs(30)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_hears_nothing_while_the_service_is_stalled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        systemd.set_nonblocking(true).unwrap();
        let received = || {
            let mut message = [0; 200];
            let length = systemd.recv(&mut message).ok()?;
            Some(String::from_utf8_lossy(&message[..length]).into_owned())
        };
        let state = Arc::new(Mutex::new(ServiceState::default()));
        let (seen, stopping) = (state.clone(), CancellationToken::new());
        let notify = SystemdNotify { socket: path, watchdog: Some(Duration::from_secs(6)) };
        let report = notify.report(move || seen.lock().clone(), stopping.clone());
        let _reporting = spawn_owned(report);
        let step = async || {
            advance(Duration::from_secs(2)).await;
            sleep(Duration::from_millis(1)).await;
        };

        sleep(Duration::from_millis(1)).await;
        let first = "READY=1\nSTATUS=ready: events can be answered\nWATCHDOG=1\n";
        assert_eq!(received().as_deref(), Some(first));
        step().await;
        assert_eq!(received().as_deref(), Some("WATCHDOG=1\n"));
        state.lock().not_ready = Some("no broker\nanswers".into());
        step().await;
        let news = "STATUS=not ready: no broker answers\nWATCHDOG=1\n";
        assert_eq!(received().as_deref(), Some(news), "a restart would not help");
        state.lock().stalled = Some("no poll".into());
        step().await;
        assert_eq!(received().as_deref(), Some("STATUS=stalled: no poll\n"));
        step().await;
        assert_eq!(received(), None, "systemd restarts it");
        state.lock().stalled = None;
        stopping.cancel();
        sleep(Duration::from_millis(1)).await;
        assert_eq!(received().as_deref(), Some("STOPPING=1\nSTATUS=draining\nWATCHDOG=1\n"));
        step().await;
        assert_eq!(received().as_deref(), Some("WATCHDOG=1\n"), "also during the drain");
    }

    #[tokio::test]
    async fn a_stop_that_is_over_at_once_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        let notify = SystemdNotify { socket: path, watchdog: None };
        let report = notify.report(ServiceState::default, CancellationToken::new());
        assert!(tokio::time::timeout(Duration::from_millis(50), report).await.is_err());
        for expected in ["READY=1\nSTATUS=ready: ", "STOPPING=1\nSTATUS=draining\n"] {
            let mut message = [0; 200];
            let length = systemd.recv(&mut message).unwrap();
            assert!(message[..length].starts_with(expected.as_bytes()), "{expected}");
        }
    }
}
