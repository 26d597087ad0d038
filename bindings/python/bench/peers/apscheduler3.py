"""APScheduler 3 on its MongoDB job store. It keeps no record of what ran."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Any

from apscheduler.events import EVENT_ALL, EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, EVENT_JOB_MISSED
from apscheduler.jobstores.mongodb import MongoDBJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler

ENDS = EVENT_JOB_EXECUTED | EVENT_JOB_ERROR | EVENT_JOB_MISSED


async def nothing() -> None:
    """The work."""


async def burst(client: Any, database: str, n: int, due: datetime) -> float:
    """Has `n` jobs due at once; the time of the last end, by `time.time`."""
    ended: list[int] = []
    last = 0.0
    done = asyncio.Event()

    def hear(event: Any) -> None:
        nonlocal last
        if event.code & ENDS:
            ended.append(event.code)
            if len(ended) == n:
                last = time.time()
                done.set()

    scheduler = AsyncIOScheduler(timezone="UTC")
    scheduler.add_jobstore(MongoDBJobStore(database=database, client=client))
    scheduler.add_listener(hear, EVENT_ALL)
    for i in range(n):
        scheduler.add_job(
            nothing,
            "interval",
            hours=1,
            id=f"job {i}",
            next_run_time=due,
            misfire_grace_time=3600,
            coalesce=True,
        )
    scheduler.start()
    if time.time() >= due.timestamp():
        raise SystemExit("the jobs were due before they were stored; ask for a longer lead")
    await done.wait()
    scheduler.shutdown(wait=True)
    await asyncio.sleep(0)
    if set(ended) != {EVENT_JOB_EXECUTED}:
        raise SystemExit(f"of {n} jobs only {ended.count(EVENT_JOB_EXECUTED)} ran")
    return last
