//! The next page of due jobs, asked for while this one is being written.
//!
//! With more due than one page holds, the server would wait for this process between two claims, and this
//! process for the server. So behind the second half of a claim goes the first half of the next one. It only
//! looks: it starts nothing and holds nothing, and it says so where there is another node or something pending,
//! so that the claim asks properly. What it saw counts if nothing has moved when it is written, like any
//! plan of a node that is alone (see `scripts/reserve.lua`); otherwise the claim asks again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::Value;
use tokio::task::JoinHandle;
use unified_scheduler_core::Result;
use unified_scheduler_core::store::{ClaimRequest, NodeRef};

use crate::link::{Call, Link};

/// A look that is older counts no longer: what it took for the time would be.
const FRESH: Duration = Duration::from_millis(100);

/// What a look was for. A claim that differs in any of it asks for itself.
#[derive(PartialEq, Eq)]
pub(crate) struct Purpose {
    node: NodeRef,
    handlers: BTreeSet<String>,
    /// How many hints had come.
    hints: u64,
    /// The clock of a test.
    clock: Option<i64>,
}

impl Purpose {
    pub(crate) fn new(request: ClaimRequest<'_>, hints: u64, clock: Option<i64>) -> Self {
        Self { node: request.node.clone(), handlers: request.handlers.clone(), hints, clock }
    }
}

/// A look on its way.
struct Look {
    purpose: Purpose,
    asked: Instant,
    answer: JoinHandle<Result<Value>>,
}

/// The place for one look.
#[derive(Default)]
pub(crate) struct Ahead(Mutex<Option<Look>>);

impl Ahead {
    pub(crate) fn ask(&self, link: &Arc<Link>, call: Call, purpose: Purpose) {
        let link = Arc::clone(link);
        let answer = tokio::spawn(async move { link.run(&call).await });
        let look = Look { purpose, asked: Instant::now(), answer };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(look);
    }

    /// What was seen, if there was a look for just this.
    pub(crate) async fn take(&self, purpose: &Purpose) -> Option<Value> {
        let look = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        if look.purpose != *purpose || look.asked.elapsed() > FRESH {
            return None;
        }
        // One that failed is asked for again, and then the error is the claim's own.
        look.answer.await.ok()?.ok()
    }
}
