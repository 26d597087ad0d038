//! Panics contained: in a handler they are a failure of the execution, in a loop the end of the node.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use super::Engine;

/// What the future gives, or what it panicked with.
pub(crate) async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    std::future::poll_fn(move |cx| {
        match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    })
    .await
}

/// Runs a loop of the engine. One that panics ends the node, all of it and at once: half a node would
/// hold what it owns for ever, while another one can take it over as soon as the lease is over.
pub(crate) async fn supervised(engine: Arc<Engine>, name: &'static str, work: impl Future<Output = ()>) {
    if caught(work).await.is_err() {
        tracing::error!(name, "a loop of the engine panicked, which is a defect; this node ends");
        engine.stopping.cancel();
        engine.quiet.cancel();
        engine.ended.cancel();
    }
}
