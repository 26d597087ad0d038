-- What of a job is live: what runs, and what its overlap policy has queued. Whoever makes an execution live adds it
-- here, in the same step; what has ended since may still be named. A claim finds by it what it has to look at, without
-- an index that remembers each execution that ever was open, which it does for as long as any old transaction lasts.
ALTER TABLE @job_state ADD COLUMN live uuid[] NOT NULL DEFAULT '{}';
UPDATE @job_state s SET live = x.ids FROM (
    SELECT job_id, array_agg(id) AS ids FROM @executions
    WHERE ended_at IS NULL AND (status = 'running' OR made_by = 'schedule' AND attempt = 1) GROUP BY job_id) x
WHERE s.id = x.job_id;
