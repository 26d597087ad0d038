"""Shows that a connection of the engine leads to the database of a handle.

A fresh marker is written through the handle and read over the connection. It stands among the executions, as
one that was called off, for the moment that it takes.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from ..scheduler import Scheduler
from . import _mongo
from ._ids import execution_id_of
from ._times import to_millis, utcnow

logger = logging.getLogger("unified_scheduler")

MARK = "unified_scheduler.marker"


async def leads_to(scheduler: Scheduler, db: Any) -> bool:
    """Whether the store of a scheduler is the database of the handle."""
    key = _mongo.new_object_id()
    now = to_millis(utcnow())
    executions = db[_mongo.EXECUTIONS]
    await executions.insert_one(
        {
            "_id": key,
            "job_id": MARK,
            "job_name": MARK,
            "template_type": MARK,
            "status": "cancelled",
            "triggered_by": MARK,
            "started_at": now,
            "completed_at": now,
            "duration_seconds": 0.0,
            "result": {},
            "error": None,
            "logs": [],
            "execution_host": MARK,
        }
    )
    try:
        found = await scheduler.execution(execution_id_of(str(key)))
        return found is not None and found.job_id == MARK
    finally:
        with contextlib.suppress(Exception):
            await executions.delete_one({"_id": key})
