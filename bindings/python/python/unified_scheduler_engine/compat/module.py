"""The one scheduler of the process, and the functions with which a backend begins and ends it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import Callable
from typing import Any

from .unified import UnifiedScheduler

logger = logging.getLogger("unified_scheduler")

_instance: UnifiedScheduler | None = None
_process = os.getpid()
_starting: asyncio.Task[None] | None = None


def get_unified_scheduler() -> UnifiedScheduler | None:
    """The scheduler of this process; `None` before it is made."""
    global _instance, _process
    if _process != os.getpid():
        # That of the process that this one is a fork of.
        _process, _instance = os.getpid(), None
    return _instance


def set_unified_scheduler(instance: UnifiedScheduler | None) -> None:
    """Makes this one the scheduler of the process, for programs that build their own."""
    global _instance
    get_unified_scheduler()
    _instance = instance


async def initialize_unified_scheduler(
    db: Any, *, configure: Callable[[UnifiedScheduler], Any] | None = None, **options: Any
) -> UnifiedScheduler:
    """Makes the scheduler of this process, and starts it in the background. Called again, it keeps the one
    that there is. `configure` is called with it before it starts; `options` are those of
    `UnifiedScheduler`."""
    global _starting
    before = get_unified_scheduler()
    if before is not None and (before.is_running or _is_starting()):
        logger.warning("the scheduler is initialized already; the one that runs is kept")
        return before
    made = UnifiedScheduler(db, **options)
    if configure is not None:
        answer = configure(made)
        if inspect.isawaitable(answer):
            await answer
    set_unified_scheduler(made)
    _starting = asyncio.create_task(made.start(), name="unified-scheduler-start")
    _starting.add_done_callback(_started)
    # One turn of the loop, so that it is running as soon as this returns.
    await asyncio.sleep(0)
    return made


def _is_starting() -> bool:
    if _starting is None or _starting.done():
        return False
    return not _starting.get_loop().is_closed()


def _started(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("the scheduler could not be started: %s", task.exception())


async def shutdown_unified_scheduler() -> None:
    """Stops the scheduler of this process, and forgets it."""
    instance = get_unified_scheduler()
    if instance is None:
        return
    try:
        await instance.stop()
    finally:
        if get_unified_scheduler() is instance:
            set_unified_scheduler(None)
