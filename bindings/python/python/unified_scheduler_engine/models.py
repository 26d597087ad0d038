"""What the scheduler tells of jobs and executions. Times are datetimes in UTC."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .schedules import parse_instant


def _time(value: str | None) -> datetime | None:
    return None if value is None else parse_instant(value)


@dataclass(frozen=True)
class Job:
    """A stored job, as it was when it was asked for."""

    id: str
    name: str
    enabled: bool
    #: The handler or template that runs it.
    handler: str
    #: `None` when it is paused, has ended, or has no schedule.
    next_run_time: datetime | None
    last_run_at: datetime | None
    last_status: str | None
    #: Counts edits, not runs.
    version: int
    tags: tuple[str, ...]
    parameters: dict[str, Any]
    schedule: dict[str, Any]
    #: Why it will not fire again: `exhausted`, …
    ended: str | None
    #: Why it was set aside.
    fault: str | None
    created_at: datetime
    updated_at: datetime
    #: Everything, as the engine tells it.
    document: dict[str, Any] = field(repr=False, compare=False)

    @staticmethod
    def read(document: dict[str, Any]) -> Job:
        """A job from the engine's document."""
        created, updated = _time(document["created_at"]), _time(document["updated_at"])
        assert created is not None and updated is not None
        return Job(
            id=document["id"],
            name=document["name"],
            enabled=document["enabled"],
            handler=document["template_type"],
            next_run_time=_time(document["next_run_at"]),
            last_run_at=_time(document["last_run_at"]),
            last_status=document["last_status"],
            version=document["version"],
            tags=tuple(document["tags"]),
            parameters=document["parameters"],
            schedule=document["schedule"],
            ended=document["ended"],
            fault=document["fault"],
            created_at=created,
            updated_at=updated,
            document=document,
        )


@dataclass(frozen=True)
class Failure:
    """What went wrong in a handler."""

    kind: str
    message: str
    trace: str | None = None


@dataclass(frozen=True)
class Execution:
    """The run of one occurrence, of a manual trigger, or of a chained job."""

    id: str
    job_id: str
    job_name: str
    status: str
    #: Why it was skipped, or what kind of failure ended it.
    reason: str | None
    #: `schedule`, `manual`, `chain`.
    trigger: str
    triggered_by: str
    #: The occurrence; of a manual trigger, when it was asked for.
    due_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    #: In seconds.
    duration: float | None
    #: From 1.
    attempt: int
    #: How many occurrences it stands for; `due_at` is the first.
    n_occurrences: int
    message: str
    details: Any
    warnings: tuple[str, ...]
    error: Failure | None
    #: The same for every attempt at one occurrence, and for no other.
    idempotency_key: str
    #: Everything, as the engine tells it.
    document: dict[str, Any] = field(repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether it went well."""
        return self.status in ("success", "completed")

    @property
    def ended(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.status not in ("pending", "running")

    @staticmethod
    def read(document: dict[str, Any]) -> Execution:
        """An execution from the engine's document."""
        due = _time(document["due_at"])
        assert due is not None
        result: dict[str, Any] = document.get("result") or {}
        error = document.get("error")
        return Execution(
            id=document["id"],
            job_id=document["job_id"],
            job_name=document["job_name"],
            status=document["status"],
            reason=document.get("reason"),
            trigger=document["trigger"],
            triggered_by=document["triggered_by"],
            due_at=due,
            started_at=_time(document.get("started_at")),
            ended_at=_time(document.get("ended_at")),
            duration=document.get("duration_seconds"),
            attempt=document["attempt"],
            n_occurrences=document["n_occurrences"],
            message=result.get("message", ""),
            details=result.get("details"),
            warnings=tuple(result.get("warnings", ())),
            error=None if error is None else Failure(error["kind"], error["message"], error.get("trace")),
            idempotency_key=document.get("idempotency_key", ""),
            document=document,
        )


@dataclass(frozen=True)
class LogLine:
    """One line that a handler logged."""

    timestamp: datetime
    level: str
    message: str
    fields: dict[str, Any]

    @staticmethod
    def read(document: dict[str, Any]) -> LogLine:
        """A line from the engine's document."""
        return LogLine(
            parse_instant(document["timestamp"]),
            document["level"],
            document["message"],
            document.get("fields") or {},
        )


@dataclass(frozen=True)
class Run:
    """A due time to come."""

    due_at: datetime
    #: The same on the wall of the schedule's zone.
    local: str
    #: The exclusion that leaves it out.
    excluded: str | None
    #: What a shift of the zone does to it: `gap`, `fold_first`, `fold_second`.
    dst: str | None

    @staticmethod
    def read(document: dict[str, Any]) -> Run:
        """A due time from the engine's document."""
        return Run(
            parse_instant(document["due"]), document["local"], document.get("excluded"), document.get("dst")
        )


@dataclass(frozen=True)
class Reason:
    """One thing that matters for whether a job runs."""

    code: str
    text: str
    blocks: bool


@dataclass(frozen=True)
class Explanation:
    """What is known of why a job is as it is."""

    will_run: bool
    reasons: tuple[Reason, ...]
    schedule: str
    next: tuple[Run, ...]
    last: tuple[Execution, ...]

    @staticmethod
    def read(document: dict[str, Any]) -> Explanation:
        """An explanation from the engine's document."""
        return Explanation(
            document["will_run"],
            tuple(Reason(r["code"], r["text"], r["blocks"]) for r in document["reasons"]),
            document["schedule"],
            tuple(Run.read(run) for run in document["next"]),
            tuple(Execution.read(execution) for execution in document["last"]),
        )


@dataclass(frozen=True)
class Report:
    """What a replay of the history found: due = started + skipped with a reason."""

    jobs: int
    occurrences: int
    started: int
    skipped: int
    lost: int
    retries: int
    problems: tuple[dict[str, Any], ...]

    @property
    def is_whole(self) -> bool:
        """Whether everything is accounted for."""
        return not self.problems

    @staticmethod
    def read(document: dict[str, Any]) -> Report:
        """A report from the engine's document."""
        return Report(
            jobs=document["jobs"],
            occurrences=document["occurrences"],
            started=document["started"],
            skipped=document["skipped"],
            lost=document["lost"],
            retries=document["retries"],
            problems=tuple(document["problems"]),
        )


@dataclass(frozen=True)
class Event:
    """Something that happened: `execution_ended`, `job_changed`, `degraded`, …"""

    name: str
    job_id: str | None
    execution: Execution | None
    #: Everything, as the engine tells it.
    document: dict[str, Any] = field(repr=False)

    @staticmethod
    def read(document: dict[str, Any]) -> Event:
        """An event from the engine's document."""
        told = document.get("execution")
        execution = None if told is None else Execution.read(told)
        job_id = execution.job_id if execution is not None else document.get("job_id")
        return Event(document["event"], job_id, execution, document)
