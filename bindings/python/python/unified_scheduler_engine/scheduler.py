"""The scheduler as programs hold it."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from . import _options
from ._core import Core
from ._errors import ConflictError
from ._handle import JobHandle
from ._history import HistoryVerbs
from ._jobs import JobVerbs
from ._listeners import Listener, Listeners
from ._targets import FunctionTarget, ObjectTarget, TemplateTarget, name_of, resolve, schema_of
from ._triggers import schedule_of
from .schedules import Duration, Trigger, instant, seconds, zone_name

if TYPE_CHECKING:
    from datetime import tzinfo

    from typing_extensions import Self, Unpack

    from ._options import JobOptions

logger = logging.getLogger("unified_scheduler")

F = TypeVar("F", bound=Callable[..., Any])


class Scheduler(JobVerbs, HistoryVerbs):
    """Jobs over one store, run by this process and every other one with the same store.

    Lengths of time are a `timedelta`, seconds, or a text such as `"1h30m"`. Instants are a datetime with a
    zone, or a text with an offset; without one they are read in the zone of the schedule, else in `timezone`,
    else refused. What comes back is in UTC. Every call that asks the store raises a `SchedulerError`:
    `UnavailableError` when the store can't answer now. Cancelling a call that changes something does not undo
    it: the order is carried out all the same.

    `concurrency` is how many executions run at once here, `max_threads` how many plain functions among them;
    `lease` is after how long without a sign this node counts as dead (15 s), `poll` how often the store is
    asked when nothing wakes this node (30 s); `stop_grace` is how long what runs may go on at a stop, and
    `cancel_grace` what was asked to stop (5 s); `retention` is how long ended executions are kept, `None` for
    ever. Making a scheduler opens nothing.

    >>> import asyncio
    >>> from unified_scheduler_engine import Manual, Scheduler
    >>> scheduler = Scheduler("memory:")
    >>> @scheduler.job(Manual())
    ... async def greet(ctx):
    ...     return f"hello from {ctx.job_name}"
    >>> async def main():
    ...     async with scheduler:
    ...         execution = await scheduler.trigger("greet")
    ...         return (await scheduler.wait_for(execution)).message
    >>> asyncio.run(main())
    'hello from greet'
    """

    def __init__(
        self,
        url: str = "memory:",
        *,
        name: str | None = None,
        timezone: str | tzinfo | None = None,
        concurrency: int = 100,
        max_threads: int = 20,
        lease: Duration | None = None,
        poll: Duration | None = None,
        stop_grace: Duration = 8.0,
        cancel_grace: Duration | None = None,
        call_timeout: Duration | None = None,
        retention: Duration | None = 30 * 86400.0,
        report_every: Duration | None = None,
        claim_batch: int | None = None,
        job_defaults: Mapping[str, Any] | None = None,
    ) -> None:
        config: dict[str, Any] = {
            "url": url,
            "concurrency": concurrency,
            "stop_grace": seconds(stop_grace, "stop_grace"),
            "retention": -1.0 if retention is None else seconds(retention, "retention"),
        }
        for key, value in (
            ("lease", lease),
            ("poll", poll),
            ("cancel_grace", cancel_grace),
            ("call_timeout", call_timeout),
            ("report_every", report_every),
        ):
            if value is not None:
                config[key] = seconds(value, key)
        if claim_batch is not None:
            config["claim_batch"] = claim_batch
        if name is not None:
            config["node_name"] = name
        self._core = Core(
            config,
            name=name or "scheduler",
            max_threads=max_threads,
            stop_grace=config["stop_grace"],
        )
        self._listeners = Listeners()
        self._core.on_event = self._listeners.tell
        self._zone = zone_name(timezone)
        self._defaults = dict(job_defaults or {})
        self._later: list[Callable[[], Awaitable[Any]]] = []
        self._tasks: set[asyncio.Future[Any]] = set()

    # Life

    @property
    def core(self) -> Core:
        """What is below: for layers built on this one."""
        return self._core

    @property
    def n_running(self) -> int:
        """How many executions run on this node."""
        return self._core.n_running

    async def start(self) -> None:
        """Starts, and returns when it runs. Coroutines run on the loop, and in the context variables, of this
        call. Raises `ConflictError` when it, or another one with this store, runs already in this process,
        `UnavailableError` when the store can't be reached, and `InvalidError` when a job can't run."""
        await self._core.start()
        if self._listeners:
            self._core.subscribe()
        later, self._later = self._later, []
        for work in later:
            await work()

    async def stop(self, grace: Duration | None = None) -> None:
        """Stops: nothing new begins; what runs may end within `grace` (`stop_grace` when not given), then is
        cancelled, and recorded as `failed`, `interrupted`. Does nothing when it does not run. Cancelling this
        call does not keep it from stopping."""
        await self._core.stop(None if grace is None else seconds(grace, "grace"))

    async def shutdown(self, wait: bool = True) -> None:
        """As in APScheduler; see `stop`."""
        await self.stop(None if wait else 0)

    async def wait_stopped(self) -> None:
        """Waits until somebody stops it."""
        await self._core.wait_stopped()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.stop()

    # What runs

    def job(
        self,
        trigger: Trigger = None,
        *,
        id: str | None = None,
        name: str | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> Callable[[F], F]:
        """Makes a job of the function below it, which stays as it is; see `add_job`."""

        def register(func: F) -> F:
            self.add_job(func, trigger, args, kwargs, id=id, name=name, **options)
            return func

        return register

    scheduled_job = job

    def add_job(
        self,
        func: Callable[..., Any] | str,
        trigger: Trigger = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        id: str | None = None,
        name: str | None = None,
        *,
        replace_existing: bool = False,
        **options: Unpack[JobOptions],
    ) -> JobHandle:
        """Adds a job, before or after the start. The same id registered again is the same job, with its due
        time and history. Await the answer to know that it is stored.

        `func` may be a text, `package.module:function`, as in APScheduler. Raises `InvalidError` for what
        can't run, with what is wrong and how to mend it; `ConflictError` when another function has the id.
        """
        if isinstance(func, str):
            func = resolve(func)
        given: dict[str, Any] = {**self._defaults, **options}
        pause = "next_run_time" in given and given["next_run_time"] is None
        next_run_time = given.pop("next_run_time", None)
        executor = given.pop("executor", None)
        keywords, others = _options.split(given)
        schedule = schedule_of(trigger, keywords)
        job_name = id or name or name_of(func)
        handler = f"static:{job_name}"
        target = FunctionTarget(func, args, kwargs, executor=executor)
        before = self._core.target(handler)
        if before is not None and before.func is not func and not replace_existing:
            raise ConflictError(
                f"there is a job `{job_name}` already; give an id, or replace_existing=True to replace it"
            )
        zone = zone_name(schedule.timezone) or self._zone
        document: dict[str, Any] = {
            **_options.document(others),
            "name": job_name,
            "template_type": handler,
            "origin": "static",
            "schedule": schedule.document(self._zone),
        }
        if name is not None and id is not None and name != id:
            document.setdefault("description", name)
        text = json.dumps(document)
        self._core.set_target(handler, target)
        handle = JobHandle(self, handler, job_name)
        if pause or next_run_time is not None:
            due = None if pause else instant(next_run_time, zone or "UTC", "next_run_time")
            return self._soon(handle, lambda: self._register_apart(handler, text, due))
        if self.running:
            self._store_now(handle, text)
        else:
            self._core.add_static(handler, text)
        return handle

    def _store_now(self, handle: JobHandle, text: str) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            # On another thread, a job's for one: it is stored, and the handle has nothing to wait for.
            loop = self._core.loop
            if loop is not None:
                loop.call_soon_threadsafe(lambda: self._keep(self._core.begin_register(text)))
            return
        handle._stored = self._keep(self._core.begin_register(text))

    async def settled(self) -> None:
        """Waits until every job that was added is stored, or has been refused."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _register_apart(self, handler: str, text: str, due: str | None) -> None:
        """A static job that is not due as its schedule says: paused, or first at a time of its own."""
        document = json.loads(text)
        stored = await self._core.ask("get_job", id=handler)
        if stored is None:
            document.update(id=handler, enabled=due is not None)
            await self._core.ask("create_job", job=document, first_due=due, actor="code")
        elif due is None and stored["enabled"]:
            await self._core.ask("disable_job", id=handler, actor="code")
        self._core.add_static(handler, text)
        await self._core.begin_register(text)

    def _soon(self, handle: JobHandle, work: Callable[[], Awaitable[Any]]) -> JobHandle:
        if self.running:
            handle._stored = self._keep(asyncio.ensure_future(work()))
        else:
            self._later.append(work)
        return handle

    def _keep(self, future: asyncio.Future[Any]) -> asyncio.Future[Any]:
        """Keeps a future until it is done, and logs an error that nobody awaits."""

        def done(ended: asyncio.Future[Any]) -> None:
            self._tasks.discard(ended)
            if not ended.cancelled() and ended.exception() is not None:
                logger.error("a job could not be stored: %s", ended.exception())

        self._tasks.add(future)
        future.add_done_callback(done)
        return future

    def handler(self, name: str, *, executor: str | None = None) -> Callable[[F], F]:
        """Registers the function below it under a name that jobs made at run time can use."""

        def register(func: F) -> F:
            self._core.set_target(name, FunctionTarget(func, executor=executor))
            return func

        return register

    def template(
        self,
        template_type: str,
        *,
        name: str | None = None,
        description: str = "",
        parameters: Any = None,
        category: str = "general",
        icon: str = "⚙️",
        estimated_duration: str = "Unknown",
        resource_usage: str = "medium",
        risk_level: str = "low",
        retry_safe: bool = False,
        executor: str | None = None,
    ) -> Callable[[F], F]:
        """Makes a template of the function below it. `parameters` is a JSON Schema, or a pydantic model: the
        function then gets an instance of it as its second argument."""

        def register(func: F) -> F:
            metadata = {
                "type": template_type,
                "name": name or template_type.replace("_", " ").capitalize(),
                "description": description or inspect.getdoc(func) or "",
                "category": category,
                "icon": icon,
                "estimated_duration": estimated_duration,
                "resource_usage": resource_usage,
                "risk_level": risk_level,
                "parameters_schema": schema_of(parameters),
                "retry_safe": retry_safe,
            }
            target = TemplateTarget(func, metadata, parameters, executor)
            self._core.set_target(template_type, target, metadata)
            return func

        return register

    def register_template(self, template: Any, *, enforce_schema: bool = True) -> None:
        """Registers an object with `template_type`, `get_schema()` and `async execute(ctx)`, whatever its
        class. Without `enforce_schema` only its own `validate_params` decides what it accepts."""
        target = ObjectTarget(template)
        metadata: dict[str, Any] = target.metadata
        if not enforce_schema:
            metadata = {**metadata, "parameters_schema": {}}
        self._core.set_target(metadata["type"], target, metadata)

    def unregister(self, name: str) -> bool:
        """Takes away a handler or template; jobs that use it wait for a node that has it."""
        return self._core.remove_target(name)

    def templates(self) -> list[dict[str, Any]]:
        """The metadata of the templates registered here."""
        return [t.metadata for t in self._core.targets().values() if hasattr(t, "metadata")]

    # Listeners

    def on(self, *events: str) -> Callable[[Listener], Listener]:
        """Calls the function below it, on the scheduler's loop, with these events, or all."""

        def register(listener: Listener) -> Listener:
            self.add_listener(listener, *events)
            return listener

        return register

    def add_listener(self, listener: Listener, *events: str) -> None:
        """The same for a function at hand: `execution_started`, `execution_ended`, `job_changed`, …"""
        first = not self._listeners
        self._listeners.add(listener, events)
        if first and self.running:
            self._core.subscribe()

    def remove_listener(self, listener: Listener) -> None:
        """Calls it no more."""
        self._listeners.remove(listener)

    def __repr__(self) -> str:
        return f"<Scheduler {self._core.name} {'running' if self.running else 'stopped'}>"
