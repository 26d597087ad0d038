"""Reading documents of jobs and executions in all the forms in which they are found.

Where a meaning has several spellings, the first that is present and not null wins. What is stored stays in
what is answered, and what readers look for is added.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from .. import _engine
from .._errors import InvalidError, SchedulerError
from .._results import to_json
from ._times import naive, to_millis

Document = Mapping[str, Any]

TEMPLATE = ("templateType", "template_type", "template")
ENABLED = ("enabled", "isEnabled")
TIMEOUT = ("timeout_seconds", "timeout")
LAST_RUN = ("lastRunAt", "last_run_at", "lastRun", "last_run")
LAST_STATUS = ("lastStatus", "last_status")
CREATED = ("createdAt", "created_at")
UPDATED = ("updatedAt", "updated_at")
HINTS = ("next_run_at", "nextRun", "next_run")
SCHEDULE = (
    "schedule",
    "scheduleType",
    "schedule_type",
    "intervalSeconds",
    "interval_seconds",
    "interval",
    "cronExpression",
    "cron_expression",
    "timezone",
)
#: The sub-document of the engine.
OURS = "unified_scheduler"

DEFAULT_INTERVAL = 3600
DEFAULT_TIMEOUT = 3600


def first(document: Document, names: tuple[str, ...]) -> Any:
    """The first of these fields that is there and not null.

    >>> first({"template_type": "a", "template": "b"}, TEMPLATE)
    'a'
    """
    for name in names:
        value = document.get(name)
        if value is not None:
            return value
    return None


def template_of(document: Document) -> str | None:
    """The template of a job; `None` when it names none."""
    value = first(document, TEMPLATE)
    return value if isinstance(value, str) and value else None


def is_enabled(document: Document) -> bool:
    """Whether its schedule counts; a document that does not say so is not scheduled."""
    return first(document, ENABLED) is True


def timeout_of(document: Document) -> float:
    """How long one execution may take, in seconds."""
    value = first(document, TIMEOUT)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        return DEFAULT_TIMEOUT
    return min(float(value), 86400.0)


def schedule_of(document: Document) -> dict[str, Any]:
    """The schedule of a job as the engine understands it. Raises `InvalidError` when it can't be used."""
    known: dict[str, Any] = {key: document[key] for key in SCHEDULE if key in document}
    if not any(value not in (None, {}, "") for value in known.values()):
        known = {"schedule": {"type": "interval", "interval_seconds": DEFAULT_INTERVAL}}
    read = json.loads(_engine.read_document(to_json({**known, "name": "-", "template_type": "-"})))
    schedule: dict[str, Any] = read["definition"]["schedule"]
    _engine.check_schedule(json.dumps(schedule))
    return schedule


def four(schedule: Document) -> dict[str, Any]:
    """The four fields that documents of the existing backend have of a schedule."""
    seconds = schedule.get("interval_seconds")
    if isinstance(seconds, float) and seconds == int(seconds):
        seconds = int(seconds)
    return {
        "type": schedule.get("type", "interval"),
        "interval_seconds": seconds,
        "expression": schedule.get("expression"),
        "timezone": schedule.get("timezone") or "UTC",
    }


def next_due(schedule: Document, now: datetime, anchor: datetime | None = None) -> datetime | None:
    """The next due time of a schedule after `now`. Intervals count from `anchor`, a due time of the past or
    future; without one, from now. `None` when there is none, or the existing engine would not know it."""
    kind = schedule.get("type")
    if kind == "interval":
        period = timedelta(seconds=float(schedule.get("interval_seconds") or DEFAULT_INTERVAL))
        if anchor is None:
            return to_millis(now + period)
        if anchor > now:
            return to_millis(anchor)
        return to_millis(anchor + period * ((now - anchor) // period + 1))
    if kind == "cron":
        since = now.isoformat(timespec="milliseconds") + "Z"
        runs = json.loads(_engine.preview_schedule(json.dumps(dict(schedule)), 1, since))
        return naive(runs[0]["due"]) if runs else None
    return None


def due_of(document: Document, now: datetime) -> datetime | None:
    """When a job is due. Spellings that the existing engine did not look at count only in the future."""
    due = naive(document.get("nextRunAt"))
    if due is not None:
        return due
    ours = document.get(OURS)
    if isinstance(ours, Mapping):
        due = naive(ours.get("due"))
        if due is not None:
            return due
    hint = naive(first(document, HINTS))
    return hint if hint is not None and hint > now else None


def fault_of(document: Document) -> str | None:
    """Why a job does not run although it is enabled; `None` when nothing is wrong with it."""
    ours = document.get(OURS)
    if isinstance(ours, Mapping) and ours.get("fault"):
        return str(ours["fault"])
    if template_of(document) is None:
        return "the job names no template"
    try:
        schedule_of(document)
    except SchedulerError as error:
        return str(error)
    return None


def presentable(value: Any) -> Any:
    """A stored value without types that JSON layers break on: one of them would break a whole list.

    >>> presentable({"a": [float("nan"), b"x"], "b": datetime(2026, 1, 2)})
    {'a': [None, 'x'], 'b': datetime.datetime(2026, 1, 2, 0, 0)}
    """
    if value is None or isinstance(value, (bool, int, str, datetime)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): presentable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [presentable(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def shown_job(document: Document, now: datetime, registry: Any = None) -> dict[str, Any]:
    """A job as it is answered: what is stored, its id as text, and the names that readers know. One whose
    template `registry` does not have is at fault too."""
    job: dict[str, Any] = presentable(document)
    if "_id" in job:
        job["_id"] = str(job["_id"])
    fault = fault_of(document)
    if fault is None and registry is not None and registry.get(template_of(document)) is None:
        fault = f"Template '{template_of(document)}' not found"
    try:
        schedule: Document = schedule_of(document)
    except SchedulerError:
        stored = document.get("schedule")
        schedule = stored if isinstance(stored, Mapping) else {}
    job["created_at"] = _time(first(document, CREATED))
    job["updated_at"] = _time(first(document, UPDATED))
    job["next_run_at"] = due_of(document, now)
    job["last_run_at"] = _time(first(document, LAST_RUN))
    job["last_status"] = job["last_run_status"] = "failed" if fault else first(document, LAST_STATUS)
    job["template_type"] = template_of(document)
    job["schedule_type"] = schedule.get("type")
    job["interval_seconds"] = schedule.get("interval_seconds")
    job["cron_expression"] = schedule.get("expression")
    job["execution_count"] = (
        first(document, ("execution_count", "executionCount", "run_count", "runCount")) or 0
    )
    job.setdefault("parameters", {})
    job.setdefault("description", "")
    if fault:
        job["fault"] = fault
    return job


def _time(value: Any) -> Any:
    """A time as a naive datetime; what is none, as it is."""
    return naive(value) or value


_EXECUTION = {
    "job_id": "jobId",
    "job_name": "jobName",
    "template_type": "templateType",
    "started_at": "startedAt",
    "completed_at": "completedAt",
    "duration_seconds": "durationSeconds",
    "triggered_by": "triggeredBy",
    "execution_host": "executionHost",
}


def shown_execution(document: Document) -> dict[str, Any]:
    """An execution as it is answered."""
    execution: dict[str, Any] = presentable(document)
    if "_id" in execution:
        execution["_id"] = str(execution["_id"])
    for name, other in _EXECUTION.items():
        if execution.get(name) is None:
            execution[name] = execution.get(other)
    for name in ("started_at", "completed_at"):
        execution[name] = _time(execution[name])
    execution["status"] = execution.get("status") or "unknown"
    execution.setdefault("result", {})
    execution.setdefault("error", None)
    execution.setdefault("logs", [])
    return execution


def checked_schedule(given: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A schedule that is to be saved: as it is stored, and as the engine understands it. A bare text is a
    cron expression. Raises `InvalidError` when it can't run."""
    if isinstance(given, str):
        given = {"type": "cron", "expression": given}
    if given is None or given == {}:
        given = {"type": "interval", "interval_seconds": DEFAULT_INTERVAL}
    if not isinstance(given, Mapping):
        raise InvalidError("schedule: give an object, or a cron expression as text")
    seconds = given.get("interval_seconds")
    if (given.get("type") or "interval") == "interval" and (
        isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds < 1
    ):
        raise InvalidError(f"schedule.interval_seconds: is {seconds!r}; give a number of seconds from 1")
    understood = schedule_of({"schedule": dict(given)})
    if understood["type"] not in ("interval", "cron"):
        return {**dict(given), **four(understood)}, understood
    expression = first(given, ("expression", "value"))
    kept = {**four(understood), "expression": expression, "interval_seconds": seconds}
    return kept, understood
