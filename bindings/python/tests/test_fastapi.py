"""An app of ten lines runs jobs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from unified_scheduler.fastapi import SchedulerDep, lifespan
from unified_scheduler_engine import Manual, Scheduler

APP = """
    import asyncio, os
    from fastapi import FastAPI
    from unified_scheduler import Every, Manual, Scheduler
    from unified_scheduler.fastapi import SchedulerDep, lifespan

    scheduler = Scheduler(os.environ["STORE"], poll=0.5)
    app = FastAPI(lifespan=lifespan(scheduler))

    @scheduler.job(Every(seconds=0.5))
    async def tick() -> str:
        return str(os.getpid())

    @scheduler.job(Manual())
    async def slow() -> None:
        await asyncio.sleep(60)

    @app.get("/runs")
    async def runs(scheduler: SchedulerDep) -> list[str]:
        return [run.message for run in await scheduler.runs("tick")]

    @app.post("/slow")
    async def start_slow(scheduler: SchedulerDep) -> str:
        return (await scheduler.trigger("slow")).id
"""


def test_the_lifespan_starts_inside_the_apps_own_and_the_dependency_gives_it(database: str) -> None:

    order: list[str] = []

    @asynccontextmanager
    async def own(app: Any) -> AsyncIterator[dict[str, str]]:
        order.append("open")
        yield {"db": "there"}
        order.append("closed")

    scheduler = Scheduler(database)

    @scheduler.job(Manual())
    async def work() -> str:
        order.append("work")
        return "done"

    app = FastAPI(lifespan=lifespan(scheduler, own))

    @app.get("/")
    async def root(scheduler: SchedulerDep) -> str:
        return (await scheduler.wait_for(await scheduler.trigger("work"), 5)).message

    with TestClient(app) as client:
        assert scheduler.running
        assert client.get("/").json() == "done"
    assert not scheduler.running and order == ["open", "work", "closed"]


def test_an_app_may_start_without_its_scheduler(tmp_path: Path) -> None:

    broken = Scheduler(f"sqlite://{tmp_path}/no/such/folder/jobs.db")
    with pytest.raises(Exception, match="folder"), TestClient(FastAPI(lifespan=lifespan(broken))):
        pass
    with TestClient(FastAPI(lifespan=lifespan(broken, required=False))):
        assert not broken.running


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("workers", [1, 3])
def test_uvicorn_with_workers_runs_each_due_time_once(tmp_path: Path, workers: int) -> None:
    (tmp_path / "app.py").write_text(textwrap.dedent(APP))
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), "--workers", str(workers)]
    environment = {**os.environ, "STORE": f"sqlite://{tmp_path}/jobs.db"}
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        runs: list[str] = []
        while time.monotonic() < deadline and len(runs) < 4:
            time.sleep(0.3)
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/runs", timeout=5) as answer:
                    runs = json.load(answer)
            except OSError:
                continue
        assert len(runs) >= 4, (tmp_path / "log").read_text()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/slow", method="POST")
        with urllib.request.urlopen(request, timeout=5):
            pass
        time.sleep(0.5)
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(20)
    assert code in (0, -signal.SIGTERM), (tmp_path / "log").read_text()
    assert "Traceback" not in (tmp_path / "log").read_text()

    async def look() -> None:
        later = Scheduler(environment["STORE"])
        assert (await later.verify()).is_whole
        (slow,) = await later.runs("static:slow")
        assert (slow.status, slow.reason) == ("failed", "interrupted")
        await later.stop()

    asyncio.run(look())
