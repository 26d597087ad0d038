"""How fast no-op handlers go from Rust to Python and back, what that does to the loop, and what leaks.

    python bench/dispatch.py rate [N]   N due executions at once, engine and loop on one core: handlers a
                                        second, from the first call to the last record
    python bench/dispatch.py lag        1,000 executions a second: how late the host's own loop is
    python bench/dispatch.py leak [N]   N executions: resident memory and Python objects on the way

The store is the one in memory.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from unified_scheduler_engine import Every, History, Manual, Overlap, Scheduler

MANY = Overlap("allow", 10_000)
#: How often the loop is asked for its time, in seconds.
TICK = 0.002


def on_one_core() -> None:
    """Has everything that this process starts share one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    else:
        print("this system pins no process to a core; all cores are used")


async def rate(n: int) -> None:
    """Prints how many handlers a second there are."""
    scheduler = Scheduler("memory:", concurrency=1000)
    times: list[float] = []

    @scheduler.job(Manual(), overlap=MANY)
    async def noop() -> None:
        times.append(time.perf_counter())

    async with scheduler:
        at = datetime.now(timezone.utc) + timedelta(seconds=max(4.0, n / 5000))
        await asyncio.gather(
            *(
                scheduler.core.begin("run_job", id="static:noop", at=at.isoformat(), actor="bench")
                for _ in range(n)
            )
        )
        if datetime.now(timezone.utc) >= at:
            raise SystemExit("the machine is too slow to fill the store in time; ask for fewer")
        while len(times) < n:
            await asyncio.sleep(0.005)
        while await recorded(scheduler) < n:
            await asyncio.sleep(0.001)
        took = time.perf_counter() - times[0]
    print(f"{n} handlers in {took:.3f} s: {n / took:,.0f} a second, the last record included")


async def recorded(scheduler: Scheduler) -> int:
    """How many successes are recorded."""
    page = await scheduler.core.ask("executions", query={"statuses": ["success"], "count": True})
    return int(page["total"])


async def lateness(seconds: float) -> str:
    """How late the loop is, asked every two milliseconds."""
    late: list[float] = []
    end = time.perf_counter() + seconds
    while (asked := time.perf_counter()) < end:
        await asyncio.sleep(TICK)
        late.append((time.perf_counter() - asked - TICK) * 1e3)
    late.sort()
    middle, high = late[len(late) // 2], late[int(len(late) * 0.99)]
    return f"late by {middle:.2f} ms (median), {high:.2f} ms (99 %), {late[-1]:.2f} ms (most)"


async def lag(seconds: float = 10.0) -> None:
    """Prints how late the loop is without and with 1,000 executions a second."""
    scheduler = Scheduler("memory:", concurrency=1000)
    ran = 0

    async def noop() -> None:
        nonlocal ran
        ran += 1

    print(f"without a scheduler: the loop was {await lateness(seconds)}")
    for i in range(100):
        scheduler.add_job(noop, Every(milliseconds=100), id=f"noop{i}", history=History("none"))
    async with scheduler:
        await asyncio.sleep(1)
        before = ran
        told = await lateness(seconds)
        done = ran - before
    print(f"{done / seconds:,.0f} executions a second: the loop was {told}")


def resident() -> float:
    """The resident memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def slope(points: list[tuple[float, float]]) -> float:
    """By least squares."""
    x0 = sum(x for x, _ in points) / len(points)
    y0 = sum(y for _, y in points) / len(points)
    spread = sum((x - x0) ** 2 for x, _ in points)
    return sum((x - x0) * (y - y0) for x, y in points) / spread if spread else 0.0


async def leak(n: int) -> None:
    """Prints memory and objects on the way to `n` executions."""
    scheduler = Scheduler("memory:", concurrency=1000)
    ran = 0

    async def noop() -> str:
        nonlocal ran
        ran += 1
        return "a result"

    rounds, each = 10, 500
    size = n // rounds // each * each
    seen: list[tuple[float, float]] = []
    async with scheduler:
        await scheduler.add_job(noop, Manual(), overlap=MANY, history=History("none"))
        for i in range(1, rounds + 1):
            for _ in range(size // each):
                asked = (
                    scheduler.core.begin("run_job", id="static:noop", actor="bench") for _ in range(each)
                )
                await asyncio.gather(*asked)
            while ran < i * size or scheduler.n_running:
                await asyncio.sleep(0.01)
            gc.collect()
            seen.append((i * size / 1e6, resident()))
            print(
                f"after {i * size:>9,} executions: {resident():6.1f} MB resident,"
                f" {len(gc.get_objects()):,} Python objects"
            )
    # The first rounds fill pools and tables.
    print(f"from {seen[2][0]:.1f} million on: {slope(seen[2:]):+.2f} MB for each million")


def main() -> None:
    """Does what the arguments say."""
    match sys.argv[1:]:
        case ["lag"]:
            asyncio.run(lag())
        case ["leak", *rest]:
            asyncio.run(leak(int(rest[0]) if rest else 1_000_000))
        case ["rate", *rest]:
            on_one_core()
            asyncio.run(rate(int(rest[0]) if rest else 20_000))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
