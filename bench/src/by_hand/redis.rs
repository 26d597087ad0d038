//! Redis: one variadic script claims a batch, one completes it.

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;

use super::ByHand;
use crate::Failure;
use crate::ground::Plot;

pub(super) struct Redis {
    link: MultiplexedConnection,
    prefix: String,
    claim: redis::Script,
    complete: redis::Script,
    done: usize,
}

impl Redis {
    pub(super) async fn connect(plot: &Plot) -> Result<Self, Failure> {
        let client = redis::Client::open(plot.server_url.as_str())?;
        Ok(Self {
            link: client.get_multiplexed_async_connection().await?,
            prefix: format!("{{us:{}}}:", plot.namespace),
            claim: redis::Script::new(include_str!("redis_claim.lua")),
            complete: redis::Script::new(include_str!("redis_complete.lua")),
            // Ids grow from a place of this client's own.
            done: usize::try_from(unified_scheduler_core::IdSource::new().random() >> 24)?,
        })
    }
}

#[async_trait]
impl ByHand for Redis {
    async fn batch(&mut self, now: i64, size: usize) -> Result<usize, Failure> {
        // As long as what the store writes.
        let (running, ended, last_run) = ([7_u8; 190], [7_u8; 290], [7_u8; 40]);
        let mut claim = self.claim.key(&self.prefix);
        claim.arg(now).arg(size).arg(self.done).arg(&running[..]);
        let jobs: Vec<Vec<u8>> = claim.invoke_async(&mut self.link).await?;
        if jobs.is_empty() {
            return Ok(0);
        }
        let mut complete = self.complete.key(&self.prefix);
        complete.arg(now).arg(self.done).arg(&ended[..]).arg(&last_run[..]).arg(&jobs);
        let n: usize = complete.invoke_async(&mut self.link).await?;
        self.done += n;
        Ok(n)
    }
}
