//! Nodes: joining, leases, leaving.

use std::time::Duration;

use unified_scheduler_core::id::{Epoch, NodeId};
use unified_scheduler_core::store::{
    HeartbeatOutcome, HeartbeatRequest, JoinRequest, Joined, Node, NodeInfo, NodeRef,
};
use unified_scheduler_core::{Error, Result, Timestamp};

use crate::answers::{self, Answer};
use crate::packed::Reader;
use crate::rows::{count, json, millis, time_or_none};
use crate::scripts;
use crate::store::Session;

/// How long a dead node is still shown.
const SHOWN_AFTER_DEATH: Duration = Duration::from_hours(24);

impl Session {
    pub(crate) async fn join(&self, request: JoinRequest) -> Result<Joined> {
        let mut call = self.link.call(&scripts::JOIN);
        call.arg(request.id.as_str())
            .arg(millis(request.ttl))
            .arg(json(Some(&request.info))?.unwrap_or_default());
        let mut answer = Answer::of(self.link.run(&call).await?)?;
        Ok(Joined { epoch: Epoch(answer.int()?), now: answer.time()? })
    }

    pub(crate) async fn heartbeat(&self, request: HeartbeatRequest) -> Result<HeartbeatOutcome> {
        let mut call = self.link.call(&scripts::HEARTBEAT);
        call.arg(request.node.id.as_str())
            .arg(request.node.epoch.0)
            .arg(millis(request.ttl))
            .arg(json(Some(&request.info))?.unwrap_or_default());
        let mut answer = Answer::of(self.link.run(&call).await?)?;
        if answer.int()? == 0 {
            return Ok(HeartbeatOutcome::Refused);
        }
        self.hints.beat();
        let now = answer.time()?;
        let mut cancel = Vec::new();
        for id in answer.list()? {
            cancel.push(answers::id(&answers::bytes(id).unwrap_or_default())?);
        }
        cancel.sort_unstable();
        let overdue = answer.bool();
        Ok(HeartbeatOutcome::Renewed { now, cancel, n_running: count(answer.int()?), overdue })
    }

    pub(crate) async fn leave(&self, node: &NodeRef) -> Result<()> {
        let mut call = self.link.call(&scripts::LEAVE);
        call.arg(node.id.as_str()).arg(node.epoch.0);
        self.link.run(&call).await?;
        Ok(())
    }

    pub(crate) async fn list_nodes(&self) -> Result<Vec<Node>> {
        let now = self.now().await?;
        let rows = answers::list(self.link.run(&self.link.call(&scripts::NODES)).await?)?;
        let mut nodes = Vec::new();
        for pair in rows.chunks(2) {
            let [id, row] = pair else { continue };
            let id = answers::text(id.clone())?;
            let row = answers::bytes(row.clone()).unwrap_or_default();
            match node(&id, &row) {
                Ok((node, died)) => {
                    if died.is_none_or(|died| now.since(died) <= SHOWN_AFTER_DEATH) {
                        nodes.push(node);
                    }
                }
                Err(error) => tracing::warn!(node = id, ?error, "could not read a node"),
            }
        }
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(nodes)
    }

    pub(crate) async fn now(&self) -> Result<Timestamp> {
        let answer = self.link.run(&self.link.call(&scripts::NOW)).await?;
        answers::int(&answer).map(Timestamp::from_millis)
    }
}

/// A node, and when it died.
fn node(id: &str, row: &[u8]) -> Result<(Node, Option<Timestamp>)> {
    Reader::new(row).record(6, |r| {
        let (epoch, died) = (Epoch(r.int()?), time_or_none(r)?);
        let node = Node {
            id: NodeId::from(id),
            epoch,
            dead: died.is_some(),
            joined_at: Timestamp::from_millis(r.int()?),
            seen_at: Timestamp::from_millis(r.int()?),
            lease_until: Timestamp::from_millis(r.int()?),
            info: serde_json::from_str::<NodeInfo>(r.text()?)
                .map_err(|e| Error::corrupt("what a node told of itself can't be read").caused_by(e))?,
        };
        Ok((node, died))
    })
}
