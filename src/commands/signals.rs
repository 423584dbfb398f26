//! SIGTERM and SIGINT: the first drains, a second one stops at once.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Failure;

/// A signal this soon after the first is the same request: supervisors and terminals signal the
/// process and its group, so one stop can arrive twice.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// Runs `work` to its end. The first SIGTERM or SIGINT cancels `shutdown`, so that the work drains;
/// a second one, at least [`SAME_REQUEST`] later, drops the work.
pub(super) async fn run_until_signal(
    work: impl Future<Output = Result<(), Failure>>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::Bug(error.into()));
    let mut term = listen(SignalKind::terminate())?;
    let mut int = listen(SignalKind::interrupt())?;
    run_until(work, shutdown, async || received(&mut term, &mut int).await).await
}

async fn received(term: &mut Signal, int: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

async fn run_until(
    work: impl Future<Output = Result<(), Failure>>,
    shutdown: CancellationToken,
    mut next_signal: impl AsyncFnMut(),
) -> Result<(), Failure> {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = next_signal() => {}
    }
    let first = Instant::now();
    tracing::info!("draining; a second signal stops without draining");
    shutdown.cancel();
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = next_signal() => {
                if first.elapsed() >= SAME_REQUEST {
                    return Err(Failure::Interrupted);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    /// Runs a drain of three seconds with signals at these times, in milliseconds.
    async fn drain_with_signals_at(times: &[u64]) -> Result<(), Failure> {
        let start = Instant::now();
        let mut times = times.iter();
        let next_signal = async || match times.next() {
            Some(ms) => tokio::time::sleep_until(start + Duration::from_millis(*ms)).await,
            None => std::future::pending().await,
        };
        let shutdown = CancellationToken::new();
        let work = async {
            shutdown.cancelled().await;
            sleep(Duration::from_secs(3)).await;
            Ok(())
        };
        run_until(work, shutdown.clone(), next_signal).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_within_a_second_is_the_same_request() {
        assert!(matches!(drain_with_signals_at(&[10]).await, Ok(())));
        assert!(matches!(drain_with_signals_at(&[10, 11, 900]).await, Ok(())));
        let interrupted = drain_with_signals_at(&[10, 11, 1_500]).await;
        assert!(matches!(interrupted, Err(Failure::Interrupted)), "{interrupted:?}");
    }
}
