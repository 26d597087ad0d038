"""Waiting for what a test expects, and counting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any


async def until(condition: Callable[[], Any], timeout: float = 30.0) -> Any:
    """Waits for a condition, which may be a coroutine function, and gives what it gave.

    For longer than the 10 s after which the engine gives up a call that has no answer, and asks again.
    """
    end = time.monotonic() + timeout
    while True:
        answer = condition()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return answer
        assert time.monotonic() < end, "it did not come true"
        await asyncio.sleep(0.01)


class Count:
    """A job that counts."""

    def __init__(self) -> None:
        self.n = 0

    async def __call__(self) -> None:
        self.n += 1
