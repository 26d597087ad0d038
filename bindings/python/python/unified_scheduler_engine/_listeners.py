"""Who wants to hear of events, and telling them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from ._errors import Fault, InvalidError
from .models import Event

logger = logging.getLogger("unified_scheduler")

Listener = Callable[[Event], "Awaitable[None] | None"]

#: What can be heard of.
EVENTS = (
    "execution_started",
    "execution_ended",
    "execution_refused",
    "occurrence_recorded",
    "job_changed",
    "job_ended",
    "job_set_aside",
    "job_paused",
    "node_joined",
    "node_died",
    "lease_lost",
    "degraded",
    "recovered",
    "stopped",
)


class Listeners:
    """Functions, each with the names of the events that it wants; without names, all of them."""

    def __init__(self) -> None:
        self._entries: list[tuple[Listener, frozenset[str]]] = []
        self._tasks: set[asyncio.Future[None]] = set()

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, listener: Listener, events: tuple[str, ...]) -> None:
        """One more. Raises `InvalidError` for an event that there is not: it would never come."""
        for event in events:
            if event not in EVENTS:
                raise InvalidError(
                    f"there is no event {event!r}; there are {', '.join(EVENTS)}",
                    (Fault("events", f"{event!r} is no event", None, "a failure is an `execution_ended`"),),
                )
        self._entries.append((listener, frozenset(events)))

    def register_with(self, other: Listeners) -> None:
        """Has others told of the same."""
        for listener, events in self._entries:
            other.add(listener, tuple(events))

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
