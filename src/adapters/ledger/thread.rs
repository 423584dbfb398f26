//! A thread for a database that blocks: it delays none of the threads that run everything else, and
//! a command reaches it with a single wake-up.

use std::future::Future;
use std::pin::Pin;

use anyhow::Context as _;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// Runs the ledger's writer; ends when every clone of the ledger is dropped.
pub type LedgerTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs the task in a thread of its own. The thread ends with the task, or when the returned future
/// is dropped.
pub(super) fn run(task: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<LedgerTask> {
    let (alive, dropped) = oneshot::channel::<()>();
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
        // The receiver is gone where the returned future was dropped.
        finished.send(()).unwrap_or_default();
    };
    thread.spawn(work).context("failed to start the ledger's thread")?;
    Ok(Box::pin(async move {
        let alive = alive;
        // A thread that panicked has dropped its sender.
        if ended.await.is_err() {
            panic!("the ledger's thread panicked");
        }
        drop(alive);
    }))
}
