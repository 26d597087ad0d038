//! The indexes: made where they are missing, never changed and never dropped.
//!
//! Nothing but the speed of some questions depends on them, with one exception: the unique one over
//! occurrences. When it can't be made, that is logged and shown by `diagnose`.

use bson::{Bson, Document, doc};

use crate::db::{Db, Names};
use crate::legacy::ours;

/// One index.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) keys: Document,
    unique: bool,
    partial: Option<Document>,
}

fn index(keys: Document) -> Index {
    Index { keys, unique: false, partial: None }
}

impl Index {
    fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    fn over(mut self, partial: Document) -> Self {
        self.partial = Some(partial);
        self
    }

    fn name(&self) -> String {
        let parts = self.keys.iter().map(|(key, value)| format!("{key}_{value}"));
        parts.collect::<Vec<_>>().join("_").replace("unified_scheduler.", "us.")
    }

    fn specification(&self) -> Document {
        let mut spec = doc! { "key": self.keys.clone(), "name": self.name() };
        if self.unique {
            spec.insert("unique", true);
        }
        if let Some(partial) = &self.partial {
            spec.insert("partialFilterExpression", partial.clone());
        }
        spec
    }
}

fn there(field: &str) -> Document {
    doc! { field: { "$exists": true } }
}

/// The indexes of each collection. The first ones of the existing backend's collections are those of its
/// own questions.
pub(crate) fn wanted(names: &Names) -> Vec<(String, Vec<Index>)> {
    let theirs = [index(doc! { "enabled": 1, "nextRunAt": 1 }), index(doc! { "template_type": 1 })];
    let jobs = || {
        vec![
            index(doc! { "name": 1, "_id": 1 }),
            index(doc! { "createdAt": 1, "_id": 1 }),
            index(doc! { "lastRunAt": 1, "_id": 1 }),
            index(doc! { ours!("due"): 1, "_id": 1 }),
            index(doc! { ours!("handler"): 1, ours!("priority"): -1, ours!("fire"): 1, ours!("share"): 1 })
                .over(there(ours!("fire"))),
            index(doc! { ours!("handler"): 1, ours!("fire"): 1 }).over(there(ours!("fire"))),
            index(doc! { ours!("v"): 1 }),
            index(doc! { ours!("enabled"): 1 }).over(doc! { "enabled": true, ours!("enabled"): false }),
            index(doc! { ours!("ops.token"): 1 }).over(there(ours!("ops.token"))),
            index(doc! { ours!("slots.p"): 1 }).over(there(ours!("slots.p"))),
            index(doc! { ours!("fault"): 1 }).over(there(ours!("fault"))),
            index(doc! { ours!("retains"): 1 }).over(there(ours!("retains"))),
        ]
    };
    let pending = || doc! { "status": "pending" };
    let executions = vec![
        index(doc! { "job_id": 1, "started_at": -1 }),
        index(doc! { "status": 1, "started_at": -1 }),
        index(doc! { "started_at": -1 }),
        index(doc! { "job_id": 1, "scheduled_for": 1, "attempt": 1, ours!("nonce"): 1 })
            .unique()
            .over(doc! { "scheduled_for": { "$exists": true }, ours!("nonce"): { "$exists": true } }),
        index(doc! { "job_id": 1, ours!("key"): 1 }).unique().over(there(ours!("key"))),
        index(doc! { ours!("handler"): 1, ours!("priority"): -1, ours!("run_at"): 1, "_id": 1 })
            .over(pending()),
        index(doc! { ours!("handler"): 1, ours!("run_at"): 1 }).over(pending()),
        index(doc! { "job_id": 1 }).over(pending()),
        index(doc! { ours!("epoch"): 1, ours!("cancel"): 1 }).over(doc! { "status": "running" }),
        index(doc! { "job_id": 1, "_id": -1 }),
        index(doc! { "status": 1, "_id": -1 }),
        index(doc! { ours!("root"): 1 }).over(there(ours!("root"))),
        index(doc! { ours!("after"): 1 }).over(there(ours!("after"))),
    ];
    vec![
        (names.jobs.clone(), theirs.into_iter().chain(jobs()).collect()),
        (names.statics.clone(), jobs()),
        (names.executions.clone(), executions),
        (
            names.audit.clone(),
            vec![index(doc! { "at": -1, "_id": -1 }), index(doc! { "job_id": 1, "at": -1, "_id": -1 })],
        ),
        (names.nodes.clone(), vec![index(doc! { "dead": 1, "died_at": 1 })]),
    ]
}

/// Makes what is missing. A failure is logged: everything works without, but for speed.
pub(crate) async fn make(db: &Db) {
    for (collection, indexes) in wanted(&db.names) {
        let list: Vec<Bson> = indexes.iter().map(|index| Bson::Document(index.specification())).collect();
        let command = doc! { "createIndexes": &collection, "indexes": list };
        if let Err(error) = db.database.run_command(command).await {
            tracing::warn!(%collection, %error, "indexes could not be made all at once; one by one");
            for index in indexes {
                let command = doc! { "createIndexes": &collection, "indexes": [index.specification()] };
                if let Err(error) = db.database.run_command(command).await {
                    tracing::error!(%collection, index = %index.keys, %error, "an index could not be made");
                }
            }
        }
    }
}
