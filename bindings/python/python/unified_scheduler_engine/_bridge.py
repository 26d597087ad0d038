"""The Python half of the bridge: takes calls from the engine's lanes, runs them, and answers.

Coroutines run as tasks on the event loop that called `start()`, with its context variables; plain functions
run in a pool of daemon threads (see `_threads`). One wake-up of the loop takes many calls.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

from ._engine import Check, Context, Engine, Lane
from ._results import failure_of, record_of
from ._threads import Threads
from ._waiting import wait

logger = logging.getLogger("unified_scheduler")

#: How many calls one turn of the loop begins, so that what else is on it has its turn too.
BATCH = 64

_current: contextvars.ContextVar[Context] = contextvars.ContextVar("unified_scheduler_context")

_STOPPED = json.dumps({"error": {"kind": "interrupted", "message": "its event loop ended while it ran"}})


class Target(Protocol):
    """What a handler is registered as, and what comes back with each of its calls."""

    def run(self, ctx: Context, /) -> Any:
        """The coroutine to await on the loop, or the result when it runs in a thread."""


def current_context() -> Context:
    """The context of the execution that runs here.

    Raises `LookupError` outside a handler.
    """
    return _current.get()


async def sleep(ctx: Context, duration: float) -> None:
    """Waits by the scheduler's clock."""
    await wait(lambda done: ctx.sleep_then(duration, done))


class Bridge:
    """Serves the lanes of one engine, from `attach` to `detach`."""

    def __init__(
        self,
        engine: Engine,
        *,
        max_threads: int,
        on_event: Callable[[dict[str, Any]], None],
        on_loop_closed: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._lane: Lane = engine.loop_lane
        self._max_threads = max_threads
        self._on_event = on_event
        self._on_loop_closed = on_loop_closed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context = contextvars.Context()
        self._running: dict[int, tuple[Context, asyncio.Task[None]]] = {}
        self._fd: int | None = None
        self._threads: Threads | None = None
        self._draining = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that coroutines run on."""
        return self._loop

    @property
    def n_running(self) -> int:
        """How many coroutines run."""
        return len(self._running)

    def attach(self) -> None:
        """Begins to serve, on the loop that runs here, with the context variables that are set here."""
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._lane.reopen()
        self._engine.thread_lane.reopen()
        fd = self._lane.fileno()
        if fd is not None:
            try:
                self._loop.add_reader(fd, self._drain)
                self._fd = fd
            except NotImplementedError:
                pass
        if self._fd is None:
            threading.Thread(target=self._wait_for_loop, name="unified-scheduler-wake", daemon=True).start()
        self._lane.set_served(True)
        self._threads = Threads(
            self._engine.thread_lane,
            context=self._context,
            loop=self._loop,
            enter=_current,
            max_threads=self._max_threads,
            on_loop_closed=self._on_loop_closed,
        )
        self._threads.start()

    def detach(self) -> None:
        """Serves no more. What still runs is cancelled; what waits is answered as interrupted."""
        self._lane.close()
        if self._threads is not None:
            self._threads.close()
        if self._loop is not None and not self._loop.is_closed():
            # Listeners hear what came last.
            self._drain()
        loop, self._loop = self._loop, None
        if loop is not None and not loop.is_closed():
            if self._fd is not None:
                loop.remove_reader(self._fd)
            for _, task in list(self._running.values()):
                task.cancel()
        self._fd = None

    def give_up(self) -> None:
        """The loop has gone: answers what ran on it, so that the engine can record it and stop."""
        self._loop = None
        self._fd = None
        self._lane.close()
        for ctx, _ in list(self._running.values()):
            ctx.answer(_STOPPED)
        self._running.clear()
        if self._threads is not None:
            self._threads.close()

    def _wait_for_loop(self) -> None:
        # Where the loop watches no file descriptors, a thread waits in its place.
        while (loop := self._loop) is not None and not loop.is_closed():
            if self._lane.wait(1.0) and not self._draining:
                if self._lane.closed:
                    return
                self._draining = True
                loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._draining = False
        loop = self._loop
        if loop is None:
            return
        calls, cancels, checks, events, more = self._lane.drain(BATCH)
        if more:
            loop.call_soon(self._drain)
        for ctx in calls:
            self._begin(loop, ctx)
        for key in cancels:
            self._cancel(key)
        for check in checks:
            _check(check)
        for event in events:
            self._on_event(json.loads(event))

    if sys.version_info >= (3, 11):

        def _begin(self, loop: asyncio.AbstractEventLoop, ctx: Context) -> None:
            task = loop.create_task(self._run(ctx), context=self._context.copy())
            # With an eager task factory it may have ended already.
            if not task.done():
                self._running[ctx.key] = (ctx, task)

    else:

        def _begin(self, loop: asyncio.AbstractEventLoop, ctx: Context) -> None:
            task = self._context.copy().run(loop.create_task, self._run(ctx))
            self._running[ctx.key] = (ctx, task)

    async def _run(self, ctx: Context) -> None:
        record: str | None
        try:
            _current.set(ctx)
            record = record_of(await ctx.target.run(ctx))
        except GeneratorExit:
            # The loop was closed over it.
            ctx.answer(_STOPPED)
            raise
        except BaseException as error:
            # Whatever a handler raises is its own end, and nobody else's.
            record = failure_of(error, skip=1)
        finally:
            self._running.pop(ctx.key, None)
        if not ctx.answer(record):
            logger.debug("late result of %s dropped: its end is recorded already", ctx.job_name)

    def _cancel(self, key: int) -> None:
        entry = self._running.get(key)
        if entry is None:
            return
        ctx, task = entry

        def ended(_: asyncio.Task[None]) -> None:
            # One that was cancelled before its first step never came to answer.
            self._running.pop(key, None)
            ctx.answer(_STOPPED)

        task.add_done_callback(ended)
        task.cancel()


def _check(check: Check) -> None:
    """Asks a template whether it accepts parameters, which it may mend."""
    parameters = json.loads(check.parameters)
    try:
        faults = check.target.check(parameters)
        mended = json.dumps(parameters) if not faults else None
    except Exception as error:
        logger.exception("a template failed while it checked parameters")
        faults, mended = [("", f"the check of the template failed: {error}")], None
    if faults:
        check.refuse(faults)
    else:
        check.accept(mended)
