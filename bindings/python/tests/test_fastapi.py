"""An app of ten lines runs jobs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from mongod import free_port
from unified_scheduler.fastapi import SchedulerDep, lifespan
from unified_scheduler_engine import Manual, Scheduler
from waiting import PATIENCE, ended, until_blocking

APP = """
    import asyncio, os
    from fastapi import FastAPI
    from unified_scheduler import Every, Manual, Scheduler
    from unified_scheduler.fastapi import SchedulerDep, lifespan

    scheduler = Scheduler(os.environ["STORE"], poll=0.5, stop_grace=1)
    app = FastAPI(lifespan=lifespan(scheduler))

    @scheduler.job(Every(seconds=0.5))
    async def tick() -> str:
        return str(os.getpid())

    @scheduler.job(Manual())
    async def slow() -> None:
        await asyncio.sleep(3600)

    @app.get("/runs")
    async def runs(scheduler: SchedulerDep) -> list[str]:
        return [run.message for run in await scheduler.runs("tick")]

    @app.post("/slow")
    async def start_slow(scheduler: SchedulerDep) -> str:
        run = await scheduler.trigger("slow")
        while run.status == "pending":
            await asyncio.sleep(0.02)
            run = await scheduler.execution(run)
        return run.status
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
        return (await ended(scheduler, await scheduler.trigger("work"))).message

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


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("workers", [1, 3])
def test_uvicorn_with_workers_runs_each_due_time_once(tmp_path: Path, workers: int) -> None:
    (tmp_path / "app.py").write_text(textwrap.dedent(APP))
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), "--workers", str(workers)]
    # A worker that is slow to come up is not put to death.
    command += ["--timeout-worker-healthcheck", "20"]
    environment = {**os.environ, "STORE": f"sqlite://{tmp_path}/jobs.db"}
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )

    def ask(path: str, method: str) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    def ran_often() -> bool:
        assert server.poll() is None, (tmp_path / "log").read_text()
        try:
            return len(ask("/runs", "GET")) >= 4
        except OSError:
            # It is not up yet.
            return False

    try:
        until_blocking(ran_often)
        assert ask("/slow", "POST") == "running"
        server.send_signal(signal.SIGTERM)
        code = server.wait(PATIENCE)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    assert code in (0, -signal.SIGTERM), (tmp_path / "log").read_text()
    assert "Traceback" not in (tmp_path / "log").read_text()

    async def look() -> None:
        later = Scheduler(environment["STORE"])
        assert (await later.verify()).is_whole
        (slow,) = await later.runs("static:slow")
        assert (slow.status, slow.reason) == ("failed", "interrupted")
        await later.stop()

    asyncio.run(look())
