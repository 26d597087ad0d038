"""When jobs are due: `Every`, `Cron`, `At` and `Manual`.

>>> Every(minutes=5).describe()
'every 5 minutes'
>>> Cron("0 3 * * *", timezone="Europe/Berlin").next_runs(1, since="2026-03-29T00:00:00Z")[0].isoformat()
'2026-03-29T01:00:00+00:00'
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from . import _engine
from ._errors import Fault, InvalidError

#: A length of time: a `timedelta`, seconds, or a text such as `1h30m`.
Duration = timedelta | float | int | str
#: An instant: a datetime with a zone, or a text with an offset.
Instant = datetime | str

_UNITS = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|w|d|h|m|s)[a-z]*\s*", re.IGNORECASE)


def _refuse(field_name: str, message: str, help_text: str = "") -> InvalidError:
    text = f"{field_name}: {message}" + (f"; {help_text}" if help_text else "")
    return InvalidError(text, (Fault(field_name, message, None, help_text),))


def seconds(value: Duration, name: str = "duration") -> float:
    """A length of time in seconds: a `timedelta`, a number of seconds, or a text such as `1h30m`.

    >>> seconds("1h30m"), seconds(timedelta(minutes=2)), seconds(0.5), seconds("10 minutes")
    (5400.0, 120.0, 0.5, 600.0)
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        text = value.strip().lower()
        try:
            return float(text)
        except ValueError:
            pass
        total, end = 0.0, 0
        for part in _PART.finditer(text):
            if part.start() != end:
                break
            total, end = total + float(part[1]) * _UNITS[part[2].lower()], part.end()
        if end == len(text) and end > 0:
            return total
    raise _refuse(name, f"{value!r} is no length of time", "give a timedelta, seconds, or a text: 1h30m")


def zone_name(zone: str | tzinfo | None, name: str = "timezone") -> str | None:
    """The IANA name of a time zone."""
    if zone is None or isinstance(zone, str):
        return zone
    if zone is timezone.utc:
        return "UTC"
    key = getattr(zone, "key", None) or getattr(zone, "zone", None) or str(zone)
    if isinstance(key, str) and (key == "UTC" or key in _engine.timezone_names()):
        return key
    raise _refuse(name, f"{zone!r} has no IANA name", "give a name such as Europe/Berlin, or a ZoneInfo")


def instant(value: Instant | date, zone: str | None = None, name: str = "instant") -> str:
    """An instant as the engine reads it. One without an offset is read in `zone`; without one, refused.

    >>> instant("2026-03-29T02:30:00", "Europe/Berlin")
    '2026-03-29T01:30:00.000Z'
    """
    if isinstance(value, str):
        text = value.strip()
        try:
            value = datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in "zZ" else text)
        except ValueError:
            raise _refuse(name, f"{value!r} is no instant", "such as 2026-01-02T03:04:05Z") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if value.tzinfo is None or value.utcoffset() is None:
        if zone is None:
            raise _refuse(
                name,
                f"{value.isoformat()} names no time zone",
                "give one with an offset, or the `timezone` of the schedule or scheduler",
            )
        # A time that is skipped is the same instant by the offset before it; a doubled one, the first.
        value = value.replace(tzinfo=ZoneInfo(zone), fold=0)
    utc = value.astimezone(timezone.utc)
    return utc.strftime("%Y-%m-%dT%H:%M:%S.") + f"{utc.microsecond // 1000:03d}Z"


def parse_instant(text: str) -> datetime:
    """An instant of the engine as a datetime with its zone, UTC."""
    return datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)


_S = TypeVar("_S", bound="Schedule")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What all schedules have: bounds, a limit, jitter and exclusions."""

    #: No due time before this instant, which may be one itself.
    start: Instant | date | None = None
    #: No due time after this instant, which may be one itself.
    end: Instant | date | None = None
    #: At most so many executions; then the job has ended. Retries and manual runs don't count.
    limit: int | None = None
    #: Each occurrence starts late by an offset of its own, from zero to below this; at most a day. The due
    #: time stays as it is.
    jitter: Duration | None = None
    #: Dates that are left out: `2026-12-24`, `2026-12-24/2026-12-31`.
    exclude_dates: tuple[str, ...] = ()
    #: Weekdays that are left out: `sat`, `sun`.
    exclude_weekdays: tuple[str, ...] = ()
    #: Names of shared calendars whose dates are left out.
    exclude_calendars: tuple[str, ...] = ()
    #: The IANA zone that local times and dates of the schedule are in.
    timezone: str | tzinfo | None = None

    def _recurrence(self) -> dict[str, Any]:
        raise NotImplementedError

    def document(self, default_timezone: str | None = None) -> dict[str, Any]:
        """The schedule as the engine reads it."""
        zone = zone_name(self.timezone) or default_timezone
        document = self._in(zone)
        for name, value in (("start", self.start), ("end", self.end)):
            if value is not None:
                document[name] = instant(value, zone, name)
        if self.limit is not None:
            document["limit"] = self.limit
        if self.jitter is not None:
            document["jitter_seconds"] = seconds(self.jitter, "jitter")
        exclude = {
            "dates": list(self.exclude_dates),
            "weekdays": list(self.exclude_weekdays),
            "calendars": list(self.exclude_calendars),
        }
        if any(exclude.values()):
            chosen: dict[str, Any] = {key: value for key, value in exclude.items() if value}
            if document["type"] != "cron" and zone is not None:
                chosen["timezone"] = zone
            document["exclude"] = chosen
        return document

    def _in(self, zone: str | None) -> dict[str, Any]:
        del zone
        return self._recurrence()

    def describe(self) -> str:
        """The schedule in words. Raises `InvalidError` when it can't be used."""
        return _engine.check_schedule(json.dumps(self.document("UTC")))

    def next_runs(self, n: int = 5, since: Instant | None = None) -> list[datetime]:
        """The next `n` due times after now or `since`, as datetimes in UTC; at most 10,000. Exclusion
        calendars, which are in a store, are left out of account."""
        given = None if since is None else instant(since, "UTC", "since")
        runs = json.loads(_engine.preview_schedule(json.dumps(self.document("UTC")), n, given))
        return [parse_instant(run["due"]) for run in runs]

    def between(self: _S, start: Instant | date | None = None, end: Instant | date | None = None) -> _S:
        """The same, not before `start` and not after `end`."""
        return replace(self, start=start or self.start, end=end or self.end)


@dataclass(frozen=True, init=False)
class Every(Schedule):
    """Due every so often: at anchor + n × period, in whole milliseconds, without drift.

    Without an `anchor` first due when the job is made, and from then on. With `from_completion` the period
    counts from the end of each execution: such a job drifts, and never overlaps.

    >>> Every("90s") == Every(seconds=90) == Every(timedelta(seconds=90))
    True
    """

    period: float
    anchor: Instant | None = None
    from_completion: bool = False

    def __init__(
        self,
        period: Duration | None = None,
        *,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        milliseconds: float = 0,
        anchor: Instant | None = None,
        from_completion: bool = False,
        **common: Any,
    ) -> None:
        parts = weeks * 604800 + days * 86400 + hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
        given = _seconds(period, "period") if period is not None else 0.0
        super().__init__(**common)
        object.__setattr__(self, "period", round(given + parts, 3))
        object.__setattr__(self, "anchor", anchor)
        object.__setattr__(self, "from_completion", from_completion)

    def _in(self, zone: str | None) -> dict[str, Any]:
        document: dict[str, Any] = {"type": "interval", "interval_seconds": self.period}
        if self.anchor is not None:
            document["anchor"] = instant(self.anchor, zone, "anchor")
        if self.from_completion:
            document["from_completion"] = True
        return document


_seconds = seconds


@dataclass(frozen=True)
class Cron(Schedule):
    """Due when the clock on the wall matches an expression: 5 fields, 6 with seconds first, 7 with years.

    The clock is that of `timezone`, else of the scheduler's, else UTC. Weekdays: 0 and 7 are Sunday.
    """

    expression: str
    #: What becomes of a local time that the clocks skip: `shift`, `skip`, `after`.
    gap: str = field(default="shift", kw_only=True)
    #: Which of a local time that comes twice counts: `first`, `second`, `both`.
    fold: str = field(default="first", kw_only=True)
    #: `standard`, or `croniter`: seconds last.
    dialect: str = field(default="standard", kw_only=True)

    def _in(self, zone: str | None) -> dict[str, Any]:
        return {
            "type": "cron",
            "expression": self.expression,
            "timezone": zone or "UTC",
            "dialect": self.dialect,
            "gap": self.gap,
            "overlap": self.fold,
        }


@dataclass(frozen=True)
class At(Schedule):
    """Due once, at an instant; at once, when that has passed."""

    at: Instant

    def __post_init__(self) -> None:
        if isinstance(self.at, str):
            instant(self.at, "UTC", "at")

    def _in(self, zone: str | None) -> dict[str, Any]:
        return {"type": "once", "at": instant(self.at, zone, "at")}


@dataclass(frozen=True)
class Manual(Schedule):
    """Due only when triggered, by hand or by another job."""

    def _in(self, zone: str | None) -> dict[str, Any]:
        return {"type": "manual"}


#: What can say when a job is due.
Trigger = Schedule | timedelta | datetime | str | None
