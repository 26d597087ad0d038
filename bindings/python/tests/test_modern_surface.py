"""Everything that the modern surface promises is there, under its names and APScheduler's, and works."""

from __future__ import annotations

import inspect
import logging
from datetime import date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import unified_scheduler
from unified_scheduler_engine import (
    At,
    Context,
    Cron,
    Every,
    InvalidError,
    Manual,
    ProcessContext,
    Scheduler,
    SchedulerError,
    SyncScheduler,
)
from unified_scheduler_engine.testing import TestScheduler

#: What a scheduler can be asked for, each also as a method that blocks.
VERBS = (
    "add_job", "cancel", "create_job", "doctor", "execution", "explain", "get_job", "get_jobs", "handler",
    "job", "jobs", "logs", "modify_job", "next_runs", "nodes", "on", "pause", "pause_job",
    "register_template", "remove", "remove_job", "remove_listener", "add_listener", "reschedule",
    "reschedule_job", "resume",
    "resume_job", "retry", "runs", "scheduled_job", "shutdown", "skip_date", "skip_next", "start", "status",
    "stop", "template", "templates", "trigger", "unregister", "verify", "wait_for", "wait_stopped",
)  # fmt: skip

#: What a handler finds in its context.
CONTEXT = (
    "attempt", "cancelled", "debug", "due_at", "error", "execution_id", "idempotency_key", "info", "job_id",
    "job_name", "log", "parameters", "progress", "triggered_by", "warning",
)  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_is_there_and_has_a_blocking_twin(verb: str) -> None:
    assert callable(getattr(Scheduler, verb))
    twin = getattr(SyncScheduler, verb)
    assert callable(twin)
    assert not inspect.iscoroutinefunction(twin)
    assert getattr(Scheduler, verb).__doc__


def test_each_kind_of_context_has_what_handlers_ask_for() -> None:
    for kind in (Context, ProcessContext):
        have = set(dir(kind)) | set(getattr(kind, "__dataclass_fields__", ()))
        assert set(CONTEXT) <= have, kind


def test_both_names_have_all_of_it() -> None:
    names = {"Scheduler", "Every", "Cron", "At", "Manual", "Retry", "RetryLater", "Overlap", "Misfire"}
    names |= {"Chain", "History", "Result", "Context", "SyncScheduler"}
    assert names <= set(unified_scheduler.__all__)
    errors = [
        getattr(unified_scheduler, name) for name in unified_scheduler.__all__ if name.endswith("Error")
    ]
    ours = [error for error in errors if error.__name__ != "ProcessDiedError"]
    assert len(ours) >= 9
    assert all(issubclass(error, SchedulerError) for error in ours)


DUE = datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("trigger", "options", "schedule", "fields"),
    [
        ("interval", {"minutes": 5, "jitter": 10}, {"interval_seconds": 300, "jitter_seconds": 10}, {}),
        ("interval", {"hours": 1, "start_date": DUE}, {"start": "2030-01-02T03:04:05.000Z"}, {}),
        ("interval", {"hours": 1, "end_date": DUE}, {"end": "2030-01-02T03:04:05.000Z"}, {}),
        ("cron", {"hour": 3, "timezone": "Asia/Kolkata"}, {"timezone": "Asia/Kolkata"}, {}),
        ("cron", {"hour": 3, "timezone": ZoneInfo("Asia/Kolkata")}, {"timezone": "Asia/Kolkata"}, {}),
        ("date", {"run_date": DUE}, {"type": "once", "at": "2030-01-02T03:04:05.000Z"}, {}),
        ("interval", {"hours": 1, "misfire_grace_time": 60}, {}, {"misfire": ("policy", "skip")}),
        ("interval", {"hours": 1, "misfire_grace_time": None}, {}, {"misfire": ("policy", "run_once")}),
        ("interval", {"hours": 1, "coalesce": False}, {}, {"misfire": ("policy", "run_all")}),
        ("interval", {"hours": 1, "max_instances": 3}, {}, {"overlap": ("max", 3)}),
        ("interval", {"hours": 1, "jobstore": "default", "executor": "default"}, {"type": "interval"}, {}),
    ],
)
async def test_the_arguments_of_apscheduler_3_are_accepted(
    scheduler: Scheduler,
    trigger: str,
    options: dict[str, Any],
    schedule: dict[str, Any],
    fields: dict[str, tuple[str, Any]],
) -> None:
    async with scheduler:
        job = await (await scheduler.add_job(print, trigger, args=["x"], id="a", **options)).get()
        assert {key: job.schedule.get(key) for key in schedule} == schedule
        for name, (key, value) in fields.items():
            assert job.document[name][key] == value


async def test_apscheduler_names_of_one_job_id_next_run_time_args_kwargs_replace_existing(
    scheduler: Scheduler,
) -> None:
    def greet(whom: str, *, how: str = "hello") -> str:
        return f"{how} {whom}"

    async with scheduler:
        later = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=5)
        scheduler.add_job(greet, "interval", ["a"], {"how": "hi"}, "one", "One", hours=6, next_run_time=later)
        await scheduler.settled()
        assert (await scheduler.job_of("one")).next_run_time == later
        run = await scheduler.wait_for(await scheduler.trigger("one"))
        assert run.message == "hi a"
        replaced = scheduler.add_job(
            lambda: "other", "interval", id="one", hours=6, replace_existing=True, name="One"
        )
        await replaced
        assert (await scheduler.wait_for(await scheduler.trigger("one"))).message == "other"
        assert (await scheduler.job_of("one")).next_run_time == later, "it keeps its due time"
        assert [job.name for job in await scheduler.get_jobs()] == ["one"]


def test_times_without_a_zone_are_read_in_the_schedules_zone_or_refused() -> None:
    naive = datetime(2030, 7, 1, 12)
    assert At(naive, timezone="Asia/Kolkata").document(None)["at"] == "2030-07-01T06:30:00.000Z"
    for schedule in (At(naive), Every(hours=1, start=naive), Every(hours=1, anchor=naive)):
        with pytest.raises(InvalidError, match="zone"):
            schedule.document(None)
    assert Cron("0 3 * * *", timezone="Europe/Berlin", start=date(2030, 7, 1)).document(None)["start"] == (
        "2030-06-30T22:00:00.000Z"
    )


async def test_what_is_no_option_is_refused_by_name(scheduler: Scheduler) -> None:
    with pytest.raises(InvalidError, match="misfire_grace"):
        scheduler.add_job(print, Manual(), misfire_grace=3)  # type: ignore[call-arg]
    with pytest.raises(InvalidError, match="executor"):
        scheduler.add_job(print, Manual(), executor="rocket")


async def test_the_fixture_of_pytest_is_a_clock_by_hand(test_scheduler: TestScheduler) -> None:
    ran: list[datetime] = []

    @test_scheduler.job(Cron("0 3 * * *"))
    async def nightly(ctx: Context) -> None:
        ran.append(ctx.due_at)

    async with test_scheduler:
        await test_scheduler.advance(days=3)
    assert [due.day for due in ran] == [1, 2, 3]


async def test_what_happens_is_told_through_logging(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    @scheduler.job(Manual())
    async def fails() -> None:
        raise ValueError("out of paper")

    @scheduler.on("execution_ended")
    def broken(event: Any) -> None:
        raise RuntimeError("a listener of somebody")

    with caplog.at_level(logging.DEBUG, "unified_scheduler"):
        async with scheduler:
            await scheduler.wait_for(await scheduler.trigger("fails"))
    assert any(record.name.startswith("unified_scheduler") for record in caplog.records)
    assert "a listener failed on execution_ended" in caplog.text
