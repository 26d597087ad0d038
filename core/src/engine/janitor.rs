//! The janitor: removes ended executions that the retention no longer keeps, a little at a time.
//!
//! Every node has one; two at once do no harm.

use std::sync::Arc;

use super::Engine;
use crate::store::PruneRequest;

/// How many executions one call removes, at most: a bound on how long others wait for the store.
const BATCH: usize = 500;

/// Removes until the engine ends.
pub(crate) async fn run(engine: Arc<Engine>) {
    loop {
        // Nodes that started together must not come together.
        let every = engine.options.janitor_every;
        if !engine.sleep(every.mul_f64(0.5 + engine.ids.fraction())).await {
            return;
        }
        run_once(&engine).await;
    }
}

async fn run_once(engine: &Engine) {
    let request = PruneRequest { max_age: engine.options.retention, limit: BATCH };
    loop {
        match engine.call("prune", engine.store.prune(request)).await {
            Ok(n) if n >= BATCH as u64 && !engine.ended.is_cancelled() => tokio::task::yield_now().await,
            Ok(_) => return,
            Err(error) => {
                if !error.is_retryable() {
                    tracing::error!(%error, "old history can't be removed");
                }
                return;
            }
        }
    }
}
