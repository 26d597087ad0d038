//! `executions prune`: removes old history, a batch at a time.

use serde_json::json;
use unified_scheduler::store::PruneRequest;

use super::args::PruneArgs;
use crate::app::App;
use crate::exit::{Answer, Failure};
use crate::output::count;
use crate::output::progress::Progress;

/// Small enough that nobody waits long for the write lock.
const BATCH: usize = 1000;

pub(crate) async fn prune(app: &App, args: PruneArgs) -> Result<Answer, Failure> {
    let max_age = match args.older_than {
        Some(age) => Some(age),
        None => app.config.options()?.retention,
    };
    let store = app.store().await?;
    let mut progress = Progress::new("removing executions");
    let mut removed = 0;
    loop {
        let n = store.prune(PruneRequest { max_age, limit: BATCH }).await?;
        removed += n;
        progress.done(removed);
        if n < BATCH as u64 {
            break;
        }
    }
    drop(progress);
    if app.out.json {
        app.out.value(&json!({ "removed": removed }))?;
    } else {
        app.out.line(format_args!("{} removed", count(removed, "execution")))?;
    }
    Ok(Answer::Yes)
}
