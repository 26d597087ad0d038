"""1,000 jobs without work, due in the same instant, on one MongoDB: how long from due to the last record.

    python bench/burst.py [--jobs N] [--rounds N]

Five ways in one run, on the same server: this package's own scheduler; `UnifiedScheduler` on the documents
of the existing backend; the existing design (`peers/existing_design.py`), whose poll is made to come at the
very instant, with what its driver does by itself, and with writes that wait for the journal as ours do; and
APScheduler 3 (`peers/apscheduler3.py`), which records nothing. All others write a full record of each run.
The server is what `TEST_MONGODB_URL` names; `cargo xtask bench python burst` starts one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pymongo
from motor.motor_asyncio import AsyncIOMotorClient
from peers import apscheduler3, existing_design
from unified_scheduler_engine import Every, JobResult, JobTemplate, Scheduler, TemplateRegistry
from unified_scheduler_engine.compat import UnifiedScheduler

#: How many executions may run at once: as many as are due.
ROOM = 1000


def url() -> str:
    """The server."""
    found = os.environ.get("TEST_MONGODB_URL")
    if not found:
        raise SystemExit("name a MongoDB server in TEST_MONGODB_URL, or use `cargo xtask bench python burst`")
    scheme, _, rest = found.partition("?")[0].partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


@asynccontextmanager
async def database(**options: Any) -> AsyncIterator[Any]:
    """A handle on an empty database, dropped afterwards."""
    client: Any = AsyncIOMotorClient(url(), **options)
    name = f"burst_{uuid.uuid4().hex[:12]}"
    try:
        yield client[name]
    finally:
        await client.drop_database(name)
        client.close()


def in_time(due: datetime) -> None:
    """The jobs must be stored before they are due."""
    if datetime.now(timezone.utc) >= due:
        raise SystemExit("the jobs were due before they were stored; ask for fewer")


def soon(seconds: float) -> datetime:
    """An instant to come, in whole milliseconds as MongoDB has it."""
    at = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


async def last_record(done: Callable[[], bool], db: Any, n: int) -> float:
    """Waits until all have run, and until each has its record."""
    while not done():
        await asyncio.sleep(0.001)
    end = time.time() + 60
    while (recorded := await db.job_executions.count_documents({"status": "success"})) < n:
        if time.time() > end:
            raise SystemExit(f"{recorded} of {n} executions are recorded")
        # Often enough to tell, and not so often that it is work for the server.
        await asyncio.sleep(0.01)
    return time.time()


async def ours(n: int) -> float:
    """This package's own scheduler."""
    async with database() as db:
        scheduler = Scheduler(f"{url()}/{db.name}", concurrency=ROOM, claim_batch=ROOM)
        ran = 0

        async def nothing() -> None:
            nonlocal ran
            ran += 1

        due = soon(2 + n / 60)
        for i in range(n):
            scheduler.add_job(nothing, Every(hours=1, anchor=due), id=f"job {i}")
        async with scheduler:
            in_time(due)
            last = await last_record(lambda: ran == n, db, n)
        return last - due.timestamp()


class Nothing(JobTemplate):
    """A template of the existing backend, without work."""

    template_type = "nothing"
    ran = 0

    async def execute(self, context: Any) -> JobResult:
        """Counts."""
        self.ran += 1
        return JobResult("success", "")

    def validate_params(self, params: dict[str, Any]) -> tuple[bool, str | None]:
        """Takes anything."""
        return True, None

    def get_schema(self) -> dict[str, Any]:
        """Wants nothing."""
        return {}


async def drop_in(n: int) -> float:
    """`UnifiedScheduler`, on documents that the existing backend wrote."""
    async with database() as db:
        template, registry = Nothing(), TemplateRegistry()
        registry.register(template)
        due = soon(5 + n / 500)
        await db.dynamic_jobs.insert_many(
            [existing_design.document(f"job {i}", due.replace(tzinfo=None)) for i in range(n)]
        )
        scheduler = UnifiedScheduler(db, registry=registry, concurrency=ROOM)
        await scheduler.start()
        try:
            in_time(due)
            if scheduler.engine is None:
                raise SystemExit(f"it did not start: {scheduler.trouble}")
            last = await last_record(lambda: template.ran == n, db, n)
        finally:
            await scheduler.stop()
        return last - due.timestamp()


async def existing(n: int, **options: Any) -> float:
    """The existing design, with the options of its client."""
    async with database(**options) as db:
        due = soon(2 + n / 1000)
        await db.dynamic_jobs.insert_many(
            [existing_design.document(f"job {i}", due.replace(tzinfo=None)) for i in range(n)]
        )
        in_time(due)
        await asyncio.sleep(due.timestamp() - time.time())
        ran = await existing_design.poll_once(db)
        return await last_record(lambda: ran == n, db, n) - due.timestamp()


async def existing_durable(n: int) -> float:
    """The existing design, its writes as durable as those of this package."""
    return await existing(n, w="majority", journal=True)


async def apscheduler(n: int) -> float:
    """APScheduler 3."""
    name = f"burst_{uuid.uuid4().hex[:12]}"
    due = soon(2 + n / 100)
    with pymongo.MongoClient[dict[str, Any]](url()) as client:
        # Its job store closes the client that it is given.
        theirs = pymongo.MongoClient[dict[str, Any]](url())
        try:
            return await apscheduler3.burst(theirs, name, n, due) - due.timestamp()
        finally:
            client.drop_database(name)


WAYS: dict[str, Callable[[int], Awaitable[float]]] = {
    "this package": ours,
    "this package, existing documents": drop_in,
    "existing design": existing,
    "existing design, durable writes": existing_durable,
    "APScheduler 3": apscheduler,
}


async def main() -> None:
    """Runs all of them in turns, and prints the medians and how they compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    took: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(given.rounds):
        for name, way in WAYS.items():
            took[name].append(await way(given.jobs))
            print(f"{name}: {took[name][-1] * 1e3:.0f} ms", file=sys.stderr)
    middle = {name: statistics.median(times) for name, times in took.items()}
    print(f"{given.jobs} jobs due at once, from due to the last record; the median of {given.rounds} rounds")
    for name, seconds in middle.items():
        print(f"{name:34} {seconds * 1e3:9.0f} ms {given.jobs / seconds:9,.0f} jobs a second")
    for name in list(WAYS)[:2]:
        times = [f"{middle[other] / middle[name]:.1f} times {other}" for other in list(WAYS)[2:]]
        print(f"{name} is as fast as {', '.join(times)}")


if __name__ == "__main__":
    asyncio.run(main())
