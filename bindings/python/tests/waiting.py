"""Waiting for what a test expects, and counting.

Nothing is on time: a machine with a lot to do may hold up a process, or its database, for seconds. A test
waits for what is to come about, and lets time pass only to see that something does not.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

from unified_scheduler_engine import Execution, Scheduler, UnifiedScheduler

#: How long something may take that does come about. Longer than the 10 s after which the engine gives up a
#: call that has no answer, and asks again.
PATIENCE = 60.0


async def until(condition: Callable[[], Any], timeout: float = PATIENCE) -> Any:
    """Waits for a condition, which may have to be awaited, and gives what it gave."""
    end = time.monotonic() + timeout
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        assert time.monotonic() < end, "it did not come true"
        await asyncio.sleep(0.01)


def until_blocking(condition: Callable[[], Any], timeout: float = PATIENCE) -> Any:
    """The same where there is no loop."""
    end = time.monotonic() + timeout
    while not (answer := condition()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)
    return answer


async def ended(scheduler: Scheduler, execution: Execution | str) -> Execution:
    """An execution, once it has ended."""
    return await scheduler.wait_for(execution, PATIENCE)


async def at_rest(scheduler: Scheduler, job: str) -> None:
    """Waits until no execution of a job is under way."""

    async def rests() -> bool:
        return not await scheduler.runs(job, status=("pending", "running"))

    await until(rests)


async def engine_of(scheduler: UnifiedScheduler) -> Scheduler:
    """The engine of a scheduler that is started; a slow store is waited for."""
    await scheduler.start()
    found = await until(lambda: scheduler.engine)
    assert isinstance(found, Scheduler)
    return found


class Count:
    """A job that counts."""

    def __init__(self) -> None:
        self.n = 0

    async def __call__(self) -> None:
        self.n += 1
