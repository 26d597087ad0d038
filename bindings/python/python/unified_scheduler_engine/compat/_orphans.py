"""Jobs that nobody can run, because no process has their template: each leaves one record that says so.

No engine claims such a job, and its due time passes. One that is overdue by more than a process needs to come
up is an orphan. Its record has an id that follows from the job and the template, so that many processes that
look at the same time write it once.
"""

from __future__ import annotations

import hashlib
import logging
from datetime import timedelta
from typing import Any

from . import _documents as documents
from . import _mongo
from ._times import to_millis, utcnow
from .job_registry import JobRegistryService

logger = logging.getLogger("unified_scheduler")

#: How long a job is overdue before it counts as one.
PATIENCE = timedelta(seconds=60)

KIND = "template_missing"


async def report_orphans(db: Any, registry: Any, *, patience: timedelta = PATIENCE) -> int:
    """Leaves a record of each orphan that has none yet; how many that were."""
    now = to_millis(utcnow())
    n = 0
    for job in await JobRegistryService(db).get_jobs_ready_to_run():
        due, kind = documents.due_of(job, now), documents.template_of(job)
        if kind is None or due is None or now - due < patience or registry.get(kind) is not None:
            continue
        key = _mongo.object_id(hashlib.sha256(f"{job['_id']} {kind}".encode()).hexdigest()[:24])
        if await db[_mongo.EXECUTIONS].find_one({"_id": key}, {"_id": 1}) is not None:
            continue
        message = f"Template '{kind}' not found"
        logger.error("the job '%s' can't run: %s", job.get("name"), message)
        await db[_mongo.EXECUTIONS].update_one(
            {"_id": key},
            {
                "$setOnInsert": {
                    "job_id": str(job["_id"]),
                    "job_name": str(job.get("name", "")),
                    "template_type": kind,
                    "status": "failed",
                    "triggered_by": "scheduler",
                    "started_at": now,
                    "completed_at": now,
                    "duration_seconds": 0.0,
                    "result": {"status": "failed", "message": message, "errors": [message]},
                    "error": message,
                    "logs": [],
                    "execution_host": "",
                    "failure_kind": KIND,
                }
            },
            upsert=True,
        )
        filter_ = _mongo.job_key(job["_id"])
        if filter_ is not None:
            await db[_mongo.JOBS].update_one(filter_, {"$set": {"lastStatus": "failed"}})
        n += 1
    return n
