"""Defects of the existing backend that are gone, by their numbers in the contract."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from children import children
from unified_scheduler_engine import Every, Manual, Scheduler
from unified_scheduler_engine.compat import (
    JobResult,
    TemplateRegistry,
    UnifiedScheduler,
)
from waiting import PATIENCE, Count, ended, engine_of, until

from .templates import Foreign


async def test_d03_a_slow_job_delays_no_other(scheduler: UnifiedScheduler) -> None:
    count, begun, release = Count(), [], threading.Event()

    async def slow() -> None:
        begun.append("slow")
        await asyncio.sleep(3600)

    def blocks() -> None:
        begun.append("blocks")
        release.wait(2 * PATIENCE)

    scheduler.add_job("slow", 3600, slow)
    scheduler.add_job("blocks", 3600, blocks)
    scheduler.add_job("count", 0.1, count)
    try:
        await scheduler.start()
        await until(lambda: len(begun) == 2)
        before = count.n
        await until(lambda: count.n >= before + 5)
    finally:
        release.set()


async def test_d04_due_times_form_a_grid(scheduler: UnifiedScheduler, templates: TemplateRegistry) -> None:
    templates.get("echo").sleep = 0.13
    engine = await engine_of(scheduler)
    job = await engine.create_job("e", "echo", Every(seconds=0.3))
    await until(lambda: len(templates.get("echo").calls) >= 4)
    runs = await engine.runs(job, oldest_first=True)
    assert len(runs) >= 4
    steps = [(b.due_at - a.due_at) / timedelta(seconds=0.3) for a, b in itertools.pairwise(runs)]
    assert all(abs(step - round(step)) < 1e-6 for step in steps), steps


async def test_d06_retry_defaults_that_nobody_chose_are_not_followed(
    scheduler: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    foreign = Foreign()
    foreign.raises = ValueError("bad")
    templates.register(foreign)
    engine = await engine_of(scheduler)
    document = {
        "name": "f", "template_type": "foreign", "parameters": {"n": 1}, "schedule": {"type": "manual"},
        "retry_policy": {"max_retries": 3, "retry_delay_seconds": 300},
    }  # fmt: skip
    job = await engine.core.ask("create_job", job=document, first_due=None, actor="test")
    await ended(engine, await engine.trigger(job["id"]))
    assert [run.status for run in await engine.runs(job["id"])] == ["failed"]


async def test_d06_a_template_that_says_it_is_safe_is_tried_again(
    scheduler: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    foreign = Foreign()
    foreign.raises = ValueError("bad")
    foreign.retry_safe = True  # type: ignore[attr-defined]
    templates.register(foreign)
    engine = await engine_of(scheduler)
    document = {
        "name": "f", "template_type": "foreign", "parameters": {"n": 1}, "schedule": {"type": "manual"},
        "retry_policy": {"max_retries": 3, "retry_delay_seconds": 300},
    }  # fmt: skip
    job = await engine.core.ask("create_job", job=document, first_due=None, actor="test")
    await ended(engine, await engine.trigger(job["id"]))

    async def is_tried_again() -> bool:
        return sorted(run.status for run in await engine.runs(job["id"])) == ["failed", "pending"]

    await until(is_tried_again)


async def test_d07_mails_are_sent_after_the_end_is_recorded(
    tmp_path: Any, templates: TemplateRegistry
) -> None:
    sent: list[tuple[str, str]] = []

    async def send_email(to: str, subject: str, html: str, text: str) -> None:
        sent.append((to, subject))
        if to == "broken@x":
            raise ConnectionError("no server")

    scheduler = UnifiedScheduler(None, store_url=f"sqlite://{tmp_path}/jobs.db", send_email=send_email)
    engine = await engine_of(scheduler)
    document = {
        "name": "e", "template_type": "echo", "schedule": {"type": "manual"},
        "notifications": {"on_success": ["broken@x", "ok@x"], "on_failure": ["bad@x"]},
    }  # fmt: skip
    job = await engine.core.ask("create_job", job=document, first_due=None, actor="test")
    run = await ended(engine, await engine.trigger(job["id"]))
    await until(lambda: len(sent) == 2)
    assert run.status == "success"
    templates.get("echo").answers = JobResult("partial", "half")
    await ended(engine, await engine.trigger(job["id"]))
    await until(lambda: len(sent) == 3)
    assert sent[1:] == [("ok@x", "[Scheduler] e: success"), ("bad@x", "[Scheduler] e: partial")]
    await scheduler.stop()


async def test_d12_cancelled_error_ends_one_run_and_not_the_engine(
    scheduler: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    templates.get("echo").raises = asyncio.CancelledError()
    count = Count()
    scheduler.add_job("count", 0.1, count)
    engine = await engine_of(scheduler)
    job = await engine.create_job("e", "echo", Manual())
    run = await ended(engine, await engine.trigger(job))
    assert run.status == "cancelled"
    before = count.n
    await until(lambda: count.n > before + 2)
    assert scheduler.is_running
    await until(lambda: scheduler.trouble is None)


async def test_d12_an_engine_that_ends_by_itself_is_started_again(tmp_path: Any) -> None:
    # The lease is what must have run out before a run of the dead engine is out of the way.
    scheduler = UnifiedScheduler(None, store_url=f"sqlite://{tmp_path}/jobs.db", lease=2.0, poll=0.2)
    count = Count()
    scheduler.add_job("count", 0.1, count)
    engine = await engine_of(scheduler)
    engine.core.engine.kill()
    before = count.n
    await until(lambda: count.n > before + 3)
    await scheduler.stop()


async def test_d13_a_job_that_hangs_ends_at_its_time_out_and_blocks_nothing(
    scheduler: UnifiedScheduler,
) -> None:
    count, begun, over = Count(), [], []

    async def hangs() -> None:
        begun.append(1)
        try:
            await asyncio.sleep(3600)
        finally:
            over.append(1)

    release = threading.Event()
    scheduler.add_job("hangs", 3600, hangs, timeout_seconds=1)
    scheduler.add_job("stuck", 3600, lambda: release.wait(2 * PATIENCE), timeout_seconds=1)
    scheduler.add_job("count", 0.1, count)
    try:
        engine = await engine_of(scheduler)

        async def timed_out() -> bool:
            runs = [*await engine.runs("static:hangs"), *await engine.runs("static:stuck")]
            return [run.status for run in runs] == ["timeout", "timeout"]

        await until(timed_out)
        # On a slow machine its time may be out before it has begun.
        await until(lambda: len(over) == len(begun))
        await until(lambda: count.n >= 5)
    finally:
        release.set()


async def test_d14_a_loop_that_stands_still_is_noticed_while_it_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from unified_scheduler_engine.compat._loop_watch import LoopWatch

    watch = LoopWatch(every=0.02, patience=0.5)
    watch.start()
    before, end = watch.n_blocks, time.monotonic() + PATIENCE
    while watch.n_blocks == before and time.monotonic() < end:
        time.sleep(0.01)
    # It tells of it once, however long it lasts.
    time.sleep(0.8)
    assert watch.n_blocks == before + 1
    await until(lambda: not watch.blocked_for)
    watch.stop()
    assert "test_defects.py" in caplog.text


BLOCKED = """
import asyncio, sys, time
from unified_scheduler_engine.compat import UnifiedScheduler

url, role, folder = sys.argv[1:]

def n_of_the_other():
    try:
        with open(f"{folder}/free") as out:
            return len(out.readlines())
    except FileNotFoundError:
        return 0

async def block():
    # Several times: what this process has taken at the very instant of a block waits for its end, and on
    # a slow machine that may be all that there is.
    for _ in range(6):
        before, end = n_of_the_other(), time.monotonic() + 10
        while time.monotonic() < end:
            if n_of_the_other() >= before + 50:
                with open(f"{folder}/done", "w"):
                    return
            time.sleep(0.02)
        await asyncio.sleep(1)

async def quick():
    with open(f"{folder}/{role}", "a") as out:
        out.write("ran\\n")

async def main():
    scheduler = UnifiedScheduler(None, store_url=url, poll=0.2, name=role, stop_grace=20)
    for n in range(10):
        scheduler.add_job(f"quick {n}", 0.3, quick)
        await asyncio.sleep(0.03)
    await scheduler.start()
    if role == "blocks":
        await asyncio.to_thread(sys.stdin.readline)
        scheduler.add_job("block", 3600, block)
    await asyncio.to_thread(sys.stdin.read)
    await scheduler.stop()

asyncio.run(main())
"""


async def test_d14_what_is_due_is_left_to_others_while_the_loop_is_blocked(tmp_path: Any) -> None:
    url = f"sqlite://{tmp_path}/jobs.db"
    looked = Scheduler(url)
    commands = [["-c", BLOCKED, url, role, str(tmp_path)] for role in ("free", "blocks")]
    with children(*commands) as both:
        await until(lambda: all((tmp_path / role).exists() for role in ("free", "blocks")))
        both.tell("block\n")
        await until((tmp_path / "done").exists, 2 * PATIENCE)
        assert await both.end() == [0, 0]
    (block,) = await looked.runs("static:block")
    report = await looked.verify()
    await looked.core.stop()
    assert block.status == "success"
    assert report.is_whole, report.problems


async def test_d26_lines_are_there_while_a_job_runs(
    scheduler: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    templates.get("echo").hold()
    engine = await engine_of(scheduler)
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
    if sys.argv[4:]:
        await asyncio.sleep(float(sys.argv[4]))

async def main():
    scheduler = UnifiedScheduler(None, store_url=sys.argv[1], lease=float(sys.argv[3]), poll=0.2)
    scheduler.add_job("work", 0.5, work)
    await scheduler.start()
    await asyncio.to_thread(sys.stdin.read)
    await scheduler.stop()

asyncio.run(main())
"""


async def test_d01_several_processes_run_each_due_time_once(tmp_path: Any) -> None:
    url, out = f"sqlite://{tmp_path}/jobs.db", tmp_path / "out"
    looked = Scheduler(url)

    async def shared() -> bool:
        alive = [node for node in await looked.nodes() if not node["dead"]]
        return len(alive) == 3 and len(await looked.runs(status="success")) >= 6

    with children(*[["-c", CHILD, url, str(out), "15"]] * 3) as three:
        await until(shared)
        assert await three.end() == [0, 0, 0]
    runs = await looked.runs("static:work", limit=1000)
    await looked.core.stop()
    begun = [run for run in runs if run.started_at is not None]
    assert len({run.due_at for run in begun}) == len(begun)
    # What was claimed at the very end may not have come to its first line.
    n_lines = len(out.read_text().splitlines())
    assert sum(run.ok for run in begun) <= n_lines <= len(begun)


async def test_d05_a_killed_process_leaves_nothing_running(tmp_path: Any) -> None:
    url, out = f"sqlite://{tmp_path}/jobs.db", tmp_path / "out"
    with children(["-c", CHILD, url, str(out), "2", "3600"]) as child:
        await until(lambda: out.exists() and out.read_text())
        child.kill()
    other = UnifiedScheduler(None, store_url=url, lease=2.0, poll=0.2)
    looked = await engine_of(other)

    async def is_over() -> bool:
        return not await looked.runs("static:work", status="running")

    await until(is_over)
    assert (await looked.runs("static:work", oldest_first=True))[0].status == "lost"
    await other.stop()
