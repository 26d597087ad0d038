"""Documents of the existing backend, and what its templates leave behind."""

import itertools
from datetime import datetime, timedelta, timezone


def now():
    """As documents have it."""
    value = datetime.now(timezone.utc).replace(tzinfo=None)
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


def job(name="a", seconds=2, due=3.0, **fields):
    """A document as the existing backend writes it."""
    return {
        "name": name,
        "description": "",
        "template_type": "work",
        "parameters": {"seconds": 0},
        "schedule": {
            "type": "interval",
            "interval_seconds": seconds,
            "expression": "0 * * * *",
            "timezone": "UTC",
        },
        "enabled": True,
        "timeout_seconds": 60,
        "retry_policy": {"max_retries": 3, "retry_delay_seconds": 300},
        "notifications": {"on_success": [], "on_failure": []},
        "created_by": "alice",
        "createdAt": now(),
        "updatedAt": now(),
        "lastRunAt": None,
        "nextRunAt": now() + timedelta(seconds=due),
        "lastStatus": None,
        "version": 1,
        **fields,
    }


def begins(db, key):
    """When the job began to work, by its own witness."""
    found = db.witness.find({"job_id": str(key), "event": "begin"}).sort("at", 1)
    return [document["at"] for document in found]


def gaps(times):
    """The seconds between them."""
    return [(b - a).total_seconds() for a, b in itertools.pairwise(times)]


def of_jobs(db, **filters):
    """The executions of stored jobs, without those of static ones."""
    return [e for e in db.job_executions.find(filters) if not e["job_id"].startswith("static:")]
