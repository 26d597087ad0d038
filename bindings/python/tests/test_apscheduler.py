"""Jobs of APScheduler 3 move over, from each of its job stores."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pymongo
import pytest
import redis
import sqlalchemy
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.jobstores.mongodb import MongoDBJobStore
from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.interval import IntervalTrigger
from unified_scheduler_engine import Scheduler, apscheduler

DUE = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=5)


def remember(path: str, text: str = "plain") -> str:
    Path(path).write_text(text)
    return text


async def remember_async(path: str) -> str:
    return remember(path, "coroutine")


def server(variable: str) -> str:
    """The URL of a server that the environment names."""
    given = os.environ.get(variable)
    if not given:
        pytest.fail(f"there is no server: set {variable}, or run `cargo xtask python`")
    return given


@pytest.fixture(params=["memory", "sqlalchemy", "mongodb", "redis"])
def job_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A job store of APScheduler's own."""
    name = f"aps_{uuid.uuid4().hex[:12]}"
    if request.param == "memory":
        yield MemoryJobStore()
    elif request.param == "sqlalchemy":
        engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/old.db")
        yield SQLAlchemyJobStore(engine=engine)
        engine.dispose()
    elif request.param == "mongodb":
        url = server("TEST_MONGODB_URL")
        # APScheduler closes the client that it is given.
        yield MongoDBJobStore(database=name, client=pymongo.MongoClient(url))
        with pymongo.MongoClient[Any](url) as client:
            client.drop_database(name)
    else:
        store = RedisJobStore(jobs_key=f"{name}.jobs", run_times_key=f"{name}.run_times")
        store.redis.close()
        store.redis = redis.Redis.from_url(server("TEST_REDIS_URL"))
        yield store
        store.redis.delete(f"{name}.jobs", f"{name}.run_times")
        store.redis.close()


def fill(job_store: Any, folder: Path) -> BackgroundScheduler:
    """Has APScheduler put jobs of every kind into a store; gives its scheduler, which does not run them."""
    theirs = BackgroundScheduler(timezone="Europe/Berlin")
    theirs.add_jobstore(job_store)
    theirs.start(paused=True)
    theirs.add_job(remember, "interval", hours=6, id="plain", args=[f"{folder}/a"], next_run_time=DUE)
    theirs.add_job(remember_async, "cron", hour=3, id="coroutine", args=[f"{folder}/b"], max_instances=3)
    theirs.add_job(remember, "cron", hour=3, id="paused", args=["x"], next_run_time=None, coalesce=False)
    theirs.add_job(remember, "date", run_date=DUE, id="once", kwargs={"path": "x"}, misfire_grace_time=30)
    theirs.add_job(remember, "interval", hours=1, id="odd", args=[datetime.now()])
    theirs.add_job(remember, OrTrigger([IntervalTrigger(hours=1)]), id="either", args=["x"])
    return theirs


async def test_a_job_store_is_imported_once_with_its_next_run_times(
    job_store: Any, tmp_path: Path, database: str
) -> None:
    theirs = fill(job_store, tmp_path)
    async with Scheduler(database) as scheduler:
        report = {item.id: item for item in await apscheduler.import_jobs(scheduler, job_store)}
        assert "no JSON" in report["odd"].reason and "OrTrigger" in report["either"].reason
        again = await apscheduler.import_jobs(scheduler, job_store)
        assert all(item.job_id is None for item in again)
        assert len(theirs.get_jobs()) == 6, "nothing is changed in the source"
        theirs.shutdown()

        jobs = {job.name: job for job in await scheduler.jobs()}
        assert set(jobs) == {"plain", "coroutine", "paused", "once"}
        assert jobs["plain"].next_run_time == DUE and jobs["once"].next_run_time == DUE
        assert not jobs["paused"].enabled and jobs["paused"].document["misfire"]["policy"] == "run_all"
        assert jobs["coroutine"].document["overlap"] == {"policy": "allow", "max": 3}
        assert jobs["coroutine"].schedule["timezone"] == "Europe/Berlin"
        assert jobs["once"].document["misfire"] == {"policy": "skip", "grace_seconds": 30}
        for name, text, file in (("plain", "plain", "a"), ("coroutine", "coroutine", "b")):
            run = await scheduler.wait_for(await scheduler.trigger(jobs[name]))
            assert run.message == text and (tmp_path / file).read_text() == text


async def test_a_store_that_no_scheduler_has_opened_is_read_as_well(tmp_path: Path, database: str) -> None:
    """As after a restart: with the store alone."""
    url = f"sqlite:///{tmp_path}/old.db"
    fill(SQLAlchemyJobStore(url), tmp_path).shutdown()
    store = SQLAlchemyJobStore(url)
    async with Scheduler(database) as scheduler:
        report = await apscheduler.import_jobs(scheduler, store)
    store.engine.dispose()
    assert sum(item.job_id is not None for item in report) == 4
