//! Waiting until a server is ready.

use std::time::{Duration, Instant};

use crate::Failure;
use crate::keeper::Keeper;

/// How long a server may take to start: after a crash it has to recover.
const LONGEST: Duration = Duration::from_secs(40);

/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(15);

/// Asks until the answer is yes. Ends early when the server does.
pub(crate) fn wait_until(
    what: &str,
    keepers: &[Keeper],
    mut is_ready: impl FnMut() -> bool,
) -> Result<(), Failure> {
    let began = Instant::now();
    while !is_ready() {
        let ended = keepers.iter().find(|keeper| keeper.has_ended());
        if let Some(ended) = ended {
            return Err(Failure::new(format!("{what} has ended at its start:\n{}", ended.last_words())));
        }
        if began.elapsed() > LONGEST {
            let words = keepers.first().map(Keeper::last_words).unwrap_or_default();
            return Err(Failure::new(format!(
                "{what} was not ready after {} s:\n{words}",
                LONGEST.as_secs()
            )));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
