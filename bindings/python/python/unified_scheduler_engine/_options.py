"""The options of a job, by our names and by APScheduler's, as fields of its document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._errors import Fault, InvalidError
from ._triggers import KEYWORDS
from .policies import Chain, History, Misfire, Overlap, Retry
from .schedules import Duration, Instant, instant, seconds

if TYPE_CHECKING:
    from datetime import date, tzinfo

    from typing_extensions import TypedDict

    class TriggerOptions(TypedDict, total=False):
        """What goes with a trigger, as in APScheduler 3."""

        timezone: str | tzinfo
        start_date: Instant | date
        end_date: Instant | date
        jitter: Duration
        run_date: Instant | date
        weeks: float
        days: float
        hours: float
        minutes: float
        seconds: float
        year: int | str
        month: int | str
        week: int | str
        day: int | str
        day_of_week: int | str
        hour: int | str
        minute: int | str
        second: int | str

    class JobOptions(TriggerOptions, total=False):
        """What `add_job` and the decorator `job` take beside the trigger."""

        description: str
        parameters: Mapping[str, Any]
        misfire: Misfire
        overlap: Overlap
        retry: Retry | int
        timeout: Duration
        priority: int
        pause_after_failures: int
        history: History
        chains: Sequence[Chain]
        tags: Sequence[str]
        # As in APScheduler 3.
        misfire_grace_time: Duration | None
        coalesce: bool
        max_instances: int
        next_run_time: Instant | None
        executor: str
        jobstore: str

    class JobChanges(TypedDict, total=False):
        """What `modify_job` can change."""

        name: str
        description: str
        parameters: Mapping[str, Any]
        misfire: Misfire
        overlap: Overlap
        retry: Retry | int
        timeout: Duration
        priority: int
        pause_after_failures: int
        history: History
        chains: Sequence[Chain]
        tags: Sequence[str]
        misfire_grace_time: Duration | None
        coalesce: bool
        max_instances: int


PLAIN = ("name", "description", "priority", "pause_after_failures")
#: Accepted and without meaning here: every job is in the scheduler's one store.
IGNORED = ("jobstore",)
#: What can't be changed as an option, and what does it.
ELSEWHERE = {
    "next_run_time": "`trigger` runs a job now or at an instant, `reschedule` moves its schedule",
    "trigger": "`reschedule` gives a job another schedule",
    "func": "a function is code: add the job again, with replace_existing=True",
    "args": "arguments are code: add the job again",
    "kwargs": "arguments are code: add the job again",
    "enabled": "use `pause` and `resume`",
    "id": "an id is for ever: add another job, and remove this one",
}


def split(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keywords of the trigger, and the others."""
    trigger = {key: value for key, value in options.items() if key in KEYWORDS}
    return trigger, {key: value for key, value in options.items() if key not in KEYWORDS}


def document(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as fields of a job's document.

    >>> document({"max_instances": 3, "misfire_grace_time": 60})["overlap"]
    {'policy': 'allow', 'max': 3}
    """
    left = {key: value for key, value in options.items() if key not in IGNORED}
    fields: dict[str, Any] = {key: left.pop(key) for key in PLAIN if key in left}
    if "parameters" in left:
        fields["parameters"] = dict(left.pop("parameters") or {})
    if "timeout" in left:
        fields["timeout_seconds"] = seconds(left.pop("timeout"), "timeout")
    if "tags" in left:
        fields["tags"] = [str(tag) for tag in left.pop("tags")]
    if "history" in left:
        fields["history"] = left.pop("history").document()
    if "retry" in left:
        retry = left.pop("retry")
        retry = Retry(retry) if isinstance(retry, int) else retry or Retry(0, on_lost=False)
        fields["retry_policy"] = retry.document()
    if "chains" in left:
        fields["chains"] = [{"job": chain.job, "on": chain.on} for chain in left.pop("chains")]
    misfire = _misfire(left)
    if misfire is not None:
        fields["misfire"] = misfire.document()
    overlap = _overlap(left)
    if overlap is not None:
        fields["overlap"] = overlap.document()
    if left:
        name = sorted(left)[0]
        help_text = ELSEWHERE.get(name, "")
        message = f"there is no option `{name}`" + (f"; {help_text}" if help_text else "")
        raise InvalidError(message, (Fault(name, "is no option of a job", None, help_text),))
    return fields


def _misfire(left: dict[str, Any]) -> Misfire | None:
    given = left.pop("misfire", None)
    missing = "misfire_grace_time" not in left
    grace, coalesce = left.pop("misfire_grace_time", None), left.pop("coalesce", True)
    if given is not None:
        return given  # type: ignore[no-any-return]
    if not coalesce:
        if grace is not None:
            raise InvalidError(
                "misfire_grace_time with coalesce=False: what is late is either skipped or run one by one;"
                " leave one of them out",
                (Fault("coalesce", "can't be False with a grace", None, "leave one of them out"),),
            )
        return Misfire("run_all")
    if missing:
        return None
    return Misfire() if grace is None else Misfire("skip", grace)


def _overlap(left: dict[str, Any]) -> Overlap | None:
    given, most = left.pop("overlap", None), left.pop("max_instances", None)
    if given is not None or most is None:
        return given  # type: ignore[no-any-return]
    return Overlap() if most == 1 else Overlap("allow", most)


def first_due(value: Instant | None, zone: str | None) -> str | None:
    """The first due time, as the engine reads it."""
    return None if value is None else instant(value, zone, "next_run_time")
