"""Waiting for answers of the engine: from a coroutine, or from a thread that may block.

An order that was given is carried out even when nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
from collections.abc import Callable
from typing import Any

from ._errors import error_from_json

Done = Callable[["str | None", "str | None"], None]
Order = Callable[[Done], None]


def begin(order: Order) -> asyncio.Future[Any]:
    """Gives an order now; the future is done with its answer."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(value: str | None, error: str | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error_from_json(error))
        else:
            future.set_result(None if value is None else json.loads(value))

    def done(value: str | None, error: str | None) -> None:
        loop.call_soon_threadsafe(settle, value, error)

    order(done)
    return future


async def wait(order: Order) -> Any:
    """Gives an order and waits for its answer."""
    return await begin(order)


def wait_blocking(order: Order, timeout: float | None = None) -> Any:
    """The same on a thread that may block; Ctrl-C ends the wait."""
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def done(value: str | None, error: str | None) -> None:
        if error is not None:
            future.set_exception(error_from_json(error))
        else:
            future.set_result(None if value is None else json.loads(value))

    order(done)
    return future.result(timeout)
