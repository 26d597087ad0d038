"""Who wants to hear of events, and telling them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from .models import Event

logger = logging.getLogger("unified_scheduler")

Listener = Callable[[Event], "Awaitable[None] | None"]


class Listeners:
    """Functions, each with the names of the events that it wants; without names, all of them."""

    def __init__(self) -> None:
        self._entries: list[tuple[Listener, frozenset[str]]] = []
        self._tasks: set[asyncio.Future[None]] = set()

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, listener: Listener, events: tuple[str, ...]) -> None:
        """One more."""
        self._entries.append((listener, frozenset(events)))

    def remove(self, listener: Listener) -> None:
        """Calls it no more."""
        self._entries = [entry for entry in self._entries if entry[0] is not listener]

    def tell(self, document: dict[str, Any]) -> None:
        """Tells of an event. What a listener raises is logged, and nobody else's."""
        wanted = [fn for fn, names in self._entries if not names or document["event"] in names]
        if not wanted:
            return
        event = Event.read(document)
        for listener in wanted:
            try:
                answer = listener(event)
            except Exception:
                logger.exception("a listener failed on %s", event.name)
                continue
            if inspect.isawaitable(answer):
                self._keep(answer, event.name)

    def _keep(self, answer: Awaitable[None], name: str) -> None:
        task = asyncio.ensure_future(answer)

        def done(ended: asyncio.Future[None]) -> None:
            self._tasks.discard(ended)
            if not ended.cancelled() and ended.exception() is not None:
                logger.error("a listener failed on %s", name, exc_info=ended.exception())

        self._tasks.add(task)
        task.add_done_callback(done)
