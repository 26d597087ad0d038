"""unified-scheduler: one job scheduler over the database your application already has.

>>> from unified_scheduler_engine import Every, Scheduler
>>> scheduler = Scheduler("memory:")
>>> @scheduler.job(Every(minutes=5))
... async def refresh(ctx):
...     ctx.info("refreshing")

Importing this package starts nothing. The engine begins with `await scheduler.start()`.
"""

from __future__ import annotations

from ._bridge import current_context
from ._engine import STATUSES, STORE_SCHEMES, TZDB_VERSION, Context, __version__
from ._errors import (
    ConflictError,
    CorruptError,
    Fault,
    InternalError,
    InvalidError,
    NotFoundError,
    RetryLater,
    SchedulerError,
    StoppedError,
    UnavailableError,
    UnsupportedError,
)
from ._processes import ProcessContext, ProcessDiedError
from ._results import Result
from .models import Event, Execution, Explanation, Failure, Job, LogLine, Reason, Report, Run
from .policies import Chain, History, Misfire, Overlap, Retry
from .scheduler import JobHandle, Scheduler
from .schedules import At, Cron, Every, Manual, Schedule
from .sync import SyncScheduler

__all__ = [
    "STATUSES",
    "STORE_SCHEMES",
    "TZDB_VERSION",
    "At",
    "Chain",
    "ConflictError",
    "Context",
    "CorruptError",
    "Cron",
    "Event",
    "Every",
    "Execution",
    "Explanation",
    "Failure",
    "Fault",
    "History",
    "InternalError",
    "InvalidError",
    "Job",
    "JobHandle",
    "LogLine",
    "Manual",
    "Misfire",
    "NotFoundError",
    "Overlap",
    "ProcessContext",
    "ProcessDiedError",
    "Reason",
    "Report",
    "Result",
    "Retry",
    "RetryLater",
    "Run",
    "Schedule",
    "Scheduler",
    "SchedulerError",
    "StoppedError",
    "SyncScheduler",
    "UnavailableError",
    "UnsupportedError",
    "__version__",
    "current_context",
]
