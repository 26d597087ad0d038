"""Documents of the existing backend."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from bson import ObjectId
from unified_scheduler_engine.compat import JobRegistryService

EVERY_MINUTE = {"type": "interval", "interval_seconds": 60, "expression": None, "timezone": "UTC"}


def now() -> datetime:
    """As documents have it."""
    value = datetime.now(timezone.utc).replace(tzinfo=None)
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


async def made(db: Any, **fields: Any) -> dict[str, Any]:
    job = {"name": "a", "template_type": "echo", "schedule": EVERY_MINUTE, **fields}
    return await JobRegistryService(db).create_job(job, "alice")


async def stored(db: Any, job_id: Any) -> dict[str, Any]:
    document = await db.dynamic_jobs.find_one({"_id": ObjectId(str(job_id))})
    assert document is not None
    return dict(document)


def job(**fields: Any) -> dict[str, Any]:
    """A document as the existing backend writes it."""
    return {
        "name": "a",
        "template_type": "echo",
        "parameters": {"times": 1},
        "schedule": {
            "type": "interval",
            "interval_seconds": 3600,
            "expression": None,
            "timezone": "UTC",
        },
        "enabled": True,
        "timeout_seconds": 60,
        "retry_policy": {"max_retries": 3, "retry_delay_seconds": 300},
        "nextRunAt": now() + timedelta(seconds=1),
        "createdAt": now(),
        "version": 1,
        **fields,
    }
