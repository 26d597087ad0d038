"""One immediate pass over the stored jobs that are due.

Where the engine runs it takes them by itself; the pass waits until it has. Without one, each is taken by
moving its due time on, which only one process can do, and then runs here.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from .._errors import SchedulerError
from . import _documents as documents
from . import _mongo
from ._direct import DirectRun
from ._times import naive, utcnow
from .job_registry import JobRegistryService
from .registry import find_registry

if TYPE_CHECKING:
    from .unified import UnifiedScheduler

logger = logging.getLogger("unified_scheduler")

#: How long the engine is waited for to take what is due.
PATIENCE = 10.0


async def run_due(scheduler: UnifiedScheduler) -> None:
    """Has everything run that is due."""
    if scheduler.db is None:
        return
    service = JobRegistryService(scheduler.db)
    due = await service.get_jobs_ready_to_run()
    if scheduler.engine is not None:
        keys = {str(job["_id"]) for job in due}
        until = asyncio.get_running_loop().time() + PATIENCE
        while keys and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.1)
            keys &= {str(job["_id"]) for job in await service.get_jobs_ready_to_run()}
        return
    taken = [job for job in due if await _take(scheduler.db, job)]
    registry = find_registry(scheduler._registry)
    runs = [DirectRun(scheduler.db, registry, scheduler.mailer).run(job, "scheduler") for job in taken]
    for answer in await asyncio.gather(*runs, return_exceptions=True):
        if isinstance(answer, BaseException):
            logger.error("a stored job could not be run: %s", answer)


async def _take(db: Any, job: dict[str, Any]) -> bool:
    """Moves the due time of a job on, where nobody else has."""
    now = utcnow()
    try:
        following = documents.next_due(documents.schedule_of(job), now, naive(job["nextRunAt"]))
    except SchedulerError as error:
        logger.error("the job '%s' is not run: %s", job.get("name"), error)
        return False
    key = _mongo.job_key(job["_id"])
    if key is None:
        return False
    written = await db[_mongo.JOBS].update_one(
        {**key, "nextRunAt": job["nextRunAt"]}, {"$set": {"nextRunAt": following}}
    )
    return bool(written.modified_count)
