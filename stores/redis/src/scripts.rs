//! The scripts, each one atomic step in the server.

use std::sync::LazyLock;

/// A script with its hash, by which the server knows it after the first call.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) code: String,
    pub(crate) hash: String,
}

impl Script {
    fn new(body: &str) -> Self {
        let code = format!("{}{body}", include_str!("scripts/prelude.lua"));
        let hash = redis::Script::new(&code).get_hash().to_owned();
        Self { code, hash }
    }
}

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {
        $(pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(include_str!(concat!("scripts/", $file, ".lua"))));)*
    };
}

scripts! {
    AUDIT = "audit";
    CALENDARS = "calendars";
    CANCEL = "cancel";
    COMMIT = "commit";
    COMPLETE = "complete";
    COUNTS = "counts";
    CREATE = "create";
    DELETE = "delete";
    DUE_PLACE = "due_place";
    EXECUTION = "execution";
    HEARTBEAT = "heartbeat";
    IMPORT = "import";
    INFO = "info";
    JOBS = "jobs";
    JOIN = "join";
    LEAVE = "leave";
    LIST_EXECUTIONS = "list_executions";
    LIST_JOBS = "list_jobs";
    LOGS = "logs";
    NODES = "nodes";
    NOW = "now";
    OPEN = "open";
    OWNED = "owned";
    PARK = "park";
    PRUNE_OLD = "prune_old";
    PRUNE_OWN = "prune_own";
    REAP = "reap";
    RELEASE = "release";
    REMOVE = "remove";
    REPORT = "report";
    RESERVE = "reserve";
    SET_ASIDE = "set_aside";
    TRIGGER = "trigger";
    UPDATE = "update";
}
