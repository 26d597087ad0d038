"""Starting and stopping `UnifiedScheduler`, and what survives it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from unified_scheduler_engine import Scheduler
from unified_scheduler_engine.compat import (
    UnifiedScheduler,
    get_unified_scheduler,
    initialize_unified_scheduler,
    set_unified_scheduler,
    shutdown_unified_scheduler,
)
from waiting import PATIENCE, Count, until


async def test_start_returns_at_once_awaited_and_as_a_task(scheduler: UnifiedScheduler) -> None:
    await asyncio.wait_for(scheduler.start(), PATIENCE)
    await until(lambda: scheduler.engine)
    await scheduler.stop()
    assert not scheduler.is_running
    task = asyncio.create_task(scheduler.start())
    await asyncio.sleep(0)
    assert scheduler.is_running
    await task
    await until(lambda: scheduler.engine)
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
    await asyncio.wait_for(waiting, PATIENCE)


async def test_stop_gives_a_grace_and_then_interrupts(scheduler: UnifiedScheduler, tmp_path: Any) -> None:
    ended: list[str] = []

    async def long() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("finally")

    scheduler.add_job("long", 3600, long)
    await scheduler.start()
    await until(lambda: scheduler.jobs["long"].run_count)
    await asyncio.wait_for(scheduler.stop(), PATIENCE)
    assert ended == ["finally"]
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
    await until(lambda: count.n >= 2 and scheduler.trouble is None)


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
