"""`UnifiedScheduler`, its static jobs and its templates, over the engine with a store in a file."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from unified_scheduler_engine import Every, Manual, compat
from unified_scheduler_engine.compat import (
    JobResult,
    ScheduledJob,
    TemplateRegistry,
    UnifiedScheduler,
    get_unified_scheduler,
    initialize_unified_scheduler,
    set_unified_scheduler,
    shutdown_unified_scheduler,
)

from .templates import Foreign


async def until(condition: Callable[[], Any], timeout: float = 10.0) -> None:
    """Waits for a condition."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        await asyncio.sleep(0.01)


class Count:
    """A job that counts."""

    def __init__(self) -> None:
        self.n = 0

    async def __call__(self) -> None:
        self.n += 1


# Static jobs


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
    await scheduler.start()
    await until(lambda: count.n >= 2)
    assert "count" in scheduler.jobs
    assert len(scheduler.jobs) == 1
    job = scheduler.jobs["count"]
    job.enabled = False
    await asyncio.sleep(0.15)
    before = count.n
    await asyncio.sleep(0.4)
    assert count.n == before
    assert not job.should_run()
    job.enabled = True
    await until(lambda: count.n > before)
    job.interval_seconds = 3600
    await asyncio.sleep(0.2)
    before = count.n
    await asyncio.sleep(0.4)
    assert count.n == before
    job.next_run = datetime(2020, 1, 1)
    await until(lambda: count.n > before)
    job.func = other
    job.interval_seconds = 0.1
    await until(lambda: other.n >= 2)
    del scheduler.jobs["count"]
    await asyncio.sleep(0.15)
    before = other.n
    await asyncio.sleep(0.3)
    assert other.n == before
    assert scheduler.engine is not None
    assert await scheduler.engine.get_job("static:count") is None


async def test_a_due_time_set_in_the_future_is_the_next(scheduler: UnifiedScheduler) -> None:
    count = Count()
    scheduler.add_job("count", 3600, count)
    await scheduler.start()
    await until(lambda: count.n == 1)
    due = (datetime.fromisoformat(scheduler.get_job_status()[0]["next_run"]) + timedelta(hours=5)).replace(
        microsecond=0
    )
    scheduler.jobs["count"].next_run = due
    await asyncio.sleep(0.3)
    assert scheduler.engine is not None
    stored = await scheduler.engine.job_of("static:count")
    assert stored.next_run_time is not None
    assert stored.next_run_time.replace(tzinfo=None) == due


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
    await scheduler.start()
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
    await scheduler.start()
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
    scheduler.add_job("count", 0.1, count)
    await scheduler.start()
    await until(lambda: count.n >= 3)
    assert "count" not in caplog.text


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


# Life


async def test_start_returns_at_once_awaited_and_as_a_task(scheduler: UnifiedScheduler) -> None:
    began = time.monotonic()
    await scheduler.start()
    assert time.monotonic() - began < 3
    assert scheduler.engine is not None
    await scheduler.stop()
    assert not scheduler.is_running
    task = asyncio.create_task(scheduler.start())
    await asyncio.sleep(0)
    assert scheduler.is_running
    await task
    assert scheduler.engine is not None
    await scheduler.stop()
    await scheduler.stop()


async def test_starting_twice_warns_and_returns(
    scheduler: UnifiedScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    await scheduler.start()
    await scheduler.start()
    assert "is running already" in caplog.text


async def test_a_second_scheduler_in_the_process_is_refused(scheduler: UnifiedScheduler) -> None:
    await scheduler.start()
    with pytest.raises(Exception, match="already runs in this process"):
        await UnifiedScheduler(None, store_url="memory:").start()


async def test_d25_initialized_twice_the_first_is_kept(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite://{tmp_path}/jobs.db"
    configured: list[UnifiedScheduler] = []
    first = await initialize_unified_scheduler(None, store_url=url, configure=configured.append)
    assert first.is_running
    second = await initialize_unified_scheduler(None, store_url=url)
    assert second is first
    assert configured == [first]
    assert get_unified_scheduler() is first
    await shutdown_unified_scheduler()
    assert not first.is_running
    assert get_unified_scheduler() is None
    await shutdown_unified_scheduler()


async def test_an_instance_of_ones_own_can_be_the_one_of_the_process() -> None:
    mine = UnifiedScheduler(None, scope="process")
    set_unified_scheduler(mine)
    assert get_unified_scheduler() is mine
    set_unified_scheduler(None)


async def test_wait_stopped_waits_for_the_stop(scheduler: UnifiedScheduler) -> None:
    await scheduler.start()
    waiting = asyncio.create_task(scheduler.wait_stopped())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await scheduler.stop()
    await asyncio.wait_for(waiting, 1)


async def test_stop_gives_a_grace_and_then_interrupts(scheduler: UnifiedScheduler, tmp_path: Any) -> None:
    ended: list[str] = []

    async def long() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("finally")

    scheduler.add_job("long", 3600, long)
    await scheduler.start()
    await until(lambda: scheduler.jobs["long"].run_count)
    began = time.monotonic()
    await scheduler.stop()
    assert time.monotonic() - began < 5
    assert ended == ["finally"]
    from unified_scheduler_engine import Scheduler

    looked = Scheduler(f"sqlite://{tmp_path}/jobs.db")
    runs = await looked.runs("static:long")
    await looked.core.stop()
    assert [run.status for run in runs] == ["failed"]
    assert runs[0].error is not None
    assert runs[0].error.kind == "interrupted"


async def test_no_database_at_the_start_is_survived(
    scheduler: UnifiedScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unified_scheduler_engine import Scheduler, UnavailableError

    start, away = Scheduler.start, [True]

    async def flaky(self: Scheduler) -> None:
        if away:
            raise UnavailableError("the database is away")
        await start(self)

    monkeypatch.setattr(Scheduler, "start", flaky)
    count = Count()
    scheduler.add_job("count", 0.1, count)
    await scheduler.start()
    assert scheduler.is_running
    assert scheduler.engine is None
    assert scheduler.trouble == "the database is away"
    away.clear()
    await until(lambda: count.n >= 2)
    assert scheduler.trouble is None


async def test_without_a_way_to_the_database_the_error_says_what_to_pass() -> None:
    scheduler = UnifiedScheduler(None)
    with pytest.raises(ValueError, match="store_url"):
        await scheduler.start()
    assert not scheduler.is_running


def test_importing_starts_nothing() -> None:
    code = (
        "import sys, threading, socket\n"
        "def refuse(*a, **k): raise AssertionError('a socket')\n"
        "socket.socket.connect = refuse\n"
        "import unified_scheduler_engine.compat\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        "for name in ('bson', 'pymongo', 'motor', 'config', 'database', 'main', 'fastapi'):\n"
        "    assert name not in sys.modules, name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Templates


async def test_templates_of_the_backends_own_classes_run(
    scheduler: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    foreign = Foreign()
    await scheduler.start()
    templates.register(foreign)  # Long after the start.
    assert scheduler.engine is not None
    await until(lambda: scheduler.engine and scheduler.engine.core.target("foreign"))
    job = await scheduler.engine.create_job("f", "foreign", Manual(), parameters={"n": 1})
    run = await scheduler.engine.wait_for(await scheduler.engine.trigger(job))
    assert run.status == "success"
    assert run.message == "done"
    assert foreign.hooks == ["pre_execute", "execute", "post_execute"]
    assert run.duration is not None
    assert run.duration < 5
    foreign.raises = ValueError("bad")
    run = await scheduler.engine.wait_for(await scheduler.engine.trigger(job))
    assert (run.status, run.message) == ("failed", "caught bad")
    assert run.error is not None
    assert (run.error.kind, run.error.message) == ("ValueError", "bad")
    assert run.error.trace is not None
    assert "templates.py" in run.error.trace
    foreign.raises, foreign.post_raises = None, True
    run = await scheduler.engine.wait_for(await scheduler.engine.trigger(job))
    assert run.status == "success"
    assert "after the work" in run.warnings[0]


async def test_the_registry_of_the_backend_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    from unified_scheduler_engine.compat import registry

    class Theirs:
        def list_templates(self) -> list[dict[str, str]]:
            return [{"type": "foreign", "name": "Foreign"}]

        def get(self, kind: str) -> Any:
            return foreign if kind == "foreign" else None

    foreign, theirs = Foreign(), Theirs()
    module = types.ModuleType("job_templates.registry")
    module.get_template_registry = lambda: theirs  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "job_templates.registry", module)
    assert registry.find_registry() is theirs
    assert registry.templates_of(theirs) == {"foreign": foreign}
    ours = TemplateRegistry()
    assert registry.find_registry(ours) is ours


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (None, "failed", "the template 'echo' answered NoneType, which is no JobResult"),
        (7, "failed", "the template 'echo' answered int, which is no JobResult"),
        ({"status": "completed", "message": "m"}, "completed", "m"),
        (JobResult("partial_success", "m", errors=None), "partial_success", "m"),
        (JobResult("skipped", "m"), "skipped", "m"),
        (JobResult("exploded", "m"), "failed", "m"),
    ],
)
async def test_what_a_template_answers_is_stored(
    scheduler: UnifiedScheduler, templates: TemplateRegistry, answer: Any, status: str, message: str
) -> None:
    echo = templates.get("echo")
    echo.answers = answer
    if answer is None:

        async def nothing(context: Any) -> None:
            return None

        echo.execute = nothing
    await scheduler.start()
    assert scheduler.engine is not None
    job = await scheduler.engine.create_job("e", "echo", Manual())
    run = await scheduler.engine.wait_for(await scheduler.engine.trigger(job))
    assert (run.status, run.message) == (status, message)


async def test_parameters_say_who_triggered_and_are_a_copy(
    scheduler: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    await scheduler.start()
    assert scheduler.engine is not None
    job = await scheduler.engine.create_job("e", "echo", Manual(), parameters={"times": 2})
    await scheduler.engine.wait_for(await scheduler.engine.trigger(job, actor="bob"))
    context = templates.get("echo").calls[0]
    assert context.parameters == {"times": 2, "triggered_by": "manual:bob"}
    assert context.triggered_by == "manual:bob"
    assert context.params is context.parameters
    assert context.attempt == 1
    assert context.scheduled_for is not None
    assert (await scheduler.engine.job_of(job)).parameters == {"times": 2}


# Defects


async def test_d03_a_slow_job_delays_no_other(scheduler: UnifiedScheduler) -> None:
    count = Count()

    async def slow() -> None:
        await asyncio.sleep(30)

    scheduler.add_job("slow", 3600, slow)
    scheduler.add_job("blocks", 3600, lambda: time.sleep(1.5))
    scheduler.add_job("count", 0.1, count)
    await scheduler.start()
    await until(lambda: count.n >= 5, 3)


async def test_d04_due_times_form_a_grid(scheduler: UnifiedScheduler, templates: TemplateRegistry) -> None:
    templates.get("echo").sleep = 0.13
    await scheduler.start()
    assert scheduler.engine is not None
    job = await scheduler.engine.create_job("e", "echo", Every(seconds=0.3))
    await until(lambda: len(templates.get("echo").calls) >= 4)
    await asyncio.sleep(0.3)
    runs = await scheduler.engine.runs(job, oldest_first=True)
    steps = [(b.due_at - a.due_at) / timedelta(seconds=0.3) for a, b in itertools.pairwise(runs)]
    assert all(abs(step - round(step)) < 1e-6 for step in steps), steps


async def test_d06_retry_defaults_that_nobody_chose_are_not_followed(
    scheduler: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    foreign = Foreign()
    foreign.raises = ValueError("bad")
    templates.register(foreign)
    await scheduler.start()
    engine = scheduler.engine
    assert engine is not None
    document = {
        "name": "f", "template_type": "foreign", "parameters": {"n": 1}, "schedule": {"type": "manual"},
        "retry_policy": {"max_retries": 3, "retry_delay_seconds": 300},
    }  # fmt: skip
    job = await engine.core.ask("create_job", job=document, first_due=None, actor="test")
    await engine.wait_for(await engine.trigger(job["id"]))
    assert [run.status for run in await engine.runs(job["id"])] == ["failed"]


async def test_d06_a_template_that_says_it_is_safe_is_tried_again(
    scheduler: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    foreign = Foreign()
    foreign.raises = ValueError("bad")
    foreign.retry_safe = True  # type: ignore[attr-defined]
    templates.register(foreign)
    await scheduler.start()
    engine = scheduler.engine
    assert engine is not None
    document = {
        "name": "f", "template_type": "foreign", "parameters": {"n": 1}, "schedule": {"type": "manual"},
        "retry_policy": {"max_retries": 3, "retry_delay_seconds": 300},
    }  # fmt: skip
    job = await engine.core.ask("create_job", job=document, first_due=None, actor="test")
    await engine.wait_for(await engine.trigger(job["id"]))
    await asyncio.sleep(0.1)
    assert sorted(run.status for run in await engine.runs(job["id"])) == ["failed", "pending"]


async def test_d07_mails_are_sent_after_the_end_is_recorded(
    tmp_path: Any, templates: TemplateRegistry
) -> None:
    sent: list[tuple[str, str]] = []

    async def send_email(to: str, subject: str, html: str, text: str) -> None:
        sent.append((to, subject))
        if to == "broken@x":
            raise ConnectionError("no server")

    scheduler = UnifiedScheduler(None, store_url=f"sqlite://{tmp_path}/jobs.db", send_email=send_email)
    await scheduler.start()
    engine = scheduler.engine
    assert engine is not None
    document = {
        "name": "e", "template_type": "echo", "schedule": {"type": "manual"},
        "notifications": {"on_success": ["broken@x", "ok@x"], "on_failure": ["bad@x"]},
    }  # fmt: skip
    job = await engine.core.ask("create_job", job=document, first_due=None, actor="test")
    run = await engine.wait_for(await engine.trigger(job["id"]))
    await until(lambda: len(sent) == 2)
    assert run.status == "success"
    templates.get("echo").answers = JobResult("partial", "half")
    await engine.wait_for(await engine.trigger(job["id"]))
    await until(lambda: len(sent) == 3)
    assert sent[1:] == [("ok@x", "[Scheduler] e: success"), ("bad@x", "[Scheduler] e: partial")]
    await scheduler.stop()


async def test_d12_cancelled_error_ends_one_run_and_not_the_engine(
    scheduler: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    templates.get("echo").raises = asyncio.CancelledError()
    count = Count()
    scheduler.add_job("count", 0.1, count)
    await scheduler.start()
    engine = scheduler.engine
    assert engine is not None
    job = await engine.create_job("e", "echo", Manual())
    run = await engine.wait_for(await engine.trigger(job))
    assert run.status == "cancelled"
    before = count.n
    await until(lambda: count.n > before + 2)
    assert scheduler.is_running
    assert scheduler.trouble is None


async def test_d12_an_engine_that_ends_by_itself_is_started_again(scheduler: UnifiedScheduler) -> None:
    count = Count()
    scheduler.add_job("count", 0.1, count)
    await scheduler.start()
    assert scheduler.engine is not None
    scheduler.engine.core.engine.kill()
    before = count.n
    await until(lambda: count.n > before + 3, 30)


async def test_d13_a_job_that_hangs_ends_at_its_time_out_and_blocks_nothing(
    scheduler: UnifiedScheduler,
) -> None:
    count, ended = Count(), []

    async def hangs() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(1)

    release = threading.Event()
    scheduler.add_job("hangs", 3600, hangs, timeout_seconds=1)
    scheduler.add_job("stuck", 3600, lambda: release.wait(20), timeout_seconds=1)
    scheduler.add_job("count", 0.1, count)
    await scheduler.start()
    await until(lambda: ended)
    engine = scheduler.engine
    assert engine is not None

    async def statuses() -> list[str]:
        return [run.status for name in ("hangs", "stuck") for run in await engine.runs(f"static:{name}")]

    for _ in range(100):
        if await statuses() == ["timeout", "timeout"]:
            break
        await asyncio.sleep(0.05)
    assert await statuses() == ["timeout", "timeout"]
    assert count.n >= 5
    release.set()


async def test_d14_a_loop_that_stands_still_is_noticed_while_it_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from unified_scheduler_engine.compat._loop_watch import LoopWatch

    watch = LoopWatch(every=0.02, patience=0.1)
    watch.start()
    await asyncio.sleep(0.1)
    time.sleep(0.6)
    await asyncio.sleep(0.1)
    watch.stop()
    assert watch.n_blocks == 1
    assert "test_scheduler.py" in caplog.text


async def test_d26_lines_are_there_while_a_job_runs(
    scheduler: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    templates.get("echo").sleep = 20
    await scheduler.start()
    engine = scheduler.engine
    assert engine is not None
    job = await engine.create_job("e", "echo", Manual())
    run = await engine.trigger(job)
    for _ in range(300):
        lines = await engine.logs(run)
        if lines:
            break
        await asyncio.sleep(0.02)
    assert lines[0].message == "Starting job execution: e"
    found = await engine.execution(run)
    assert found is not None
    assert found.status == "running"


CHILD = """
import asyncio, os, sys, time
from unified_scheduler_engine.compat import UnifiedScheduler

async def work():
    with open(sys.argv[2], "a") as out:
        out.write(f"{os.getpid()} {time.time()}\\n")
    if sys.argv[3:]:
        await asyncio.sleep(float(sys.argv[3]))

async def main():
    scheduler = UnifiedScheduler(None, store_url=sys.argv[1], lease=2.0, poll=0.2)
    scheduler.add_job("work", 0.5, work)
    await scheduler.start()
    await asyncio.sleep(float(os.environ.get("SECONDS", "4")))
    await scheduler.stop()

asyncio.run(main())
"""


def _child(url: str, out: Any, *more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", CHILD, url, str(out), *more])


async def test_d01_several_processes_run_each_due_time_once(tmp_path: Any) -> None:
    url, out = f"sqlite://{tmp_path}/jobs.db", tmp_path / "out"
    children = [_child(url, out) for _ in range(3)]
    for child in children:
        assert await asyncio.to_thread(child.wait, 30) == 0
    from unified_scheduler_engine import Scheduler

    looked = Scheduler(url)
    runs = await looked.runs("static:work", limit=1000)
    await looked.core.stop()
    done = [run for run in runs if run.started_at is not None]
    assert len({run.due_at for run in done}) == len(done)
    assert len(out.read_text().splitlines()) == len(done)
    assert len(done) >= 5


async def test_d05_a_killed_process_leaves_nothing_running(tmp_path: Any) -> None:
    url, out = f"sqlite://{tmp_path}/jobs.db", tmp_path / "out"
    child = _child(url, out, "60")
    await until(lambda: out.exists() and out.read_text(), 20)
    child.kill()
    child.wait()
    from unified_scheduler_engine import Scheduler

    other = compat.UnifiedScheduler(None, store_url=url, lease=2.0, poll=0.2)
    await other.start()
    looked = other.engine
    assert isinstance(looked, Scheduler)
    for _ in range(200):
        runs = await looked.runs("static:work", status="running")
        if not runs:
            break
        await asyncio.sleep(0.1)
    assert (await looked.runs("static:work", oldest_first=True))[0].status == "lost"
    await other.stop()
