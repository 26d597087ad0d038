"""Time-outs and cancellation, on the loop, in threads, in processes."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from unified_scheduler_engine import Context, Execution, Manual, ProcessContext, Scheduler


async def ended(scheduler: Scheduler, execution: Execution) -> Execution:
    return await scheduler.wait_for(execution, timeout=10)


async def test_a_timeout_cancels_a_coroutine_and_its_finally_runs(scheduler: Scheduler) -> None:
    seen: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("finally")

    async with scheduler:
        job = await scheduler.add_job(slow, Manual(), timeout=0.1)
        run = await ended(scheduler, await job.trigger())
    assert (run.status, seen) == ("timeout", ["finally"])


async def test_a_cancelled_coroutine_that_answers_in_time_keeps_its_result(scheduler: Scheduler) -> None:
    async def stubborn(ctx: Context) -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            assert ctx.cancelled
        return "tidied up"

    async with scheduler:
        job = await scheduler.add_job(stubborn, Manual())
        run = await job.trigger()
        while (await scheduler.runs("stubborn"))[0].status != "running":
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert await scheduler.cancel(run) == "requested"
        done = await ended(scheduler, run)
    assert (done.status, done.message) == ("success", "tidied up")


async def test_a_thread_that_cannot_be_stopped_is_recorded_at_once_and_its_late_result_dropped(
    scheduler: Scheduler,
) -> None:
    release, finished = threading.Event(), threading.Event()

    def deaf() -> str:
        release.wait(20)
        finished.set()
        return "too late"

    async with scheduler:
        job = await scheduler.add_job(deaf, Manual(), timeout=0.1)
        began = time.monotonic()
        run = await ended(scheduler, await job.trigger())
        assert run.status == "timeout" and time.monotonic() - began < 2
        # Not started again before the thread ends.
        again = await ended(scheduler, await job.trigger())
        assert again.status == "skipped" and "still runs" in again.message
        release.set()
        assert await asyncio.to_thread(finished.wait, 5)
        await asyncio.sleep(0.05)
        release.clear()
        found = await scheduler.execution(run)
        assert found is not None and found.status == "timeout" and found.message == ""
        release.set()
        assert (await ended(scheduler, await job.trigger())).message == "too late"


async def test_stuck_threads_take_nobodys_place(scheduler: Scheduler) -> None:
    release = threading.Event()
    scheduler = Scheduler("memory:", max_threads=1, stop_grace=0.1)

    def stuck(n: int) -> None:
        release.wait(20)

    def quick() -> str:
        return "done"

    async with scheduler:
        for n in range(3):
            job = await scheduler.add_job(stuck, Manual(), args=[n], id=f"stuck{n}", timeout=0.1)
            assert (await ended(scheduler, await job.trigger())).status == "timeout"
        job = await scheduler.add_job(quick, Manual())
        assert (await ended(scheduler, await job.trigger())).message == "done"
        release.set()


async def test_a_handler_that_blocks_the_loop_delays_no_thread_and_loses_no_lease(database: str) -> None:
    times: list[float] = []
    scheduler = Scheduler(database, lease=1.5, stop_grace=0.2)

    async def blocks() -> None:
        time.sleep(3)

    def tick() -> None:
        times.append(time.monotonic())

    async with scheduler:
        await scheduler.add_job(tick, "interval", seconds=0.2)
        job = await scheduler.add_job(blocks, Manual())
        before = len(times)
        run = await job.trigger()
        await asyncio.sleep(0.1)
        done = await ended(scheduler, run)
        assert done.status == "success"
        assert len(times) - before >= 10
        assert await scheduler.runs(status="lost") == []


async def test_the_pool_is_bounded_and_grows_on_demand() -> None:
    running, most = 0, 0
    lock = threading.Lock()

    def work(n: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1

    async with Scheduler("memory:", max_threads=4) as scheduler:
        jobs = [await scheduler.add_job(work, Manual(), args=[n], id=f"w{n}") for n in range(12)]
        runs = [await job.trigger() for job in jobs]
        for run in runs:
            assert (await ended(scheduler, run)).ok
    assert most == 4


async def test_a_plain_function_that_returns_a_coroutine_is_run_once(scheduler: Scheduler) -> None:
    seen: list[str] = []

    async def inner() -> str:
        seen.append(threading.current_thread().name)
        return "inner"

    async with scheduler:
        job = await scheduler.add_job(lambda: inner(), Manual(), id="work")
        assert (await ended(scheduler, await job.trigger())).message == "inner"
    assert seen == [threading.main_thread().name]


def in_process(ctx: ProcessContext, n: int) -> str:
    ctx.info("from the child", n=n)
    ctx.progress(n)
    return f"{ctx.job_name} {n}"


def sleeps_for_ever() -> None:
    time.sleep(3600)


def dies() -> None:
    import os

    os._exit(7)


async def test_a_function_in_a_process_of_its_own_logs_answers_and_can_be_killed(
    scheduler: Scheduler,
) -> None:
    async with scheduler:
        good = await scheduler.add_job(in_process, Manual(), kwargs={"n": 5}, executor="process")
        run = await ended(scheduler, await good.trigger())
        assert run.message == "in_process 5", run
        assert [line.fields for line in await scheduler.logs(run)] == [{"n": 5}]
        endless = await scheduler.add_job(sleeps_for_ever, Manual(), executor="process", timeout=1.0)
        assert (await ended(scheduler, await endless.trigger())).status == "timeout"
        dead = await scheduler.add_job(dies, Manual(), executor="process")
        run = await ended(scheduler, await dead.trigger())
        assert run.error is not None and "ended with 7" in run.error.message


async def test_stopping_cancels_what_runs_and_records_it_as_interrupted(database: str) -> None:
    cancelled = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def deaf() -> None:
        time.sleep(4)

    scheduler = Scheduler(database, stop_grace=0.1)
    await scheduler.start()
    runs = [await (await scheduler.add_job(f, Manual())).trigger() for f in (endless, deaf)]
    await asyncio.sleep(0.3)
    began = time.monotonic()
    await scheduler.stop()
    assert cancelled.is_set() and time.monotonic() - began < 3
    later = Scheduler(database)
    for run in runs:
        found = await later.execution(run)
        assert found is not None and (found.status, found.reason) == ("failed", "interrupted")
    await later.stop()


@pytest.mark.parametrize("grace", [0.2])
async def test_a_coroutine_that_ignores_cancellation_is_recorded_after_the_grace(grace: float) -> None:
    async def deaf() -> None:
        for _ in range(20):
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                pass

    async with Scheduler("memory:", cancel_grace=grace, stop_grace=0.1) as scheduler:
        job = await scheduler.add_job(deaf, Manual(), timeout=0.1)
        began = time.monotonic()
        assert (await ended(scheduler, await job.trigger())).status == "timeout"
        assert time.monotonic() - began < 1.5
        assert (await ended(scheduler, await job.trigger())).status == "skipped"
