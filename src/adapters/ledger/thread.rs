//! A thread for a database that blocks: it never holds up the threads that everybody else works on,
//! and an order reaches it with one wake-up.

use std::future::Future;

use anyhow::Context as _;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::Work;

/// Run it in a thread of its own, which ends when it is done, or when the returned work is dropped.
pub(super) fn run(task: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<Work> {
    let (held, dropped) = oneshot::channel::<()>();
    let (finished, ended) = oneshot::channel();
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let thread = std::thread::Builder::new().name("ledger".into());
    let work = move || {
        runtime.block_on(async {
            tokio::select! {
                () = task => {}
                _ = dropped => {}
            }
        });
        // Nobody may be there to hear it.
        finished.send(()).unwrap_or_default();
    };
    thread.spawn(work).context("failed to start the ledger's thread")?;
    Ok(Box::pin(async move {
        let held = held;
        // A thread that panicked says so by dropping its end.
        if ended.await.is_err() {
            panic!("the ledger's thread panicked");
        }
        drop(held);
    }))
}
