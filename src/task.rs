//! Spawning one task that somebody awaits; for several, use a [`tokio::task::JoinSet`].
//!
//! A task that nobody awaits hides its panic and outlives its owner, so `clippy.toml` forbids
//! `tokio::spawn` everywhere else.

use tokio_util::task::AbortOnDropHandle;

/// Spawn a task that ends with its handle. Await the handle to see the result, or the panic.
pub(crate) fn spawn_owned<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> AbortOnDropHandle<T> {
    #[expect(clippy::disallowed_methods, reason = "the handle owns the task")]
    AbortOnDropHandle::new(tokio::spawn(future))
}
