"""The local scheduler module, as the backend's own documentation tells to write it."""

import os
from datetime import datetime, timezone

from unified_scheduler_engine import (
    ScheduledJob,
    UnifiedScheduler,
    get_unified_scheduler,
    set_unified_scheduler,
    shutdown_unified_scheduler,
)

__all__ = [
    "ScheduledJob",
    "UnifiedScheduler",
    "get_unified_scheduler",
    "initialize_unified_scheduler",
    "shutdown_unified_scheduler",
]


async def initialize_unified_scheduler(db):
    """Makes the scheduler with its static jobs, and starts it."""
    scheduler = UnifiedScheduler(
        db,
        poll=1.0,
        lease=float(os.environ.get("BACKEND_LEASE", "15")),
        stop_grace=float(os.environ.get("BACKEND_GRACE", "8")),
    )

    async def heartbeat():
        await db.witness_static.insert_one(
            {"job": "heartbeat", "pid": os.getpid(), "at": datetime.now(timezone.utc)}
        )

    def plain():
        return os.getpid()

    scheduler.add_job(name="heartbeat", interval_seconds=1, func=heartbeat)
    scheduler.add_job(name="plain", interval_seconds=2, func=plain, is_async=False)
    set_unified_scheduler(scheduler)
    await scheduler.start()
    return scheduler
