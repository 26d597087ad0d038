//! Runs cases one by one, each on a store of its own; a panic or a hang ends that case alone.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use unified_scheduler_core::error::Result;

use crate::backend::Backend;
use crate::cases::cases;
use crate::ctx::Ctx;

/// How long one case may take before it counts as hanging.
const TOO_LONG: Duration = Duration::from_secs(120);

/// What a case does.
pub type CaseFuture<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// One sentence of the contract. It fails by an error or by a panic.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// `group::the_sentence`.
    pub name: &'static str,
    /// Runs it.
    pub run: for<'a> fn(&'a Ctx<'a>) -> CaseFuture<'a>,
}

/// A case that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Which.
    pub name: &'static str,
    /// The panic, the error, or what prevented it from running.
    pub reason: String,
}

/// How all cases came out.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Of which backend.
    pub backend: String,
    /// Those that passed.
    pub passed: Vec<&'static str>,
    /// Those that did not.
    pub failed: Vec<Failed>,
}

impl Report {
    /// # Panics
    ///
    /// When a case failed, or none ran; the message lists them.
    pub fn assert_passed(&self) {
        let list: Vec<String> = self.failed.iter().map(|f| format!("{}: {}", f.name, f.reason)).collect();
        let list = list.join("\n  ");
        let total = self.passed.len() + self.failed.len();
        assert!(
            self.failed.is_empty(),
            "{}: {} of {total} cases failed:\n  {list}",
            self.backend,
            self.failed.len()
        );
        assert!(total > 0, "{}: no case has the name that `CONFORMANCE` asks for", self.backend);
    }

    /// Whether this case failed.
    pub fn has_failed(&self, name: &str) -> bool {
        self.failed.iter().any(|failed| failed.name == name)
    }
}

/// Runs every case, or those that the environment variable `CONFORMANCE` chooses, and prints a line for each.
pub async fn run_all(backend: &dyn Backend) -> Report {
    let filter = std::env::var("CONFORMANCE").unwrap_or_default();
    let chosen: Vec<Case> = cases().into_iter().filter(|case| case.name.contains(&filter)).collect();
    run(backend, &chosen).await
}

/// Runs `cases` and prints a line for each.
pub async fn run(backend: &dyn Backend, cases: &[Case]) -> Report {
    let mut report = Report { backend: backend.name().to_owned(), ..Report::default() };
    for case in cases {
        let outcome = tokio::time::timeout(TOO_LONG, run_one(backend, *case)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(format!("no end after {} s", TOO_LONG.as_secs())));
        print(backend.name(), case.name, outcome.as_ref().err());
        match outcome {
            Ok(()) => report.passed.push(case.name),
            Err(reason) => report.failed.push(Failed { name: case.name, reason }),
        }
    }
    report
}

#[expect(clippy::print_stdout, reason = "the report of a test run")]
fn print(backend: &str, case: &str, failure: Option<&String>) {
    match failure {
        None => println!("{backend}: {case} ... ok"),
        Some(reason) => println!("{backend}: {case} ... FAILED: {reason}"),
    }
}

async fn run_one(backend: &dyn Backend, case: Case) -> Result<(), String> {
    let ctx = Ctx::new(backend).await.map_err(|error| format!("no fresh store: {error:?}"))?;
    let mut future = (case.run)(&ctx);
    // Whatever a panic leaves half done goes with the store of this case.
    let contained =
        std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(answer)) => Poll::Ready(answer.map_err(|error| format!("{error:?}"))),
            Err(panic) => Poll::Ready(Err(message(&*panic))),
        });
    contained.await
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked").to_owned()
}
