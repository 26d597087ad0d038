"""Jobs run, and everything that can be asked of them."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from unified_scheduler_engine import (
    Chain,
    ConflictError,
    Context,
    Cron,
    Event,
    Every,
    InvalidError,
    Manual,
    NotFoundError,
    Overlap,
    Result,
    Retry,
    RetryLater,
    Scheduler,
    SyncScheduler,
    current_context,
)
from unified_scheduler_engine.testing import TestScheduler
from waiting import PATIENCE, until


async def test_a_job_runs_at_once_and_its_execution_is_recorded(scheduler: Scheduler) -> None:
    @scheduler.job(Every(minutes=5), parameters={"n": 3})
    async def refresh(ctx: Context) -> str:
        ctx.info("refreshing", page=1)
        ctx.progress(1, 2, "half way")
        assert current_context() is ctx
        return f"{ctx.parameters['n']} pages"

    await scheduler.start()
    (run,) = await until(lambda: scheduler.runs("refresh"))
    run = await scheduler.wait_for(run)
    assert (run.status, run.message, run.attempt, run.trigger) == ("success", "3 pages", 1, "schedule")
    assert run.due_at.tzinfo is timezone.utc and run.idempotency_key.startswith("static:refresh@")
    (line,) = await scheduler.logs(run)
    assert (line.level, line.message, line.fields) == ("info", "refreshing", {"page": 1})
    job = await scheduler.job_of("refresh")
    assert job.id == "static:refresh" and job.last_status == "success"
    assert job.next_run_time is not None
    assert (job.next_run_time - run.due_at) == timedelta(minutes=5)
    assert len(await scheduler.next_runs("refresh", 3)) == 3
    assert (await scheduler.explain("refresh")).will_run
    assert (await scheduler.verify("refresh")).is_whole
    assert (await scheduler.status())["executions"]["successful"] == 1
    assert [check["level"] for check in await scheduler.doctor()].count("failed") == 0


async def test_a_job_is_paused_resumed_rescheduled_modified_triggered_skipped_and_removed(
    scheduler: Scheduler,
) -> None:
    async def work() -> None: ...

    async with scheduler:
        handle = await scheduler.add_job(work, "cron", hour=3, id="nightly")
        assert (await handle.pause()).enabled is False
        run = await scheduler.wait_for(await handle.trigger())
        assert (run.trigger, run.triggered_by) == ("manual", "manual:api")
        assert (await handle.resume()).enabled
        job = await handle.reschedule(Cron("0 4 * * *", timezone="Europe/Berlin"))
        assert job.schedule["expression"] == "0 4 * * *"
        assert (await handle.modify(description="at night", tags=["a"], timeout=5)).tags == ("a",)
        assert (await handle.skip_next(2)).document["skip_next"] == 2
        assert [j.id for j in await scheduler.jobs(tag="a")] == ["static:nightly"]
        await handle.remove()
        assert await scheduler.get_job("nightly") is None
        with pytest.raises(NotFoundError):
            await scheduler.pause("nightly")


async def test_after_the_start_an_unawaited_job_is_stored_all_the_same(scheduler: Scheduler) -> None:
    done = asyncio.Event()

    async def work() -> None:
        done.set()

    await scheduler.start()
    scheduler.add_job(work, "interval", hours=1)
    await until(done.is_set)


async def test_arguments_are_given_and_a_context_only_where_it_is_wanted(scheduler: Scheduler) -> None:
    seen: list[Any] = []

    async def plain(a: int, b: int) -> None:
        seen.append((a, b))

    async def with_context(ctx: Context, a: int, *, b: int) -> None:
        seen.append((ctx.job_name, a, b))

    def any_name(first: Any) -> None:
        seen.append(type(first).__name__)

    class Callable_:
        async def __call__(self) -> None:
            seen.append("called")

    async with scheduler:
        for func, args, kwargs in (
            (plain, [1], {"b": 2}),
            (with_context, [1], {"b": 2}),
            (any_name, [], {}),
            (Callable_(), [], {}),
        ):
            job = await scheduler.add_job(func, Manual(), args=args, kwargs=kwargs)
            await scheduler.wait_for(await job.trigger())
        with pytest.raises(InvalidError, match="neither"):
            scheduler.add_job(plain, Manual(), args=[1], id="short")
    assert seen == [(1, 2), ("with_context", 1, 2), "Context", "called"]


async def test_context_variables_of_the_start_are_seen_by_both_kinds(scheduler: Scheduler) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("of the start")
    seen: list[str] = []

    async def on_loop() -> None:
        seen.append(variable.get())
        variable.set("of one call")

    def in_thread() -> None:
        seen.append(variable.get())
        variable.set("of one call")

    async with scheduler:
        for func in (on_loop, in_thread, on_loop, in_thread):
            job = scheduler.add_job(func, Manual())
            await scheduler.wait_for(await job.trigger())
    assert seen == ["of the start"] * 4


async def test_retry_later_and_the_policy_of_retries() -> None:
    async with TestScheduler() as scheduler:

        @scheduler.job(Manual(), id="later")
        async def later(ctx: Context) -> str:
            if ctx.attempt == 1:
                raise RetryLater(timedelta(minutes=10), "full")
            return "done"

        @scheduler.job(Manual(), id="policy", retry=Retry(2, "1m"))
        async def policy() -> None:
            raise ValueError("no")

        await scheduler.trigger("later")
        await scheduler.trigger("policy")
        await scheduler.advance(hours=1)
        assert [(r.status, r.due_at, r.started_at) for r in await scheduler.executions("later")] == [
            ("failed", parse("00:00"), parse("00:00")),
            ("success", parse("00:00"), parse("00:10")),
        ]
        assert [r.attempt for r in await scheduler.executions("policy")] == [1, 2, 3]


def parse(clock: str) -> datetime:
    return datetime.fromisoformat(f"2026-01-01T{clock}:00+00:00")


async def test_overlap_skips_or_allows() -> None:
    async with TestScheduler() as scheduler:

        @scheduler.job("interval", minutes=1)
        async def slow(ctx: Context) -> None:
            await ctx.sleep(90)

        @scheduler.job("interval", minutes=1, max_instances=2)
        async def twice(ctx: Context) -> None:
            await ctx.sleep(90)

        @scheduler.job("interval", minutes=1, overlap=Overlap("queue_one"))
        async def queued(ctx: Context) -> None:
            await ctx.sleep(90)

        await scheduler.advance(minutes=3.5)
        assert [r.reason for r in await scheduler.executions("slow")] == [None, "overlap", None, "overlap"]
        assert "overlap" not in [r.reason for r in await scheduler.executions("twice")]
        queued_runs = [r for r in await scheduler.executions("queued") if r.status == "success"]
        assert len(queued_runs) == 2


async def test_listeners_hear_after_the_record_is_durable(scheduler: Scheduler) -> None:
    heard: list[tuple[str, str | None]] = []
    ended = asyncio.Event()

    @scheduler.on("execution_ended")
    async def on_end(event: Event) -> None:
        assert event.execution is not None
        found = await scheduler.execution(event.execution.id)
        assert found is not None and found.ended
        heard.append((event.name, event.job_id))
        ended.set()

    @scheduler.on()
    def everything(event: Event) -> None:
        if event.name == "execution_started":
            raise RuntimeError("a listener that fails keeps nobody from hearing")

    async def work() -> None: ...

    async with scheduler:
        await (await scheduler.add_job(work, Manual())).trigger()
        await until(ended.is_set)
    assert heard == [("execution_ended", "static:work")]


async def test_chains_run_another_job() -> None:
    async with TestScheduler() as scheduler:

        @scheduler.job(Manual(), chains=[Chain("static:second")])
        async def first() -> Result:
            return Result("made", records_processed=2, details={"a": 1})

        @scheduler.job(Manual())
        async def second(ctx: Context) -> str:
            return ctx.triggered_by.partition(":")[0]

        await scheduler.trigger("first")
        await scheduler.run_until_idle()
        (run,) = await scheduler.executions("second")
        assert (run.trigger, run.message) == ("chain", "chain")
        (run,) = await scheduler.executions("first")
        assert run.details == {"a": 1} and run.document["result"]["records_processed"] == 2


async def test_a_name_is_taken_once_and_replaced_when_asked(scheduler: Scheduler) -> None:
    async def one() -> None: ...

    async def other() -> None: ...

    scheduler.add_job(one, Manual(), id="job")
    with pytest.raises(ConflictError, match="replace_existing"):
        scheduler.add_job(other, Manual(), id="job")
    scheduler.add_job(other, Manual(), id="job", replace_existing=True)


async def test_next_run_time_sets_the_first_and_none_pauses(scheduler: Scheduler) -> None:
    async def work() -> None: ...

    first = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=7)
    scheduler.add_job(work, "interval", minutes=5, id="paused", next_run_time=None)
    await scheduler.start()
    late = await scheduler.add_job(work, "interval", minutes=5, id="late", next_run_time=first)
    assert (await late.get()).next_run_time == first
    paused = await scheduler.job_of("paused")
    assert not paused.enabled and await scheduler.runs("paused") == []


async def test_a_store_that_lasts_keeps_due_times_and_history(database: str) -> None:
    async def work() -> None: ...

    due = None
    for _ in range(2):
        scheduler = Scheduler(database)
        scheduler.add_job(work, Every(hours=1))
        async with scheduler:
            # The second has it at once, of the first.
            assert len(await until(partial(scheduler.runs, "work"))) == 1
            job = await scheduler.job_of("work")
            assert due in (None, job.next_run_time)
            due = job.next_run_time


async def test_questions_are_answered_without_a_start(database: str) -> None:
    scheduler = Scheduler(database)
    assert await scheduler.jobs() == []
    assert (await scheduler.status())["scheduler"]["status"] == "stopped"
    await scheduler.stop()


async def test_a_second_scheduler_on_the_same_store_is_refused(database: str) -> None:
    async with Scheduler(database, name="first"):
        with pytest.raises(ConflictError, match="`first` already runs"):
            await Scheduler(database, name="second").start()
    async with Scheduler(database):
        pass


async def test_starting_as_a_task_and_stopping_twice(scheduler: Scheduler) -> None:
    task = asyncio.create_task(scheduler.start())
    await task
    assert scheduler.running
    with pytest.raises(ConflictError):
        await scheduler.start()
    await scheduler.stop()
    await scheduler.stop()
    assert not scheduler.running
    await scheduler.start()
    assert scheduler.running


async def test_a_start_that_is_cancelled_leaves_nothing_running(database: str) -> None:
    scheduler = Scheduler(database)
    task = asyncio.create_task(scheduler.start())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not scheduler.running)
    async with scheduler:
        assert scheduler.running


async def test_a_store_in_memory_outlives_a_stop(scheduler: Scheduler) -> None:
    async def work() -> str:
        return "done"

    async with scheduler:
        await scheduler.wait_for(await (await scheduler.add_job(work, Manual())).trigger())
    assert [run.message for run in await scheduler.runs("work")] == ["done"]


async def test_a_handler_on_a_thread_may_add_jobs(scheduler: Scheduler) -> None:
    ran = asyncio.Event()

    async def added() -> None:
        ran.set()

    def adds() -> None:
        scheduler.add_job(added, Every(hours=1))

    async with scheduler:
        await (await scheduler.add_job(adds, Manual())).trigger()
        await until(ran.is_set)


async def test_a_handler_may_stop_the_scheduler(scheduler: Scheduler) -> None:
    async def ends_it() -> None:
        await scheduler.stop(0.1)

    await scheduler.start()
    await (await scheduler.add_job(ends_it, Manual())).trigger()
    await asyncio.wait_for(scheduler.wait_stopped(), PATIENCE)
    assert not scheduler.running


async def test_what_the_engine_logs_comes_to_logging(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails() -> None:
        raise ValueError("no")

    caplog.set_level(logging.DEBUG, logger="unified_scheduler")
    async with scheduler:
        await (await scheduler.add_job(fails, Manual(), pause_after_failures=1)).trigger()
        await until(lambda: "disabled after too many failures in a row" in caplog.text)
    assert all(r.name.startswith("unified_scheduler") for r in caplog.records)


def test_the_blocking_twin_does_the_same(database: str) -> None:
    with SyncScheduler(database) as scheduler:
        job = scheduler.add_job(lambda: "plain", Manual(), id="work")

        @scheduler.job(Manual())
        async def coroutine(ctx: Context) -> str:
            await asyncio.sleep(0)
            return "coroutine"

        assert scheduler.wait_for(scheduler.trigger(job)).message == "plain"
        assert scheduler.wait_for(scheduler.trigger("coroutine"), timeout=PATIENCE).message == "coroutine"
        assert {j.name for j in scheduler.jobs()} == {"work", "coroutine"}
        with pytest.raises(NotFoundError):
            scheduler.pause("nothing")
    assert not scheduler.running
