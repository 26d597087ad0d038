"""How fast no-op handlers go from Rust to Python and back, what that does to the loop, and what leaks.

    python bench/dispatch.py [rate [N]]   N due executions at once: handlers a second, from the first call
                                          to the last record
    python bench/dispatch.py lag          1,000 executions a second: how late the host's own loop is
    python bench/dispatch.py leak [N]     N executions in rounds: the resident memory after each

On one core: put `taskset -c 0` before it. The store is the one in memory; both sides share the core.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from unified_scheduler_engine import Every, History, Manual, Overlap, Scheduler

MANY = Overlap("allow", 10_000)


async def rate(n: int) -> None:
    scheduler = Scheduler("memory:", concurrency=1000)
    times: list[float] = []

    @scheduler.job(Manual(), overlap=MANY)
    async def noop() -> None:
        times.append(time.perf_counter())

    async with scheduler:
        lead = max(4.0, n / 5000)
        at = datetime.now(timezone.utc) + timedelta(seconds=lead)
        await asyncio.gather(
            *(
                scheduler.core.begin("run_job", id="static:noop", at=at.isoformat(), actor="bench")
                for _ in range(n)
            )
        )
        if datetime.now(timezone.utc) >= at:
            raise SystemExit("the machine is too slow to fill the store in time; ask for fewer")
        while len(times) < n or scheduler.n_running:
            await asyncio.sleep(0.005)
        took = time.perf_counter() - times[0]
    print(f"{n} handlers in {took:.3f} s: {n / took:,.0f} a second, the last record included")


async def lag(seconds: float = 10.0) -> None:
    scheduler = Scheduler("memory:", concurrency=1000)
    ran = 0

    async def noop() -> None:
        nonlocal ran
        ran += 1

    for i in range(100):
        scheduler.add_job(noop, Every(milliseconds=100), id=f"noop{i}", history=History("none"))
    late: list[float] = []
    async with scheduler:
        await asyncio.sleep(1)
        before, end = ran, time.perf_counter() + seconds
        while (asked := time.perf_counter()) < end:
            await asyncio.sleep(0.002)
            late.append(time.perf_counter() - asked - 0.002)
        done = ran - before
    late.sort()
    print(
        f"{done / seconds:,.0f} executions a second; the loop was late by {late[len(late) // 2] * 1e3:.2f} ms"
        f" (median), {late[int(len(late) * 0.99)] * 1e3:.2f} ms (99 %), {late[-1] * 1e3:.2f} ms (most)"
    )


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


async def leak(n: int) -> None:
    scheduler = Scheduler("memory:", concurrency=1000)
    done = asyncio.Event()
    left = 0

    async def noop() -> str:
        nonlocal left
        left -= 1
        if left == 0:
            done.set()
        return "a result"

    async with scheduler:
        await scheduler.add_job(noop, Manual(), overlap=MANY, history=History("none"))
        size, rounds = n // 20, 20
        for i in range(rounds):
            left = size
            done.clear()
            for _ in range(size // 500):
                await asyncio.gather(
                    *(scheduler.core.begin("run_job", id="static:noop", actor="bench") for _ in range(500))
                )
            left -= size % 500
            await done.wait()
            while scheduler.n_running:
                await asyncio.sleep(0.01)
            gc.collect()
            if i in (0, 1, 4, 9, 14, 19):
                print(f"after {(i + 1) * size:>9,} executions: {resident():.1f} MB")


def main() -> None:
    match sys.argv[1:]:
        case ["lag"]:
            asyncio.run(lag())
        case ["leak", *rest]:
            asyncio.run(leak(int(rest[0]) if rest else 1_000_000))
        case ["rate", n] | [n]:
            asyncio.run(rate(int(n)))
        case _:
            asyncio.run(rate(20_000))


if __name__ == "__main__":
    main()
