"""Defects of the existing backend that are gone, by their numbers in the contract."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from unified_scheduler_engine import Every, Manual, Scheduler, compat
from unified_scheduler_engine.compat import (
    JobResult,
    TemplateRegistry,
    UnifiedScheduler,
)

from .templates import Foreign
from .waiting import Count, until


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
    assert "test_defects.py" in caplog.text


BLOCKED = """
import asyncio, sys, time
from unified_scheduler_engine.compat import UnifiedScheduler

async def block():
    time.sleep(4)

async def quick(): pass

async def main():
    scheduler = UnifiedScheduler(None, store_url=sys.argv[1], lease=2.0, poll=0.2, name=sys.argv[2])
    for n in range(10):
        scheduler.add_job(f"quick {n}", 0.3, quick)
    await scheduler.start()
    print("ready", flush=True)
    if sys.argv[2] == "blocks":
        await asyncio.sleep(0.5)
        scheduler.add_job("block", 3600, block)
    await asyncio.sleep(6)
    await scheduler.stop()

asyncio.run(main())
"""


async def test_d14_what_is_due_is_left_to_others_while_the_loop_is_blocked(tmp_path: Any) -> None:
    url = f"sqlite://{tmp_path}/jobs.db"

    def begin(role: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", BLOCKED, url, role]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def wait(child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == "ready"

    free = await asyncio.to_thread(begin, "free")
    await asyncio.to_thread(wait, free)
    blocked = await asyncio.to_thread(begin, "blocks")
    await asyncio.to_thread(wait, blocked)
    for child in (blocked, free):
        await asyncio.to_thread(child.communicate, None, 30)
        assert child.returncode == 0
    looked = Scheduler(url)
    runs = await looked.runs(limit=5000)
    report = await looked.verify()
    await looked.core.stop()
    (block,) = [run for run in runs if run.job_id == "static:block"]
    assert block.status == "success", "it kept its lease"
    assert block.started_at is not None
    assert block.ended_at is not None
    meanwhile = [
        run
        for run in runs
        if run is not block and run.started_at and block.started_at < run.due_at < block.ended_at
    ]
    assert len(meanwhile) >= 50
    late = sorted((run.started_at - run.due_at).total_seconds() for run in meanwhile if run.started_at)
    assert late[-1] < 1.0, late[-5:]
    # None waits in the process that is blocked, but for what it had taken at the very instant of the block.
    stuck = [run for run in meanwhile if run.duration is not None and run.duration > 1.0]
    assert all(run.due_at - block.started_at < timedelta(milliseconds=400) for run in stuck), stuck
    assert len(stuck) <= 10
    assert report.is_whole, report.problems


async def test_d26_lines_are_there_while_a_job_runs(
    scheduler: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    templates.get("echo").sleep = 20
    await scheduler.start()
    engine = scheduler.engine
    assert engine is not None
    job = await engine.create_job("e", "echo", Manual())
    run = await engine.trigger(job)
    lines = await until(lambda: engine.logs(run))
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
