//! Job definitions that were parsed before: bounded, and right whatever others write.

use std::sync::Arc;

use unified_scheduler_core::Timestamp;
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::job::Definition;

/// What the table of jobs says of one job, parsed.
#[derive(Debug)]
pub(crate) struct KnownJob {
    pub(crate) id: JobId,
    /// One that stands for it, where it can't be read.
    pub(crate) definition: Definition,
    /// Why it can't be read.
    pub(crate) unreadable: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) created_by: Option<String>,
}

/// A direct-mapped cache, by the job's number. An entry counts only for the version it was made from, which
/// every edit changes, and numbers are never given twice; so nothing needs to be invalidated.
/// Direct-mapped, because jobs made together are due together: neighbors never evict each other.
#[derive(Debug, Default)]
pub(crate) struct JobCache {
    slots: Vec<Option<Slot>>,
}

#[derive(Debug, Clone)]
struct Slot {
    n: i64,
    version: i64,
    job: Arc<KnownJob>,
}

impl JobCache {
    /// A cache of at most `size` jobs; 0 keeps none.
    pub(crate) fn new(size: usize) -> Self {
        Self { slots: vec![None; size] }
    }

    fn index(&self, n: i64) -> Option<usize> {
        usize::try_from(n).ok()?.checked_rem(self.slots.len())
    }

    pub(crate) fn get(&self, n: i64, version: i64) -> Option<Arc<KnownJob>> {
        let slot = self.slots[self.index(n)?].as_ref()?;
        (slot.n == n && slot.version == version).then(|| Arc::clone(&slot.job))
    }

    pub(crate) fn put(&mut self, n: i64, version: i64, job: &Arc<KnownJob>) {
        if let Some(index) = self.index(n) {
            self.slots[index] = Some(Slot { n, version, job: Arc::clone(job) });
        }
    }
}

#[cfg(test)]
mod tests {
    use unified_scheduler_core::job::JobDefinition;
    use unified_scheduler_core::schedule::Schedule;

    use super::*;

    #[test]
    fn an_entry_counts_only_for_its_number_and_version() {
        let job = Arc::new(KnownJob {
            id: "a".into(),
            definition: Definition::new("a".into(), JobDefinition::new("a", "h", Schedule::manual())),
            unreadable: None,
            created_at: Timestamp::EPOCH,
            created_by: None,
        });
        let mut cache = JobCache::new(2);
        cache.put(1, 1, &job);
        assert!(cache.get(1, 1).is_some());
        assert!(cache.get(1, 2).is_none() && cache.get(3, 1).is_none());
        cache.put(3, 1, &job);
        assert!(cache.get(1, 1).is_none(), "jobs 1 and 3 share a slot");
        JobCache::new(0).put(1, 1, &job);
    }
}
