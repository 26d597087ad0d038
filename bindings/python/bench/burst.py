"""1,000 jobs without work, due in the same instant, on MongoDB: how long from due to the last record.

    python bench/burst.py [--jobs N] [--rounds N]

In one run, in turns, on a server of its own and on a replica set: this package's own scheduler;
`UnifiedScheduler` on the documents of the existing backend; the existing design
(`peers/existing_design.py`), whose poll is made to come at the very instant, with what its driver does by
itself; and APScheduler 3 (`peers/apscheduler3.py`), which records nothing. All others write a full record of
each run. On a replica set the default of every driver is that a write waits for the journals of a majority.
Alone a server acknowledges what it has in memory; there the existing design also runs with writes that wait
for the journal, as ours do. `TEST_MONGODB_URL` and `TEST_MONGODB_REPLICA_URL` name the servers, at least one;
`cargo xtask bench python burst` starts both.
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
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pymongo
from motor.motor_asyncio import AsyncIOMotorClient
from peers import apscheduler3, existing_design
from unified_scheduler_engine import Every, JobResult, JobTemplate, Scheduler, TemplateRegistry
from unified_scheduler_engine.compat import UnifiedScheduler

#: How many executions may run at once: as many as are due.
ROOM = 1000


#: The kinds of servers, and where each is named.
SERVERS = {"one server": "TEST_MONGODB_URL", "replica set": "TEST_MONGODB_REPLICA_URL"}


@dataclass(frozen=True)
class Server:
    """A server, or a replica set."""

    kind: str
    url: str

    def of(self, database: str) -> str:
        """The URL of a database there."""
        base, _, options = self.url.partition("?")
        scheme, _, rest = base.partition("://")
        return f"{scheme}://{rest.partition('/')[0]}/{database}{'?' * bool(options)}{options}"


def servers() -> list[Server]:
    """Those that are named."""
    found = [Server(kind, os.environ[name]) for kind, name in SERVERS.items() if os.environ.get(name)]
    if not found:
        names = " or ".join(SERVERS.values())
        raise SystemExit(f"name a MongoDB server in {names}, or use `cargo xtask bench python burst`")
    return found


@asynccontextmanager
async def database(server: Server, **options: Any) -> AsyncIterator[Any]:
    """A handle on an empty database, dropped afterwards."""
    client: Any = AsyncIOMotorClient(server.of(""), **options)
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


async def ours(server: Server, n: int) -> float:
    """This package's own scheduler."""
    async with database(server) as db:
        scheduler = Scheduler(server.of(db.name), concurrency=ROOM, claim_batch=ROOM)
        ran = 0

        async def nothing() -> None:
            nonlocal ran
            ran += 1

        due = soon(2 + n / 250)
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


async def drop_in(server: Server, n: int) -> float:
    """`UnifiedScheduler`, on documents that the existing backend wrote."""
    async with database(server) as db:
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


async def existing(server: Server, n: int, **options: Any) -> float:
    """The existing design, with the options of its client."""
    async with database(server, **options) as db:
        due = soon(2 + n / 1000)
        await db.dynamic_jobs.insert_many(
            [existing_design.document(f"job {i}", due.replace(tzinfo=None)) for i in range(n)]
        )
        in_time(due)
        await asyncio.sleep(due.timestamp() - time.time())
        ran = await existing_design.poll_once(db)
        return await last_record(lambda: ran == n, db, n) - due.timestamp()


async def existing_durable(server: Server, n: int) -> float:
    """The existing design, its writes as durable as those of this package."""
    return await existing(server, n, w="majority", journal=True)


async def apscheduler(server: Server, n: int) -> float:
    """APScheduler 3."""
    name = f"burst_{uuid.uuid4().hex[:12]}"
    due = soon(2 + n / 200)
    with pymongo.MongoClient[dict[str, Any]](server.of("")) as client:
        # Its job store closes the client that it is given.
        theirs = pymongo.MongoClient[dict[str, Any]](server.of(""))
        try:
            return await apscheduler3.burst(theirs, name, n, due) - due.timestamp()
        finally:
            client.drop_database(name)


Way = Callable[[Server, int], Awaitable[float]]

#: This package's own come first.
OURS = {"this package": ours, "this package, existing documents": drop_in}

PEERS: dict[str, Way] = {
    "existing design": existing,
    "existing design, durable writes": existing_durable,
    "APScheduler 3": apscheduler,
}


def ways(server: Server) -> dict[str, Way]:
    """Those that differ on this server: on a replica set every write is durable anyhow."""
    every = {**OURS, **PEERS}
    return {
        name: way for name, way in every.items() if way != existing_durable or server.kind == "one server"
    }


def told(server: Server, took: dict[str, list[float]], n: int) -> None:
    """Prints the medians, and how they compare."""
    middle = {name: statistics.median(times) for name, times in took.items()}
    rounds = len(next(iter(took.values())))
    print(f"{server.kind}: {n} jobs due at once, from due to the last record; the median of {rounds} rounds")
    for name, seconds in middle.items():
        print(f"  {name:34} {seconds * 1e3:9.0f} ms {n / seconds:9,.0f} jobs a second")
    for name in OURS:
        times = [f"{middle[peer] / middle[name]:.1f} times {peer}" for peer in middle if peer not in OURS]
        print(f"  {name} is as fast as {', '.join(times)}")


async def main() -> None:
    """Runs all of them in turns, and prints the medians and how they compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    took: dict[Server, dict[str, list[float]]] = {
        server: {name: [] for name in ways(server)} for server in servers()
    }
    for _ in range(given.rounds):
        for server, times in took.items():
            for name, way in ways(server).items():
                times[name].append(await way(server, given.jobs))
                print(f"{server.kind}, {name}: {times[name][-1] * 1e3:.0f} ms", file=sys.stderr)
    for server, times in took.items():
        told(server, times, given.jobs)


if __name__ == "__main__":
    asyncio.run(main())
