"""Jobs of APScheduler 3 move over."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from unified_scheduler_engine import Scheduler, apscheduler

sqlalchemy = pytest.importorskip("sqlalchemy")


def remember(path: str, text: str = "plain") -> str:
    Path(path).write_text(text)
    return text


async def remember_async(path: str) -> str:
    return remember(path, "coroutine")


async def test_a_job_store_is_imported_once_with_its_next_run_times(tmp_path: Path, database: str) -> None:
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
    from apscheduler.schedulers.background import BackgroundScheduler
    from apscheduler.triggers.combining import OrTrigger
    from apscheduler.triggers.interval import IntervalTrigger

    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/old.db")
    due = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=5)
    theirs = BackgroundScheduler(timezone="Europe/Berlin")
    theirs.add_jobstore("sqlalchemy", engine=engine)
    theirs.start(paused=True)
    theirs.add_job(remember, "interval", hours=6, id="plain", args=[f"{tmp_path}/a"], next_run_time=due)
    theirs.add_job(remember_async, "cron", hour=3, id="coroutine", args=[f"{tmp_path}/b"], max_instances=3)
    theirs.add_job(remember, "cron", hour=3, id="paused", args=["x"], next_run_time=None, coalesce=False)
    theirs.add_job(remember, "date", run_date=due, id="once", kwargs={"path": "x"}, misfire_grace_time=30)
    theirs.add_job(remember, "interval", hours=1, id="odd", args=[datetime.now()])
    theirs.add_job(remember, OrTrigger([IntervalTrigger(hours=1)]), id="either", args=["x"])
    theirs.shutdown()

    async with Scheduler(database) as scheduler:
        store = SQLAlchemyJobStore(engine=engine)
        report = {item.id: item for item in await apscheduler.import_jobs(scheduler, store)}
        assert "no JSON" in report["odd"].reason and "OrTrigger" in report["either"].reason
        again = await apscheduler.import_jobs(scheduler, store)
        assert all(item.job_id is None for item in again)
        engine.dispose()

        jobs = {job.name: job for job in await scheduler.jobs()}
        assert set(jobs) == {"plain", "coroutine", "paused", "once"}
        assert jobs["plain"].next_run_time == due and jobs["once"].next_run_time == due
        assert not jobs["paused"].enabled and jobs["paused"].document["misfire"]["policy"] == "run_all"
        assert jobs["coroutine"].document["overlap"] == {"policy": "allow", "max": 3}
        assert jobs["coroutine"].schedule["timezone"] == "Europe/Berlin"
        assert jobs["once"].document["misfire"] == {"policy": "skip", "grace_seconds": 30}
        for name, text, file in (("plain", "plain", "a"), ("coroutine", "coroutine", "b")):
            run = await scheduler.wait_for(await scheduler.trigger(jobs[name]))
            assert run.message == text and (tmp_path / file).read_text() == text
