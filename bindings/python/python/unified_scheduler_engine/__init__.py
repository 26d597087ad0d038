"""unified-scheduler: one job scheduler over the database your application already has.

>>> from unified_scheduler_engine import Every, Scheduler
>>> scheduler = Scheduler("memory:")
>>> @scheduler.job(Every(minutes=5))
... async def refresh(ctx):
...     ctx.info("refreshing")

Importing this package starts nothing. The engine begins with `await scheduler.start()`.
"""

from __future__ import annotations

from typing import Any

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
from ._handle import JobHandle
from ._processes import ProcessContext, ProcessDiedError
from ._results import Result
from .compat import (
    JobExecutionContext,
    JobExecutor,
    JobRegistryService,
    JobResult,
    JobTemplate,
    ScheduledJob,
    TemplateRegistry,
    UnifiedScheduler,
    get_template_registry,
    get_unified_scheduler,
    initialize_templates,
    initialize_unified_scheduler,
    set_unified_scheduler,
    shutdown_unified_scheduler,
)
from .models import Event, Execution, Explanation, Failure, Job, LogLine, Reason, Report, Run
from .policies import Chain, History, Misfire, Overlap, Retry
from .scheduler import Scheduler
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
    "JobExecutionContext",
    "JobExecutor",
    "JobHandle",
    "JobRegistryService",
    "JobResult",
    "JobTemplate",
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
    "ScheduledJob",
    "Scheduler",
    "SchedulerError",
    "StoppedError",
    "SyncScheduler",
    "TemplateRegistry",
    "UnavailableError",
    "UnifiedScheduler",
    "UnsupportedError",
    "__version__",
    "current_context",
    "get_template_registry",
    "get_unified_scheduler",
    "initialize_templates",
    "initialize_unified_scheduler",
    "set_unified_scheduler",
    "shutdown_unified_scheduler",
]


def __getattr__(name: str) -> Any:
    if name == "unified_scheduler":
        # The scheduler of this process, which changes while the program runs.
        return get_unified_scheduler()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
