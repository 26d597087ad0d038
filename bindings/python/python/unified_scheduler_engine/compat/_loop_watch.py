"""Notices that the event loop stands still, and says where, while it does.

Leases and time limits do not live on the loop, so nothing is lost by it; but the web application answers
nobody, and no job on the loop can be cancelled. A thread looks, because the loop can't.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback

logger = logging.getLogger("unified_scheduler")


class LoopWatch:
    """Watches the loop that it is started on."""

    def __init__(self, *, every: float = 1.0, patience: float = 5.0) -> None:
        self._every = every
        self._patience = patience
        self._over = threading.Event()
        self._answered = threading.Event()
        self._thread: threading.Thread | None = None
        self._since: float | None = None
        #: How often it stood still for longer than is patiently borne.
        self.n_blocks = 0

    @property
    def blocked_for(self) -> float:
        """For how long the loop has not answered, in seconds."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def start(self) -> None:
        """Begins to watch."""
        if self._thread is None:
            arguments = (asyncio.get_running_loop(), threading.get_ident())
            self._thread = threading.Thread(
                target=self._watch, args=arguments, name="unified-scheduler-watch", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Ends."""
        self._over.set()

    def _watch(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        while not self._over.wait(self._every):
            self._answered.clear()
            asked = time.monotonic()
            try:
                loop.call_soon_threadsafe(self._answered.set)
            except RuntimeError:
                # It is closed.
                return
            if self._answered.wait(min(1.0, self._patience)):
                continue
            self._since = asked
            told = False
            while not self._answered.wait(0.1) and not self._over.is_set():
                if not told and time.monotonic() - asked >= self._patience:
                    told = True
                    self.n_blocks += 1
                    self._tell(thread)
            self._since = None
            if told:
                logger.warning("the event loop stood still for %.1f s", time.monotonic() - asked)

    def _tell(self, thread: int) -> None:
        frame = sys._current_frames().get(thread)
        place = "" if frame is None else "".join(traceback.format_stack(frame)[-4:])
        logger.warning(
            "the event loop stands still for more than %.0f s: something on it blocks, which belongs in a"
            " thread (asyncio.to_thread). It is here:\n%s",
            self._patience,
            place,
        )
