"""What a template gets and gives: `JobExecutionContext` and `JobResult`.

Both are plain dataclasses that anybody can make without a scheduler. Nothing of ours asks whether an object
is one of them: what has these attributes is accepted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .._results import to_text
from ._times import utcnow

logger = logging.getLogger("unified_scheduler.jobs")

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "exception": logging.ERROR,
    "critical": logging.CRITICAL,
    "fatal": logging.CRITICAL,
}


def level_number(level: object) -> int:
    """The number of a level by its name, in any case; one that is unknown counts as info.

    >>> level_number("WARNING"), level_number("loud")
    (30, 20)
    """
    return _LEVELS.get(str(level).strip().lower(), logging.INFO)


@dataclass
class JobExecutionContext:
    """One execution, as the template sees it.

    >>> context = JobExecutionContext("1", "nightly", {"days": 7}, db=None)
    >>> context.log("info", "begun", step=1)
    >>> context.logs[0]["level"], context.params["days"]
    ('info', 7)
    """

    job_id: str
    job_name: str
    #: A copy of what is stored, and `triggered_by`. Changing it changes no stored job.
    parameters: dict[str, Any]
    db: Any
    triggered_by: str = "scheduler"
    execution_id: str | None = None
    logs: list[dict[str, Any]] = field(default_factory=list)
    #: When the last finished execution of the job started: naive UTC, as all times of documents.
    last_run_at: datetime | None = None
    #: The due time that this is the execution of.
    scheduled_for: datetime | None = None
    attempt: int = 1
    #: Also told of each line, as it is logged.
    sink: Callable[[str, str], None] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.logs is None:
            self.logs = []

    @property
    def params(self) -> dict[str, Any]:
        """The parameters, by the other name that templates use."""
        return self.parameters

    @params.setter
    def params(self, parameters: dict[str, Any]) -> None:
        self.parameters = parameters

    def log(self, level: str, message: Any, **kwargs: Any) -> None:
        """Adds a line to the log of the execution. From any thread; the level in any case."""
        self.logs.append({"timestamp": utcnow(), "level": level, "message": message, **kwargs})
        # A handler that writes UTF-8 to a file would fail over what it can't carry.
        logger.log(level_number(level), "[Job: %s] %s", self.job_name, to_text(message))
        if self.sink is not None:
            self.sink(str(level), str(message))


@dataclass
class JobResult:
    """How an execution ended, in the words of its template.

    >>> JobResult("success", "3 removed", records_affected=3).to_dict()["records_affected"]
    3
    """

    status: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)
    records_processed: int = 0
    records_affected: int = 0
    errors: list[str] | None = field(default_factory=list)
    warnings: list[str] | None = field(default_factory=list)
    duration_seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The eight fields."""
        return {
            "status": self.status,
            "message": self.message,
            "details": self.details,
            "records_processed": self.records_processed,
            "records_affected": self.records_affected,
            "errors": self.errors,
            "warnings": self.warnings,
            "duration_seconds": self.duration_seconds,
        }
