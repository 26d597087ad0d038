//! Job definitions that were parsed before: bounded, and right whatever others write.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use unified_scheduler_core::id::JobId;
use unified_scheduler_core::job::Definition;

/// How many definitions are kept.
const SIZE: usize = 20_000;

/// Definitions by job. An entry counts only for the fingerprint of everything in the document that it was
/// made from, so nothing needs to be invalidated, not even when a stranger wrote.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    known: Mutex<HashMap<JobId, (i64, Definition)>>,
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, (i64, Definition)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: &JobId, print: i64) -> Option<Definition> {
        self.lock().get(id).filter(|(known, _)| *known == print).map(|(_, definition)| definition.clone())
    }

    pub(crate) fn put(&self, id: &JobId, print: i64, definition: &Definition) {
        let mut known = self.lock();
        if known.len() >= SIZE {
            known.clear();
        }
        known.insert(id.clone(), (print, definition.clone()));
    }
}
