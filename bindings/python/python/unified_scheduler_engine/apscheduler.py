"""From APScheduler 3: reads its job stores, so that stored jobs move over with their next run times.

```
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from unified_scheduler_engine import Scheduler, apscheduler

scheduler = Scheduler("sqlite://jobs.db")
apscheduler.register(scheduler)          # in every process that runs them
report = await apscheduler.import_jobs(scheduler, SQLAlchemyJobStore("sqlite:///old.db"))
```

APScheduler stores a reference to a function with its arguments; imported jobs keep both, as parameters of
a handler that `register` adds. Whoever can write to the store can name any function that the process can
import, as with APScheduler itself: do not register it where that matters.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

from ._engine import Context
from ._errors import SchedulerError
from ._targets import resolve
from ._triggers import from_apscheduler
from .policies import Misfire, Overlap
from .scheduler import Scheduler

#: The handler that imported jobs name.
HANDLER = "apscheduler"


@dataclass(frozen=True)
class Imported:
    """What became of one job."""

    id: str
    #: The id that it has here; `None` when it was not imported.
    job_id: str | None
    #: Why it was not.
    reason: str = ""


def call_reference(ctx: Context) -> Any:
    """Runs the function that an imported job names. A coroutine is awaited on the loop."""
    given = ctx.parameters
    return resolve(given["func"])(*given.get("args", ()), **given.get("kwargs", {}))


def register(scheduler: Scheduler) -> None:
    """Lets this process run imported jobs."""
    scheduler.handler(HANDLER)(call_reference)


async def import_jobs(scheduler: Scheduler, source: Any) -> list[Imported]:
    """Stores the jobs of an APScheduler 3 job store or scheduler that are not here yet.

    Nothing is changed in the source. A job that can't be moved is left out, with the reason in the answer.
    """
    register(scheduler)
    known = {job.id for job in await scheduler.jobs(templates=[HANDLER], limit=100_000)}
    return [await _move(scheduler, job, known) for job in _jobs(source)]


def _jobs(source: Any) -> Iterable[Any]:
    if hasattr(source, "get_jobs"):
        return list(source.get_jobs())
    if getattr(source, "_scheduler", None) is None:
        # A store on its own wants somebody whose time zone it can ask.
        source.start(SimpleNamespace(timezone=timezone.utc, _logger=None), "import")
    return list(source.get_all_jobs())


async def _move(scheduler: Scheduler, job: Any, known: set[str]) -> Imported:
    job_id = f"{HANDLER}:{job.id}"
    if job_id in known:
        return Imported(job.id, None, "it has been imported before")
    schedule = from_apscheduler(job.trigger)
    if schedule is None:
        return Imported(job.id, None, f"{type(job.trigger).__name__} has no counterpart; make two jobs of it")
    if not job.func_ref:
        return Imported(job.id, None, "its function has no name that could be stored")
    parameters = {"func": job.func_ref, "args": list(job.args), "kwargs": dict(job.kwargs)}
    try:
        json.dumps(parameters, allow_nan=False)
    except (TypeError, ValueError) as error:
        return Imported(job.id, None, f"its arguments are no JSON: {error}")
    grace = getattr(job, "misfire_grace_time", None)
    misfire = Misfire() if grace is None else Misfire("skip", max(grace, 1))
    if not getattr(job, "coalesce", True):
        misfire = Misfire("run_all")
    most = getattr(job, "max_instances", 1)
    due: datetime | None = getattr(job, "next_run_time", None)
    try:
        await scheduler.create_job(
            str(job.id),
            HANDLER,
            schedule,
            id=job_id,
            enabled=due is not None,
            actor="import",
            parameters=parameters,
            description="" if job.name == job.id else str(job.name),
            misfire=misfire,
            overlap=Overlap() if most == 1 else Overlap("allow", most),
            next_run_time=due,
            tags=["apscheduler"],
        )
    except SchedulerError as error:
        return Imported(job.id, None, str(error))
    return Imported(job.id, job_id)
