-- The first schema. `@` stands for the namespace's schema. Instants are milliseconds since 1970, UTC.
-- Documents are text and not jsonb, which refuses the character U+0000 and forgets the order of keys.
-- Ids, names and handlers compare byte by byte, whatever the locale of the database.

CREATE TABLE @meta (
    key text PRIMARY KEY,
    value bigint NOT NULL
);
INSERT INTO @meta (key, value) VALUES ('epoch', 0), ('calendars', 0);

-- What somebody said a job is. `n` is never given twice, which caches rely on.
-- The columns beside `definition` repeat parts of it, for filters and for steps that must not parse it.
CREATE TABLE @jobs (
    id text COLLATE "C" PRIMARY KEY,
    n bigint GENERATED ALWAYS AS IDENTITY,
    name text COLLATE "C" NOT NULL,
    description text NOT NULL,
    origin text NOT NULL,
    tags text[] NOT NULL,
    definition text NOT NULL,
    max_age bigint,
    max_count bigint,
    created_at bigint NOT NULL,
    created_by text
);
CREATE INDEX jobs_name ON @jobs (name, id);
CREATE INDEX jobs_created ON @jobs (created_at, id);
CREATE INDEX jobs_history ON @jobs (id) WHERE max_age IS NOT NULL OR max_count IS NOT NULL;

-- What the scheduler knows about a job: narrow, since every claim and completion rewrites it.
CREATE TABLE @job_state (
    id text COLLATE "C" PRIMARY KEY,
    n bigint NOT NULL,
    version bigint NOT NULL,
    enabled boolean NOT NULL,
    handler text COLLATE "C" NOT NULL,
    priority integer NOT NULL,
    max_running bigint NOT NULL,
    due_at bigint,
    fire_at bigint,
    ended text,
    fault text,
    skip_next bigint NOT NULL,
    n_fired bigint NOT NULL,
    failures bigint NOT NULL,
    updated_at bigint NOT NULL,
    last_run_at bigint,
    last_status text,
    last_execution uuid
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05
);
-- A lane is a handler and a priority: within one, what is due first comes first. The only index that a
-- claim changes.
CREATE INDEX job_state_lane ON @job_state (handler, priority, fire_at)
    WHERE enabled AND fault IS NULL AND fire_at IS NOT NULL;
CREATE INDEX job_state_fault ON @job_state (id) WHERE fault IS NOT NULL;
CREATE INDEX job_state_disabled ON @job_state (id) WHERE NOT enabled;

CREATE TABLE @executions (
    id uuid PRIMARY KEY,
    job_id text COLLATE "C" NOT NULL,
    job_name text NOT NULL,
    handler text COLLATE "C" NOT NULL,
    status text NOT NULL,
    reason text,
    made_by text NOT NULL,
    triggered_by text NOT NULL,
    due_at bigint NOT NULL,
    covers_until bigint,
    n_occurrences bigint NOT NULL,
    next_due_at bigint,
    version bigint NOT NULL,
    attempt bigint NOT NULL,
    retries bigint NOT NULL,
    crashes bigint NOT NULL,
    root_id uuid, -- NULL for a first attempt
    nonce text COLLATE "C" NOT NULL,
    parameters text,
    priority integer NOT NULL,
    created_at bigint NOT NULL,
    run_at bigint NOT NULL,
    started_at bigint,
    ended_at bigint,
    duration_ns bigint,
    node_id text COLLATE "C",
    epoch bigint NOT NULL,
    claim bigint NOT NULL,
    cancel_requested boolean NOT NULL,
    progress text,
    result text,
    error text,
    idempotency_key text COLLATE "C"
) WITH (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);
CREATE UNIQUE INDEX executions_occurrence ON @executions (job_id, due_at, attempt, nonce);
CREATE INDEX executions_job ON @executions (job_id, id);
-- Open is what has not ended. The condition is not on the status, so that no query for what is pending, or for what
-- is running, takes this index for its own.
CREATE INDEX executions_open ON @executions (job_id) WHERE ended_at IS NULL;
CREATE INDEX executions_pending ON @executions (handler, priority, run_at, id) WHERE status = 'pending';
CREATE INDEX executions_running ON @executions (node_id, epoch, id) WHERE status = 'running';
CREATE INDEX executions_ended ON @executions (ended_at) WHERE ended_at IS NOT NULL;
-- Success is what most executions are: it is found by walking the ids, and costs no entry here.
CREATE INDEX executions_unusual ON @executions (status, id)
    WHERE status NOT IN ('pending', 'running', 'success');
CREATE INDEX executions_root ON @executions (root_id) WHERE root_id IS NOT NULL;
CREATE UNIQUE INDEX executions_key ON @executions (job_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE TABLE @logs (
    execution uuid NOT NULL,
    seq bigint NOT NULL,
    at bigint NOT NULL,
    level text NOT NULL,
    message text NOT NULL,
    fields text,
    PRIMARY KEY (execution, seq)
);

CREATE TABLE @nodes (
    id text COLLATE "C" PRIMARY KEY,
    epoch bigint NOT NULL,
    dead_at bigint,
    joined_at bigint NOT NULL,
    seen_at bigint NOT NULL,
    lease_until bigint NOT NULL,
    info text NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE @calendars (
    name text COLLATE "C" PRIMARY KEY,
    definition text NOT NULL
);

CREATE TABLE @audit (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at bigint NOT NULL,
    job_id text COLLATE "C" NOT NULL,
    job_name text NOT NULL,
    action text NOT NULL,
    actor text NOT NULL,
    version bigint NOT NULL,
    due_before bigint,
    due_after bigint,
    detail text
);
CREATE INDEX audit_job ON @audit (job_id, n);
CREATE INDEX audit_at ON @audit (at);
