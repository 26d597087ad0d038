-- The first schema. `@` stands for the namespace's prefix. Instants are milliseconds since 1970, UTC.

CREATE TABLE @meta (
    key TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO @meta (key, value) VALUES ('changes', 0), ('epoch', 0), ('calendars', 0);

-- What somebody said a job is. AUTOINCREMENT, so that `n` names one job for ever: caches rely on it.
-- The columns beside `definition` repeat parts of it, for filters and for steps that must not parse it.
CREATE TABLE @jobs (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    origin TEXT NOT NULL,
    tags TEXT,
    definition TEXT NOT NULL,
    max_running INTEGER NOT NULL,
    max_age INTEGER,
    max_count INTEGER,
    created_at INTEGER NOT NULL,
    created_by TEXT
);
CREATE INDEX @jobs_name ON @jobs (name, id);
CREATE INDEX @jobs_created ON @jobs (created_at, id);
CREATE INDEX @jobs_history ON @jobs (n) WHERE max_age IS NOT NULL OR max_count IS NOT NULL;

-- What the scheduler knows about a job: narrow, since every claim and completion rewrites it.
CREATE TABLE @job_state (
    n INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,
    enabled INTEGER NOT NULL,
    handler TEXT NOT NULL,
    priority INTEGER NOT NULL,
    due_at INTEGER,
    fire_at INTEGER,
    ended TEXT,
    fault TEXT,
    skip_next INTEGER NOT NULL,
    n_fired INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    last_run_at INTEGER,
    last_status TEXT,
    last_execution BLOB
);
-- A lane is a handler and a priority: within one, what is due first comes first.
CREATE INDEX @job_state_lane ON @job_state (handler, priority, fire_at)
    WHERE enabled = 1 AND fault IS NULL AND fire_at IS NOT NULL;
CREATE INDEX @job_state_fault ON @job_state (n) WHERE fault IS NOT NULL;
CREATE INDEX @job_state_disabled ON @job_state (n) WHERE enabled = 0;

CREATE TABLE @executions (
    n INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    job_id TEXT NOT NULL,
    job_name TEXT NOT NULL,
    handler TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    made_by TEXT NOT NULL,
    triggered_by TEXT NOT NULL,
    due_at INTEGER NOT NULL,
    covers_until INTEGER,
    n_occurrences INTEGER NOT NULL,
    next_due_at INTEGER,
    version INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    retries INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    root_id BLOB, -- NULL for a first attempt
    nonce TEXT NOT NULL,
    parameters TEXT,
    priority INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    duration_ns INTEGER,
    node_id TEXT,
    epoch INTEGER NOT NULL,
    claim INTEGER NOT NULL,
    cancel_requested INTEGER NOT NULL,
    progress TEXT,
    result TEXT,
    error TEXT,
    idempotency_key TEXT
);
CREATE UNIQUE INDEX @executions_occurrence ON @executions (job_id, due_at, attempt, nonce);
CREATE INDEX @executions_job ON @executions (job_id, id);
CREATE INDEX @executions_open ON @executions (job_id, status, made_by, attempt)
    WHERE status IN ('pending', 'running');
CREATE INDEX @executions_pending ON @executions (handler, priority, run_at) WHERE status = 'pending';
CREATE INDEX @executions_running ON @executions (node_id, epoch) WHERE status = 'running';
CREATE INDEX @executions_ended ON @executions (ended_at) WHERE ended_at IS NOT NULL;
-- Success is what most executions are: it is found by walking the ids, and costs no entry here.
CREATE INDEX @executions_unusual ON @executions (status, id)
    WHERE status NOT IN ('pending', 'running', 'success');
CREATE INDEX @executions_root ON @executions (root_id) WHERE root_id IS NOT NULL;
CREATE UNIQUE INDEX @executions_key ON @executions (job_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE TABLE @logs (
    execution INTEGER NOT NULL, -- `n` of the execution
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    level TEXT NOT NULL,
    message TEXT NOT NULL,
    fields TEXT,
    PRIMARY KEY (execution, seq)
) WITHOUT ROWID;

CREATE TABLE @nodes (
    id TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,
    dead_at INTEGER,
    joined_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    info TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE @calendars (
    name TEXT PRIMARY KEY,
    definition TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE @audit (
    n INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    job_id TEXT NOT NULL,
    job_name TEXT NOT NULL,
    action TEXT NOT NULL,
    actor TEXT NOT NULL,
    version INTEGER NOT NULL,
    due_before INTEGER,
    due_after INTEGER,
    detail TEXT
);
CREATE INDEX @audit_job ON @audit (job_id, n);
CREATE INDEX @audit_at ON @audit (at);
