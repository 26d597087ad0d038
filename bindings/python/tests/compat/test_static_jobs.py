"""Static jobs, over the engine with a store in a file."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from unified_scheduler_engine import Scheduler
from unified_scheduler_engine.compat import (
    ScheduledJob,
    UnifiedScheduler,
)
from waiting import Count, at_rest, engine_of, until


async def test_a_static_job_runs_at_once_and_then_at_its_interval(scheduler: UnifiedScheduler) -> None:
    count = Count()
    scheduler.add_job("count", 0.3, count)
    assert scheduler.get_job_status()[0]["last_run"] is None
    await scheduler.start()
    await until(lambda: count.n >= 3)
    status = scheduler.get_job_status()[0]
    assert [*status][:5] == ["name", "enabled", "interval_seconds", "last_run", "next_run"]
    assert status["name"] == "count"
    assert datetime.fromisoformat(status["last_run"]).tzinfo is None
    assert "+" not in status["next_run"]


async def test_every_write_to_a_job_counts_at_once(scheduler: UnifiedScheduler) -> None:
    count, other = Count(), Count()
    scheduler.add_job("count", 0.1, count)
    engine = await engine_of(scheduler)
    await until(lambda: count.n >= 2)
    assert "count" in scheduler.jobs
    assert len(scheduler.jobs) == 1
    job = scheduler.jobs["count"]
    job.enabled = False
    await until(lambda: is_stored(engine, enabled=False))
    await at_rest(engine, "count")
    before = count.n
    await asyncio.sleep(0.4)
    assert count.n == before
    assert not job.should_run()
    job.enabled = True
    await until(lambda: count.n > before)
    job.interval_seconds = 3600
    await until(lambda: is_stored(engine, interval=3600))
    await at_rest(engine, "count")
    before = count.n
    await asyncio.sleep(0.4)
    assert count.n == before
    job.next_run = datetime(2020, 1, 1)
    await until(lambda: count.n > before)
    job.func = other
    job.interval_seconds = 0.1
    await until(lambda: other.n >= 2)
    del scheduler.jobs["count"]

    async def is_gone() -> bool:
        return await engine.get_job("static:count") is None and not await engine.runs(status="running")

    await until(is_gone)
    before = other.n
    await asyncio.sleep(0.3)
    assert other.n == before


async def is_stored(
    engine: Scheduler, *, enabled: bool | None = None, interval: float | None = None, due: Any = None
) -> bool:
    """Whether the store has been told that the job `count` is so."""
    stored = await engine.job_of("static:count")
    return (
        enabled in (None, stored.enabled)
        and interval in (None, stored.schedule["interval_seconds"])
        and (due is None or stored.next_run_time == due.replace(tzinfo=timezone.utc))
    )


async def test_a_due_time_set_in_the_future_is_the_next(scheduler: UnifiedScheduler) -> None:
    count = Count()
    scheduler.add_job("count", 3600, count)
    engine = await engine_of(scheduler)
    await until(lambda: count.n == 1)
    due = (datetime.fromisoformat(scheduler.get_job_status()[0]["next_run"]) + timedelta(hours=5)).replace(
        microsecond=0
    )
    scheduler.jobs["count"].next_run = due
    await until(lambda: is_stored(engine, due=due))


async def test_jobs_that_are_unknown_are_ignored(scheduler: UnifiedScheduler) -> None:
    scheduler.remove_job("nobody")
    scheduler.enable_job("nobody")
    scheduler.disable_job("nobody")
    assert scheduler.get_job_status() == []


async def test_jobs_are_added_replaced_and_removed_while_it_runs(scheduler: UnifiedScheduler) -> None:
    first, second = Count(), Count()
    await scheduler.start()
    scheduler.add_job("a", 0.1, first)
    await until(lambda: first.n >= 2)
    scheduler.add_job("a", 0.1, second)
    await until(lambda: second.n >= 2)
    before = first.n
    scheduler.jobs["b"] = ScheduledJob("b", 5, Count())
    assert list(scheduler.jobs) == ["a", "b"]
    scheduler.remove_job("a")
    await asyncio.sleep(0.2)
    assert first.n == before
    assert [job["name"] for job in scheduler.get_job_status()] == ["b"]


async def test_a_job_that_is_added_disabled_does_not_run_until_it_is_enabled(
    scheduler: UnifiedScheduler,
) -> None:
    count = Count()
    scheduler.add_job("count", 0.1, count)
    scheduler.disable_job("count")
    await engine_of(scheduler)
    await asyncio.sleep(0.4)
    assert count.n == 0
    scheduler.enable_job("count")
    await until(lambda: count.n >= 2)


async def test_run_job_runs_now_even_what_is_disabled_and_never_raises(
    scheduler: UnifiedScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    count = Count()

    async def fails() -> None:
        raise ValueError("broken")

    scheduler.add_job("count", 3600, count)
    scheduler.add_job("fails", 3600, fails)
    scheduler.disable_job("count")
    scheduler.disable_job("fails")
    await scheduler.run_job(scheduler.jobs["count"])
    assert count.n == 1
    await engine_of(scheduler)
    await asyncio.create_task(scheduler.run_job(scheduler.jobs["count"]))
    assert count.n == 2
    assert scheduler.jobs["count"].last_run is not None
    await scheduler.run_job(scheduler.jobs["fails"])
    assert "broken" in caplog.text
    assert "Traceback" in caplog.text
    await scheduler.run_job(ScheduledJob("loose", 5, count))
    assert count.n == 3
    # It stays scheduled.
    assert "fails" in scheduler.jobs


async def test_a_function_runs_exactly_once_whatever_is_said_of_it(scheduler: UnifiedScheduler) -> None:
    ran: list[str] = []
    here = threading.get_ident()

    def plain() -> None:
        assert threading.get_ident() != here
        ran.append("plain")

    async def coroutine() -> None:
        assert threading.get_ident() == here
        ran.append("coroutine")

    scheduler.add_job("plain", 3600, plain, is_async=True)
    scheduler.add_job("coroutine", 3600, coroutine, is_async=False)
    scheduler.add_job("partial", 3600, functools.partial(coroutine))
    scheduler.add_job("lambda", 3600, lambda: coroutine(), is_async=True)
    await scheduler.start()
    await until(lambda: len(ran) >= 4)
    await asyncio.sleep(0.2)
    assert sorted(ran) == ["coroutine", "coroutine", "coroutine", "plain"]


async def test_starts_and_ends_of_jobs_are_not_logged_above_debug(
    scheduler: UnifiedScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    count = Count()
    scheduler.add_job("a job of its own", 0.1, count)
    await scheduler.start()
    await until(lambda: count.n >= 3)
    assert "a job of its own" not in caplog.text


async def test_a_job_of_this_process_needs_no_database() -> None:
    scheduler = UnifiedScheduler(None, scope="process")
    first, second = Count(), Count()
    scheduler.add_job("first", 0.1, first)
    await scheduler.start()
    scheduler.add_job("second", 0.1, second)
    await until(lambda: first.n >= 2 and second.n >= 2)
    await scheduler.stop()


@pytest.mark.parametrize("seconds", [0, -1, None, "60", float("nan")])
async def test_an_interval_is_a_number_above_zero(scheduler: UnifiedScheduler, seconds: Any) -> None:
    with pytest.raises(ValueError, match="interval_seconds"):
        scheduler.add_job("a", seconds, Count())
