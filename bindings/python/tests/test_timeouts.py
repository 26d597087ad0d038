"""Time-outs and cancellation, on the loop, in threads, in processes."""

from __future__ import annotations

import asyncio
import threading
import time

from unified_scheduler_engine import Context, Execution, JobHandle, Manual, ProcessContext, Scheduler
from waiting import PATIENCE, ended, until


async def timed_out(
    scheduler: Scheduler, job: JobHandle, begun: asyncio.Event | threading.Event
) -> Execution:
    """A run whose time was out while its code ran: where the machine is slow it may be out before that, and
    then the code is not begun at all."""
    last: list[Execution] = []

    async def once_more() -> Execution | None:
        run = await ended(scheduler, await job.trigger())
        if run.status == "timeout":
            last.append(run)
        return last[-1] if begun.is_set() else None

    found = await until(once_more)
    assert isinstance(found, Execution)
    return found


async def test_a_timeout_cancels_a_coroutine_and_its_finally_runs(scheduler: Scheduler) -> None:
    begun, over = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            over.set()

    async with scheduler:
        await timed_out(scheduler, await scheduler.add_job(slow, Manual(), timeout=0.1), begun)
        await until(over.is_set)


async def test_a_cancelled_coroutine_that_answers_in_time_keeps_its_result() -> None:
    began = asyncio.Event()

    async def stubborn(ctx: Context) -> str:
        began.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            assert ctx.cancelled
        return "tidied up"

    async with Scheduler("memory:", cancel_grace=PATIENCE, stop_grace=0.2) as scheduler:
        job = await scheduler.add_job(stubborn, Manual())
        run = await job.trigger()
        await until(began.is_set)
        assert await scheduler.cancel(run) == "requested"
        done = await ended(scheduler, run)
    assert (done.status, done.message) == ("success", "tidied up")


async def test_a_thread_that_cannot_be_stopped_is_recorded_at_once_and_its_late_result_dropped(
    scheduler: Scheduler,
) -> None:
    begun, release, finished = threading.Event(), threading.Event(), threading.Event()

    def deaf() -> str:
        begun.set()
        release.wait(2 * PATIENCE)
        finished.set()
        return "too late"

    async with scheduler:
        try:
            job = await scheduler.add_job(deaf, Manual(), timeout=0.1)
            run = await timed_out(scheduler, job, begun)
            assert not finished.is_set()
            # Not started again before the thread ends.
            again = await ended(scheduler, await job.trigger())
            assert again.status == "skipped" and "still runs" in again.message
        finally:
            release.set()
        await until(finished.is_set)
        await job.modify(timeout=PATIENCE)

        async def runs_again() -> str:
            return (await ended(scheduler, await job.trigger())).message

        # The thread is known to have ended a little after it has.
        while (message := await runs_again()) != "too late":
            assert "still runs" in message
        found = await scheduler.execution(run)
        assert found is not None and found.status == "timeout" and found.message == ""


async def test_stuck_threads_take_nobodys_place() -> None:
    release = threading.Event()

    def stuck(n: int) -> None:
        release.wait(2 * PATIENCE)

    def quick() -> str:
        return "done"

    async with Scheduler("memory:", max_threads=1, cancel_grace=0.5, stop_grace=0.1) as scheduler:
        try:
            for n in range(3):
                job = await scheduler.add_job(stuck, Manual(), args=[n], id=f"stuck{n}", timeout=0.1)
                assert (await ended(scheduler, await job.trigger())).status == "timeout"
            job = await scheduler.add_job(quick, Manual())
            assert (await ended(scheduler, await job.trigger())).message == "done"
        finally:
            release.set()


async def test_a_handler_that_blocks_the_loop_delays_no_thread_and_loses_no_lease(database: str) -> None:
    # So long that a machine that is held up for a while does not lose it.
    lease, n_ticks = 6.0, 0
    meanwhile: list[int] = []

    async def blocks() -> None:
        began, before = time.monotonic(), n_ticks
        while (past := time.monotonic() - began) < 1.3 * lease or n_ticks < before + 5:
            if past > PATIENCE:
                break
            time.sleep(0.05)
        meanwhile.append(n_ticks - before)

    def tick() -> None:
        nonlocal n_ticks
        n_ticks += 1

    async with Scheduler(database, lease=lease, stop_grace=0.2) as scheduler:
        await scheduler.add_job(tick, "interval", seconds=0.2)
        job = await scheduler.add_job(blocks, Manual())
        done = await ended(scheduler, await job.trigger())
        assert done.status == "success"
        assert meanwhile[0] >= 5
        assert await scheduler.runs(status="lost") == []


async def test_the_pool_is_bounded_and_grows_on_demand() -> None:
    running, most = 0, 0
    lock, all_four = threading.Lock(), threading.Barrier(4, timeout=PATIENCE)

    def work(n: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        all_four.wait()
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
    begun, cancelled = [], asyncio.Event()
    release, finished = threading.Event(), threading.Event()

    async def endless() -> None:
        begun.append("endless")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def deaf() -> None:
        begun.append("deaf")
        release.wait(2 * PATIENCE)
        finished.set()

    scheduler = Scheduler(database, stop_grace=0.1)
    try:
        async with scheduler:
            runs = [await (await scheduler.add_job(f, Manual())).trigger() for f in (endless, deaf)]
            await until(lambda: len(begun) == 2)
        assert cancelled.is_set() and not finished.is_set()
        for run in runs:
            found = await scheduler.execution(run)
            assert found is not None and (found.status, found.reason) == ("failed", "interrupted")
        await scheduler.core.stop()
    finally:
        release.set()


async def test_a_coroutine_that_ignores_cancellation_is_recorded_after_the_grace() -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def deaf() -> None:
        begun.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                pass

    async with Scheduler("memory:", cancel_grace=0.2, stop_grace=0.1) as scheduler:
        try:
            job = await scheduler.add_job(deaf, Manual(), timeout=0.1)
            await timed_out(scheduler, job, begun)
            # It goes on, and is not started beside itself.
            assert (await ended(scheduler, await job.trigger())).status == "skipped"
        finally:
            release.set()
