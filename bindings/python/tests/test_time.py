"""The scheduler whose time is moved by hand."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone

import pytest
from unified_scheduler_engine import Context, Cron, Every, Manual
from unified_scheduler_engine.testing import TestScheduler


async def test_an_hour_of_seconds_passes_quickly_and_exactly(test_scheduler: TestScheduler) -> None:
    seen: list[datetime] = []

    @test_scheduler.job(Every(seconds=10))
    async def tick(ctx: Context) -> None:
        assert ctx.now == ctx.due_at
        seen.append(ctx.due_at)

    async with test_scheduler:
        now = await test_scheduler.advance(hours=1)
    assert now == datetime(2026, 1, 1, 1, tzinfo=timezone.utc)
    assert len(seen) == 361 and seen == sorted(set(seen))


async def test_time_passes_in_ctx_sleep_and_stands_still_in_a_thread(test_scheduler: TestScheduler) -> None:
    order: list[str] = []

    @test_scheduler.job(Manual())
    async def sleeper(ctx: Context) -> str:
        before = ctx.now
        await ctx.sleep(1800)
        order.append("slept")
        return str((ctx.now - before).total_seconds())

    @test_scheduler.job(Manual())
    def plain(ctx: Context) -> None:
        before = ctx.now
        import time

        time.sleep(0.05)
        assert ctx.now == before
        order.append("plain")

    async with test_scheduler:
        await test_scheduler.trigger("sleeper")
        await test_scheduler.trigger("plain")
        await test_scheduler.advance(hours=2)
        runs = await test_scheduler.executions()
        assert [run.status for run in runs] == ["success", "success"], runs
        assert runs[0].message == "1800.0"
    assert order == ["plain", "slept"]


async def test_a_timeout_by_the_manual_clock(test_scheduler: TestScheduler) -> None:
    @test_scheduler.job(Manual(), timeout="10m")
    async def slow(ctx: Context) -> None:
        while not ctx.cancelled:
            await ctx.sleep(60)

    async with test_scheduler:
        await test_scheduler.trigger("slow")
        await test_scheduler.advance(hours=1)
        (run,) = await test_scheduler.executions("slow")
        assert run.status == "timeout" and run.duration == 600.0


async def test_a_handler_may_use_the_scheduler(test_scheduler: TestScheduler) -> None:
    @test_scheduler.job(Cron("0 * * * *"))
    async def hourly() -> None:
        await test_scheduler.trigger("other")

    @test_scheduler.job(Manual())
    async def other() -> None: ...

    async with test_scheduler:
        await test_scheduler.advance(hours=3)
        assert len(await test_scheduler.executions("other")) == 3


async def test_the_machine_sleeps_and_one_run_stands_for_all(test_scheduler: TestScheduler) -> None:
    @test_scheduler.job(Every(minutes=1))
    async def tick() -> None: ...

    async with test_scheduler:
        await test_scheduler.jump(hours=1)
        runs = await test_scheduler.executions("tick")
        assert [run.n_occurrences for run in runs] == [1, 60]
        assert (await test_scheduler.verify()).is_whole


async def test_a_handler_that_waits_for_something_real_is_an_error_after_a_while() -> None:
    event = asyncio.Event()
    scheduler = TestScheduler(patience=0.3)

    @scheduler.job(Manual())
    async def waits() -> None:
        await event.wait()

    await scheduler.start()
    run = scheduler.core.begin("run_job", id="static:waits")
    await run
    with pytest.raises(TimeoutError, match=r"ctx\.sleep"):
        await scheduler.advance(1)
    event.set()
    await scheduler.stop()
