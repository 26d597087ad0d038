"""From what people give as a trigger to a schedule: ours, `timedelta`, texts, and APScheduler 3's forms."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

from ._errors import Fault, InvalidError
from .schedules import At, Cron, Every, Manual, Schedule, Trigger, seconds

#: Keywords of `add_job` that belong to the trigger, by its APScheduler name.
INTERVAL = ("weeks", "days", "hours", "minutes", "seconds")
CRON = ("year", "month", "day", "week", "day_of_week", "hour", "minute", "second")
#: What goes with every trigger, and its name here.
OURS = {"start_date": "start", "end_date": "end", "jitter": "jitter", "timezone": "timezone"}
KEYWORDS = frozenset((*INTERVAL, *CRON, *OURS, "run_date"))

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MINIMUM = {"month": "1", "day": "1", "day_of_week": "*", "hour": "0", "minute": "0", "second": "0"}
_NTH = {"1st": "1", "2nd": "2", "3rd": "3", "4th": "4", "5th": "5"}


def _refuse(name: str, message: str, help_text: str = "") -> InvalidError:
    text = f"{name}: {message}" + (f"; {help_text}" if help_text else "")
    return InvalidError(text, (Fault(name, message, None, help_text),))


def schedule_of(trigger: Trigger | Any, keywords: dict[str, Any]) -> Schedule:
    """The schedule for a trigger and the keywords that go with it.

    >>> schedule_of("interval", {"minutes": 5}) == Every(minutes=5)
    True
    >>> schedule_of("cron", {"hour": 3, "day_of_week": "mon-fri"}).expression
    '0 0 3 * * MON-FRI'
    >>> schedule_of("*/5 * * * *", {}).expression
    '*/5 * * * *'
    """
    given = {key: value for key, value in keywords.items() if value is not None}
    common: dict[str, Any] = {}
    for theirs, ours in OURS.items():
        if theirs in given:
            common[ours] = given.pop(theirs)
    if isinstance(trigger, Schedule):
        _nothing_left(given, type(trigger).__name__)
        return _with(trigger, common)
    if isinstance(trigger, timedelta):
        _nothing_left(given, "a timedelta")
        return Every(trigger, **common)
    if isinstance(trigger, datetime):
        _nothing_left(given, "a datetime")
        return At(trigger, **common)
    if trigger is None:
        trigger = _kind_of(given)
    if not isinstance(trigger, str):
        converted = from_apscheduler(trigger)
        if converted is None:
            raise _refuse("trigger", f"{trigger!r} is no trigger", "use Every, Cron, At or a text")
        return _with(converted, common)
    return _from_text(trigger, given, common)


def _kind_of(given: dict[str, Any]) -> str:
    if "run_date" in given:
        return "date"
    if any(key in given for key in INTERVAL):
        return "interval"
    if any(key in given for key in CRON):
        return "cron"
    return "manual"


def _from_text(trigger: str, given: dict[str, Any], common: dict[str, Any]) -> Schedule:
    word = trigger.strip()
    if word == "manual":
        _nothing_left(given, word)
        return Manual(**common)
    if word == "interval":
        parts = {key: given.pop(key) for key in INTERVAL if key in given}
        _nothing_left(given, word)
        return Every(**parts, **common) if parts else Every(seconds=1, **common)
    if word == "date":
        at = given.pop("run_date", None)
        _nothing_left(given, word)
        if at is None:
            raise _refuse("run_date", "is missing", "say when; to run at once, use `trigger` of a manual job")
        return At(at, **common)
    if word == "cron":
        keywords = {key: given.pop(key) for key in CRON if key in given}
        _nothing_left(given, word)
        return Cron(cron_expression(keywords), **common)
    _nothing_left(given, word)
    if word.lower().startswith("every "):
        return Every(seconds(word[6:], "trigger"), **common)
    if word.startswith("@") or len(word.split()) >= 5:
        return Cron(word, **common)
    try:
        period = seconds(word, "trigger")
    except InvalidError:
        pass
    else:
        return Every(period, **common)
    try:
        return At(word, **common)
    except InvalidError:
        help_text = "such as `0 3 * * *`, `@daily`, `every 2 hours`, `90s` or `2026-01-02T03:04:05Z`"
        raise _refuse("trigger", f"{trigger!r} says no time", help_text) from None


def _nothing_left(given: dict[str, Any], trigger: str) -> None:
    if given:
        names = ", ".join(sorted(given))
        raise _refuse(next(iter(sorted(given))), f"{names} can't go with {trigger}")


def _with(schedule: Schedule, common: dict[str, Any]) -> Schedule:
    if not common:
        return schedule
    values = {f.name: getattr(schedule, f.name) for f in fields(schedule)}
    values.update(common)
    return type(schedule)(**values)


def cron_expression(keywords: dict[str, Any]) -> str:
    """APScheduler's cron keywords as an expression with seconds first (and the year last).

    What is less significant than the least one given is at its minimum, the others match anything. Weekday
    0 is Monday there and Sunday here, so weekdays are written by name.
    """
    if keywords.get("week") not in (None, "*"):
        raise _refuse("week", "weeks of the year can't be asked for", "use day_of_week")
    order = ("year", "month", "day", "day_of_week", "hour", "minute", "second")
    given = {key: str(value).strip() for key, value in keywords.items() if key != "week"}
    places = [i for i, key in enumerate(order) if key in given]
    last = max(places, default=-1)
    values = {key: given.get(key, "*" if i < last else _MINIMUM.get(key, "*")) for i, key in enumerate(order)}
    # A weekday leaves the day of the month open, as a day does with the weekday.
    if "day" not in given and "day_of_week" in given:
        values["day"] = "*"
    day, weekday = _day(values["day"], values["day_of_week"])
    expression = f"{values['second']} {values['minute']} {values['hour']} {day} {values['month']} {weekday}"
    return expression if values["year"] == "*" else f"{expression} {values['year']}"


def _day(day: str, weekday: str) -> tuple[str, str]:
    lowered = day.lower()
    if lowered == "last":
        day = "L"
    elif " " in lowered:
        which, _, name = lowered.partition(" ")
        if name[:3] not in _DAYS or (which not in _NTH and which != "last"):
            raise _refuse("day", f"`{day}` can't be read", "such as `2nd fri` or `last sun`")
        if weekday != "*":
            raise _refuse("day_of_week", f"can't go with `{day}`")
        number = str((_DAYS.index(name[:3]) + 1) % 7)
        return "*", f"{number}L" if which == "last" else f"{number}#{_NTH[which]}"
    if day != "*" and weekday != "*":
        raise _refuse(
            "day_of_week",
            "with a day of the month, APScheduler demands both, and cron either",
            "give one of them, and leave days out with exclude_weekdays",
        )
    return day, _weekdays(weekday)


def _weekdays(text: str) -> str:
    if text == "*":
        return text
    parts: list[str] = []
    for part in text.lower().split(","):
        span, slash, step = part.strip().partition("/")
        names = [_weekday(name) for name in span.split("-")] if span != "*" else ["*"]
        parts.append("-".join(names) + slash + step)
    return ",".join(parts)


def _weekday(name: str) -> str:
    name = name.strip()
    if name.isdigit() and int(name) < 7:
        return _DAYS[int(name)].upper()
    if name[:3] in _DAYS:
        return name[:3].upper()
    raise _refuse("day_of_week", f"`{name}` is no weekday", "use mon to sun, or 0 (Monday) to 6")


def from_apscheduler(trigger: Any) -> Schedule | None:
    """An APScheduler 3 trigger object as a schedule; `None` for what is none."""
    kind = type(trigger).__name__
    common: dict[str, Any] = {}
    for theirs, ours in OURS.items():
        value = getattr(trigger, theirs, None)
        if value is not None:
            common[ours] = value
    if kind == "IntervalTrigger":
        anchor = common.get("start")
        return Every(trigger.interval, anchor=anchor, **common)
    if kind == "DateTrigger":
        return At(trigger.run_date)
    if kind == "CronTrigger":
        keywords = {f.name: str(f) for f in trigger.fields if not f.is_default}
        return Cron(cron_expression(keywords), **common)
    return None
