"""One engine and everything registered with it, below the public classes.

What is registered is kept here too, so that a process that was forked after registration (`gunicorn
--preload`) makes an engine of its own with the same content.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from . import _engine, _process
from ._bridge import Bridge
from ._engine import Engine
from ._errors import ConflictError, StoppedError
from ._waiting import begin, wait, wait_blocking

logger = logging.getLogger("unified_scheduler")

#: How long the interpreter's end waits for the engine, in seconds.
AT_EXIT = 3.0


class Core:
    """An engine, its bridge, and what is registered."""

    def __init__(self, config: dict[str, Any], *, name: str, max_threads: int, stop_grace: float) -> None:
        self.config = config
        self.name = name
        self._max_threads = max_threads
        self._stop_grace = stop_grace
        self._targets: dict[str, tuple[Any, dict[str, Any] | None]] = {}
        self._statics: dict[str, str] = {}
        self._engine: Engine | None = None
        self._bridge: Bridge | None = None
        self._starting: asyncio.Future[None] | None = None
        self._stopping: asyncio.Future[None] | None = None
        self._stopped: asyncio.Event | None = None
        self._process = os.getpid()
        #: Whether its store may be open.
        self.in_use = False
        self.on_event: Callable[[dict[str, Any]], None] = lambda _: None

    @property
    def engine(self) -> Engine:
        """The engine of this process, made when it is needed first."""
        engine = self._engine
        if engine is None or not engine.is_here:
            _process.may_open(str(self.config.get("url", "memory:")))
            engine = Engine(json.dumps(self.config))
            for name, (target, metadata) in self._targets.items():
                _enter(engine, name, target, metadata)
            for document in self._statics.values():
                engine.add_static(document)
            self._engine = engine
            self._bridge = None
            _process.watch(self)
        self.in_use = True
        return engine

    @property
    def running(self) -> bool:
        """Whether a scheduler runs in this process."""
        engine = self._engine
        return engine is not None and engine.running

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that coroutines run on."""
        return None if self._bridge is None else self._bridge.loop

    @property
    def n_running(self) -> int:
        """How many executions run on this node."""
        return 0 if self._engine is None else self._engine.n_running

    @property
    def _closes(self) -> bool:
        """Whether the store is closed with the scheduler. One in memory would be gone with all it knows."""
        return not str(self.config.get("url", "memory:")).startswith("memory")

    def set_target(self, name: str, target: Any, metadata: dict[str, Any] | None = None) -> None:
        """Registers what runs under a name."""
        if self._engine is not None and self._engine.is_here:
            _enter(self._engine, name, target, metadata)
        elif metadata is not None:
            # Refused now, not at the start.
            _enter(Engine("{}"), name, target, metadata)
        self._targets[name] = (target, metadata)

    def remove_target(self, name: str) -> bool:
        """Takes it away again."""
        if self._engine is not None and self._engine.is_here:
            self._engine.remove_handler(name)
        self._statics.pop(name, None)
        return self._targets.pop(name, None) is not None

    def target(self, name: str) -> Any:
        """What runs under a name; `None` when nothing does."""
        entry = self._targets.get(name)
        return None if entry is None else entry[0]

    def targets(self) -> dict[str, Any]:
        """Everything that is registered, by name."""
        return {name: target for name, (target, _) in self._targets.items()}

    def add_static(self, handler: str, document: str) -> None:
        """Adds a static job, to be stored at the start."""
        if self._engine is not None and self._engine.is_here:
            self._engine.add_static(document)
        else:
            Engine("{}").add_static(document)
        self._statics[handler] = document

    def register_with(self, other: Core) -> None:
        """Registers with another one what is registered here."""
        for name, (target, metadata) in self._targets.items():
            other.set_target(name, target, metadata)
        for handler, document in self._statics.items():
            other.add_static(handler, document)

    async def start(self) -> None:
        """Starts, and returns when the engine runs."""
        if self._starting is not None:
            # Somebody else starts it at this moment.
            await asyncio.shield(self._starting)
            return
        if self.running:
            raise ConflictError(f"the scheduler `{self.name}` is running already")
        _process.enter(self, str(self.config.get("url", "memory:")), self.name)
        self._starting = asyncio.get_running_loop().create_future()
        try:
            await self._start()
        finally:
            self._starting.set_result(None)
            self._starting = None

    async def _start(self) -> None:
        engine = self.engine
        level = logger.getEffectiveLevel()
        _engine.set_log_level(min(max(level, 0), 255))
        bridge = Bridge(
            engine,
            max_threads=self._max_threads,
            on_event=self.on_event,
            on_loop_closed=self._loop_closed,
        )
        bridge.attach()
        self._bridge = bridge
        self._stopped = asyncio.Event()
        try:
            await wait(engine.start)
        except BaseException:
            # Cancelled, it may start all the same.
            engine.stop(0.0, self._closes, _ignore)
            bridge.detach()
            self._bridge = None
            _process.leave(self)
            raise

    async def stop(self, grace: float | None = None) -> None:
        """Stops: what runs may end within `grace` seconds. Does nothing when it does not run."""
        if self._starting is not None:
            await asyncio.shield(self._starting)
        if self._stopping is None:
            # A task of its own: a job may ask for this, and is then cancelled while it waits.
            self._stopping = asyncio.ensure_future(self._stop(self._stop_grace if grace is None else grace))
        await asyncio.shield(self._stopping)

    async def _stop(self, grace: float) -> None:
        engine, bridge = self._engine, self._bridge
        try:
            if engine is not None and engine.is_here:
                await wait(lambda done: engine.stop(grace, self._closes, done))
        finally:
            if bridge is not None:
                bridge.detach()
                self._bridge = None
            _process.leave(self)
            self.in_use = not self._closes
            self._stopping = None
            if self._stopped is not None:
                self._stopped.set()

    async def wait_stopped(self) -> None:
        """Waits until it has stopped."""
        if self._stopped is not None and self.running:
            await self._stopped.wait()

    async def ask(self, op: str, **arguments: Any) -> Any:
        """Puts a question or order to the engine."""
        return await self.begin(op, **arguments)

    def begin(self, op: str, **arguments: Any) -> asyncio.Future[Any]:
        """The same; it is carried out whether or not somebody awaits the answer."""
        text = json.dumps({"op": op, **arguments})
        return begin(lambda done: self.engine.ask(text, done))

    def begin_register(self, document: str) -> asyncio.Future[Any]:
        """Stores a static job in a scheduler that runs."""
        return begin(lambda done: self.engine.register(document, done))

    def ask_blocking(self, op: str, **arguments: Any) -> Any:
        """The same as `ask`, for a thread that may block."""
        text = json.dumps({"op": op, **arguments})
        return wait_blocking(lambda done: self.engine.ask(text, done))

    async def advance(self, seconds: float, *, jump: bool = False) -> str:
        """Moves a manual clock."""
        return str(await wait(lambda done: self.engine.advance(seconds, jump, done)))

    def subscribe(self) -> None:
        """Has events come to `on_event`."""
        self.engine.subscribe(True)

    def _loop_closed(self) -> None:
        """The loop has gone without a stop. On a thread of the bridge."""
        logger.warning("the event loop of the scheduler `%s` was closed; it stops", self.name)
        self._stop_blocking(0.0)

    def _stop_blocking(self, grace: float) -> None:
        engine, bridge = self._engine, self._bridge
        if bridge is not None:
            bridge.give_up()
            self._bridge = None
        if engine is not None and engine.is_here and engine.running:
            with contextlib.suppress(Exception):
                wait_blocking(lambda done: engine.stop(grace, self._closes, done), AT_EXIT)
        _process.leave(self)

    def end_with_interpreter(self) -> None:
        """Ends everything: the interpreter is about to go."""
        if os.getpid() != self._process and (self._engine is None or not self._engine.is_here):
            return
        self._stop_blocking(0.0)
        if self._engine is not None:
            self._engine.shut_down(1.0)

    def forget_after_fork(self) -> None:
        """Forgets what belongs to the parent process."""
        self._engine = None
        self._bridge = None
        self.in_use = False
        self._starting = None
        self._stopping = None
        self._stopped = None
        self._process = os.getpid()


def _ignore(_value: str | None, _error: str | None) -> None:
    """Nobody waits for the answer."""


def _enter(engine: Engine, name: str, target: Any, metadata: dict[str, Any] | None) -> None:
    if metadata is None:
        engine.set_handler(name, target, target.kind)
    else:
        engine.set_template(json.dumps(metadata), target, target.kind, bool(target.checks))


class BlockingLoop:
    """An event loop on a thread of its own, for programs that have none."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="unified-scheduler-loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            with contextlib.suppress(Exception):
                self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def wait(self, work: Any, timeout: float | None = None) -> Any:
        """Runs a coroutine there and waits for its result."""
        if self._loop.is_closed():
            work.close()
            raise StoppedError("it has been closed")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def close(self) -> None:
        """Ends the loop and its thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5.0)
