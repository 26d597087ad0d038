"""Schedules and APScheduler's forms of them."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.cron import CronTrigger
from unified_scheduler_engine import At, Cron, Every, InvalidError, Manual
from unified_scheduler_engine._triggers import schedule_of
from unified_scheduler_engine.schedules import instant, seconds

BERLIN = ZoneInfo("Europe/Berlin")


def test_lengths_of_time_are_read_in_every_form() -> None:
    for value in (timedelta(minutes=90), 5400, 5400.0, "5400", "1h30m", "90 min", "1 hour 30 minutes"):
        assert seconds(value) == 5400
    for bad in ("soon", "1x", "", None, True, "1h !"):
        with pytest.raises(InvalidError):
            seconds(bad)  # type: ignore[arg-type]


def test_a_time_without_a_zone_is_read_in_the_schedules_zone_or_refused() -> None:
    assert instant(datetime(2026, 7, 1, 12), "Europe/Berlin") == "2026-07-01T10:00:00.000Z"
    assert instant(datetime(2026, 7, 1, 12, tzinfo=BERLIN)) == "2026-07-01T10:00:00.000Z"
    assert instant(date(2026, 7, 1), "UTC") == "2026-07-01T00:00:00.000Z"
    for naive in (datetime(2026, 7, 1), "2026-07-01T00:00:00"):
        with pytest.raises(InvalidError, match="names no time zone"):
            instant(naive)
    with pytest.raises(InvalidError, match="names no time zone"):
        At(datetime(2026, 7, 1)).document()
    at = At(datetime(2026, 7, 1, 12), timezone="Europe/Berlin")
    assert at.document()["at"] == "2026-07-01T10:00:00.000Z"
    assert at.document("America/New_York") == at.document()


def test_bounds_jitter_and_exclusions_stand_in_the_document() -> None:
    document = Every(
        hours=1,
        start="2026-01-01T00:00:00Z",
        end=datetime(2026, 2, 1, tzinfo=timezone.utc),
        jitter="10s",
        limit=5,
        exclude_weekdays=("sat", "sun"),
        timezone=BERLIN,
    ).document()
    assert document["interval_seconds"] == 3600 and document["jitter_seconds"] == 10
    assert document["start"] < document["end"] and document["limit"] == 5
    assert document["exclude"] == {"weekdays": ["sat", "sun"], "timezone": "Europe/Berlin"}


def test_a_fault_says_where_it_is() -> None:
    with pytest.raises(InvalidError) as caught:
        Cron("0 25 * * *").describe()
    (fault,) = caught.value.faults
    assert fault.field == "expression" and fault.position == 2
    with pytest.raises(InvalidError):
        Cron("0 3 * * *", timezone="Mars/Olympus").describe()


def test_daylight_saving_is_the_engines() -> None:
    runs = Cron("30 2 * * *", timezone="Europe/Berlin").next_runs(2, since="2026-03-28T12:00:00Z")
    assert [f"{run:%d %H:%M}" for run in runs] == ["29 01:30", "30 00:30"]


@pytest.mark.parametrize(
    ("trigger", "keywords", "expected"),
    [
        ("interval", {"hours": 1, "minutes": 30}, Every("1h30m")),
        ("interval", {"seconds": 5, "jitter": 2}, Every(5, jitter=2)),
        (None, {"minutes": 5}, Every("5m")),
        (timedelta(days=1), {}, Every(days=1)),
        ("every 10 minutes", {}, Every(600)),
        ("10m", {}, Every(600)),
        ("date", {"run_date": "2026-01-01T00:00:00Z"}, At("2026-01-01T00:00:00Z")),
        ("2026-01-01T00:00:00Z", {}, At("2026-01-01T00:00:00Z")),
        ("0 3 * * *", {"timezone": "Europe/Berlin"}, Cron("0 3 * * *", timezone="Europe/Berlin")),
        ("@daily", {}, Cron("@daily")),
        ("cron", {"hour": 3}, Cron("0 0 3 * * *")),
        ("cron", {"minute": "*/5"}, Cron("0 */5 * * * *")),
        ("cron", {"day_of_week": 0, "hour": 3}, Cron("0 0 3 * * MON")),
        ("cron", {"day_of_week": "mon-fri", "hour": "8-17", "minute": 30}, Cron("0 30 8-17 * * MON-FRI")),
        ("cron", {"day": "last"}, Cron("0 0 0 L * *")),
        ("cron", {"day": "2nd fri", "hour": 6}, Cron("0 0 6 * * 5#2")),
        ("cron", {"day": "last sun"}, Cron("0 0 0 * * 0L")),
        ("cron", {"month": "1-3"}, Cron("0 0 0 1 1-3 *")),
        ("cron", {"year": 2027, "hour": 3}, Cron("0 0 3 * * * 2027")),
        (None, {}, Manual()),
    ],
)
def test_apscheduler_keywords_and_texts_are_understood(
    trigger: Any, keywords: dict[str, Any], expected: Any
) -> None:
    schedule = schedule_of(trigger, keywords)
    assert schedule == expected
    assert schedule.describe()


@pytest.mark.parametrize(
    ("trigger", "keywords"),
    [
        ("cron", {"week": 5}),
        ("cron", {"day": 1, "day_of_week": "mon"}),
        ("interval", {"hour": 3}),
        ("cron", {"hours": 3}),
        ("date", {}),
        (Every(5), {"minutes": 1}),
        (object(), {}),
        ("nonsense", {}),
    ],
)
def test_what_cannot_be_meant_is_refused(trigger: Any, keywords: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        schedule_of(trigger, keywords)


@pytest.mark.parametrize(
    "fields",
    [
        {"hour": 3},
        {"hour": "*/6", "minute": 15},
        {"day_of_week": "mon,wed", "hour": 9, "minute": 30},
        {"day": "last", "hour": 1},
        {"day": "1st mon", "hour": 1},
        {"day": "last fri", "hour": 1},
        {"month": "2", "day": "28"},
        {"second": "*/20"},
        {"minute": "5-10"},
        {"day_of_week": "6", "hour": 0},
        {"day_of_week": "sat-sun", "hour": 0},
    ],
)
def test_due_times_are_those_of_apscheduler(fields: dict[str, Any]) -> None:
    theirs = CronTrigger(timezone="UTC", **fields)
    since = datetime(2026, 1, 31, 23, 59, 30, tzinfo=timezone.utc)
    expected, previous = [], None
    now = since
    for _ in range(8):
        previous = theirs.get_next_fire_time(previous, now)
        assert previous is not None
        expected.append(previous.astimezone(timezone.utc))
        now = previous + timedelta(microseconds=1)
    assert schedule_of("cron", fields).next_runs(8, since=since) == expected
    assert schedule_of(theirs, {}).next_runs(8, since=since) == expected
