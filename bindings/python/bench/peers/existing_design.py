"""The design that this package takes the place of: poll, then run what is due, one after another.

Nothing in it is atomic, and each run costs seven operations: the job is read again, the execution is inserted
as running, its end is written, it is read back, the job's last run is written, the job is read for its
schedule, and its next due time is written.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta, timezone
from typing import Any

#: Operations on the database for one run, the poll left out.
OPERATIONS = 7


def utcnow() -> datetime:
    """As its documents have times: UTC, without a zone."""
    return datetime.now(timezone.utc).replace(tzinfo=None)


def document(name: str, due: datetime) -> dict[str, Any]:
    """A job as it is stored."""
    return {
        "name": name,
        "description": "",
        "template_type": "nothing",
        "parameters": {},
        "schedule": {"type": "interval", "interval_seconds": 3600, "expression": None, "timezone": "UTC"},
        "enabled": True,
        "timeout_seconds": 3600,
        "retry_policy": {"max_retries": 3, "retry_delay_seconds": 300},
        "notifications": {"on_success": [], "on_failure": []},
        "created_by": "bench",
        "createdAt": utcnow(),
        "updatedAt": utcnow(),
        "lastRunAt": None,
        "nextRunAt": due,
        "lastStatus": None,
        "version": 1,
    }


async def poll_once(db: Any) -> int:
    """What one poll does; how many jobs it ran."""
    due = await db.dynamic_jobs.find({"enabled": True, "nextRunAt": {"$lte": utcnow()}}).to_list(None)
    for job in due:
        await run(db, job["_id"])
    return len(due)


async def run(db: Any, key: Any) -> None:
    """One run of a job, in its seven operations."""
    job = await db.dynamic_jobs.find_one({"_id": key})
    started = utcnow()
    execution = {
        "job_id": str(key),
        "job_name": job["name"],
        "template_type": job["template_type"],
        "status": "running",
        "started_at": started,
        "completed_at": None,
        "duration_seconds": None,
        "triggered_by": "scheduler",
        "result": {},
        "error": None,
        "logs": [],
        "execution_host": "server-01",
    }
    inserted = await db.job_executions.insert_one(execution)
    began = time.perf_counter()
    await asyncio.wait_for(nothing(), job["timeout_seconds"])
    ended = {
        "status": "success",
        "completed_at": utcnow(),
        "duration_seconds": time.perf_counter() - began,
        "result": {"status": "success", "message": ""},
    }
    await db.job_executions.update_one({"_id": inserted.inserted_id}, {"$set": ended})
    await db.job_executions.find_one({"_id": inserted.inserted_id})
    last = {"lastRunAt": utcnow(), "lastStatus": "success"}
    await db.dynamic_jobs.update_one({"_id": key}, {"$set": last})
    job = await db.dynamic_jobs.find_one({"_id": key})
    following = utcnow() + timedelta(seconds=job["schedule"]["interval_seconds"])
    await db.dynamic_jobs.update_one({"_id": key}, {"$set": {"nextRunAt": following}})


async def nothing() -> None:
    """The work."""
