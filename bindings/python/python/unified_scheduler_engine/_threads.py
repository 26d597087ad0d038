"""Plain functions, in a bounded pool of daemon threads.

A thread can't be stopped. One whose time is out is recorded at once and goes on by itself: it counts no
more, so that it takes nobody's place, and being a daemon it keeps no process from ending.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import queue
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from ._engine import Context, Lane, take_log
from ._results import failure_of, record_of

logger = logging.getLogger("unified_scheduler")

#: How long a thread without work stays.
IDLE = 30.0
#: How often the dispatcher looks around when nothing wakes it, in seconds.
LOOK = 1.0


class Threads:
    """A pool that serves one lane."""

    def __init__(
        self,
        lane: Lane,
        *,
        context: contextvars.Context,
        loop: asyncio.AbstractEventLoop,
        enter: contextvars.ContextVar[Context],
        max_threads: int,
        on_loop_closed: Callable[[], None],
    ) -> None:
        self._lane = lane
        self._context = context
        self._loop = loop
        self._enter = enter
        self._max = max_threads
        self._on_loop_closed = on_loop_closed
        self._calls: queue.SimpleQueue[Context | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._n_threads = 0
        self._n_idle = 0
        self._closed = False

    def start(self) -> None:
        """Begins to take calls."""
        threading.Thread(target=self._dispatch, name="unified-scheduler-dispatch", daemon=True).start()

    def close(self) -> None:
        """Takes no more calls. What runs goes on."""
        self._closed = True
        self._lane.close()
        for _ in range(self._n_threads):
            self._calls.put(None)

    def _dispatch(self) -> None:
        while not self._closed:
            woken = self._lane.wait(LOOK)
            tell_log()
            if self._closed:
                return
            if self._loop.is_closed():
                self._on_loop_closed()
                return
            if not woken:
                continue
            calls, _, _, _, _ = self._lane.drain(1024)
            for ctx in calls:
                self._calls.put(ctx)
            self._grow()

    def _grow(self) -> None:
        with self._lock:
            # What was abandoned counts no more.
            free = self._max - (self._n_threads - self._lane.n_abandoned)
            wanted = min(self._calls.qsize() - self._n_idle, free)
            for _ in range(wanted):
                self._n_threads += 1
                threading.Thread(target=self._work, name="unified-scheduler-job", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if self._n_threads - self._lane.n_abandoned > self._max:
                    self._n_threads -= 1
                    return
                self._n_idle += 1
            try:
                ctx = self._calls.get(timeout=IDLE)
            except queue.Empty:
                ctx = None
            with self._lock:
                self._n_idle -= 1
                if ctx is None:
                    self._n_threads -= 1
                    return
            self._run(ctx)
            del ctx

    def _run(self, ctx: Context) -> None:
        record: str | None
        try:
            if ctx.cancelled:
                record = failure_of(TimeoutError("it was asked to stop before it began"))
            else:
                record = record_of(self._context.copy().run(self._call, ctx))
        except BaseException as error:
            # Whatever a handler raises is its own end, and nobody else's.
            record = failure_of(error, skip=2)
        if not ctx.answer(record):
            logger.debug("late result of %s dropped: its end is recorded already", ctx.job_name)

    def _call(self, ctx: Context) -> Any:
        self._enter.set(ctx)
        value = ctx.target.run(ctx)
        if inspect.isawaitable(value):
            # A plain function that returned a coroutine: that belongs on the loop.
            return asyncio.run_coroutine_threadsafe(_await(value), self._loop).result()
        return value


async def _await(value: Awaitable[Any]) -> Any:
    return await value


def tell_log() -> None:
    """Hands what the engine has logged to `logging`."""
    for level, target, text in take_log():
        name = target.replace("::", ".")
        logging.getLogger(name).log(level, "%s", text)
