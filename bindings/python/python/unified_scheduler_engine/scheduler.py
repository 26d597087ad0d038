"""The scheduler as programs hold it."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from . import _options
from ._core import Core
from ._errors import ConflictError, InvalidError, NotFoundError
from ._targets import FunctionTarget, ObjectTarget, TemplateTarget, name_of, schema_of
from ._triggers import schedule_of
from .models import Event, Execution, Explanation, Job, LogLine, Report, Run
from .schedules import Duration, Instant, Trigger, instant, seconds, zone_name

if TYPE_CHECKING:
    from datetime import tzinfo

    from typing_extensions import Self, Unpack

    from ._options import JobChanges, JobOptions, TriggerOptions

logger = logging.getLogger("unified_scheduler")

F = TypeVar("F", bound=Callable[..., Any])
Listener = Callable[[Event], "Awaitable[None] | None"]


class JobHandle:
    """A job of a scheduler, by its id. Awaited, it is stored."""

    def __init__(
        self, scheduler: Scheduler, id: str, name: str, stored: asyncio.Future[Any] | None = None
    ) -> None:
        self._scheduler = scheduler
        self._stored = stored
        #: The id that it is stored under.
        self.id = id
        self.name = name

    def __await__(self) -> Generator[Any, None, JobHandle]:
        return self._wait().__await__()

    async def _wait(self) -> JobHandle:
        if self._stored is not None:
            await asyncio.shield(self._stored)
        return self

    async def get(self) -> Job:
        """The job as it is stored."""
        await self
        return await self._scheduler.job_of(self.id)

    async def pause(self) -> Job:
        """Keeps its schedule from counting."""
        await self
        return await self._scheduler.pause(self.id)

    async def resume(self, *, missed: bool = False) -> Job:
        """Lets its schedule count again."""
        await self
        return await self._scheduler.resume(self.id, missed=missed)

    async def reschedule(self, trigger: Trigger = None, **trigger_args: Unpack[TriggerOptions]) -> Job:
        """Gives it another schedule."""
        await self
        return await self._scheduler.reschedule(self.id, trigger, **trigger_args)

    async def modify(self, **changes: Unpack[JobChanges]) -> Job:
        """Changes its options."""
        await self
        return await self._scheduler.modify_job(self.id, **changes)

    async def trigger(self, parameters: Mapping[str, Any] | None = None, **options: Any) -> Execution:
        """Runs it now, without moving its schedule."""
        await self
        return await self._scheduler.trigger(self.id, parameters, **options)

    async def skip_next(self, n: int = 1) -> Job:
        """Skips its next occurrences."""
        await self
        return await self._scheduler.skip_next(self.id, n)

    async def remove(self) -> None:
        """Removes it."""
        await self
        await self._scheduler.remove(self.id)

    def __repr__(self) -> str:
        return f"<JobHandle {self.id}>"


class Scheduler:
    """Jobs over one store, run by this process and every other one with the same store.

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
        self._core.on_event = self._tell
        self._zone = zone_name(timezone)
        self._defaults = dict(job_defaults or {})
        self._listeners: list[tuple[Listener, frozenset[str]]] = []
        self._later: list[Callable[[], Awaitable[Any]]] = []
        self._tasks: set[asyncio.Future[Any]] = set()

    # Life

    @property
    def running(self) -> bool:
        """Whether it runs in this process."""
        return self._core.running

    @property
    def core(self) -> Core:
        """What is below: for layers built on this one."""
        return self._core

    @property
    def n_running(self) -> int:
        """How many executions run on this node."""
        return self._core.n_running

    async def start(self) -> None:
        """Starts, and returns when it runs. Coroutines run on the loop, and in the context, of this call."""
        await self._core.start()
        if self._listeners:
            self._core.subscribe()
        later, self._later = self._later, []
        for work in later:
            await work()

    async def stop(self, grace: Duration | None = None) -> None:
        """Stops: what runs may end within `grace`, then is cancelled and recorded as interrupted."""
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
        """Makes a job of the function below it."""

        def register(func: F) -> F:
            self.add_job(func, trigger, args, kwargs, id=id, name=name, **options)
            return func

        return register

    scheduled_job = job

    def add_job(
        self,
        func: Callable[..., Any],
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
        time and history. Await the answer to know that it is stored."""
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

    # Jobs

    async def create_job(
        self,
        name: str,
        template: str,
        trigger: Trigger = None,
        *,
        id: str | None = None,
        enabled: bool = True,
        actor: str | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Stores a job made at run time from a template, or from a handler by its name."""
        given: dict[str, Any] = {**self._defaults, **options}
        next_run_time = given.pop("next_run_time", None)
        keywords, others = _options.split(given)
        schedule = schedule_of(trigger, keywords)
        checked = dict(others.pop("parameters", None) or {})
        self._check(template, checked)
        document: dict[str, Any] = {
            **_options.document(others),
            "name": name,
            "template_type": template,
            "parameters": checked,
            "schedule": schedule.document(self._zone),
            "enabled": enabled,
        }
        if id is not None:
            document["id"] = id
        due = _options.first_due(next_run_time, zone_name(schedule.timezone) or self._zone)
        return Job.read(await self._core.ask("create_job", job=document, first_due=due, actor=actor))

    def _check(self, template: str, parameters: dict[str, Any]) -> None:
        """Asks the template itself; while it runs, the engine does so."""
        target = self._core.target(template)
        if self.running or target is None or not getattr(target, "checks", False):
            return
        faults = target.check(parameters)
        if faults:
            raise InvalidError("; ".join(f"parameters.{field}: {message}" for field, message in faults))

    async def job_of(self, job: str | JobHandle | Job) -> Job:
        """The job with this id, else the one with this name. Raises `NotFoundError`."""
        return Job.read(await self._core.ask("find_job", id=_key(job)))

    async def get_job(self, job: str | JobHandle | Job) -> Job | None:
        """The same; `None` when there is none."""
        try:
            return await self.job_of(job)
        except NotFoundError:
            return None

    async def _id(self, job: str | JobHandle | Job) -> str:
        if isinstance(job, (JobHandle, Job)):
            return job.id
        if self._core.target(f"static:{job}") is not None:
            return f"static:{job}"
        found: str = (await self._core.ask("find_job", id=job))["id"]
        return found

    async def jobs(
        self,
        *,
        search: str | None = None,
        templates: Iterable[str] = (),
        enabled: bool | None = None,
        tag: str | None = None,
        faulty: bool | None = None,
        sort: str = "name",
        descending: bool = False,
        offset: int = 0,
        limit: int = 1000,
    ) -> list[Job]:
        """A page of jobs; `sort` is `name`, `created_at`, `due_at` or `last_run_at`."""
        query = {
            "search": search,
            "handlers": list(templates),
            "enabled": enabled,
            "tag": tag,
            "faulty": faulty,
            "sort": sort,
            "descending": descending,
            "offset": offset,
            "limit": limit,
        }
        page = await self._core.ask("list_jobs", query=query)
        return [Job.read(item) for item in page["items"]]

    get_jobs = jobs

    async def pause(self, job: str | JobHandle | Job) -> Job:
        """Keeps its schedule from counting. What runs goes on."""
        return Job.read(await self._core.ask("disable_job", id=await self._id(job), actor="api"))

    pause_job = pause

    async def resume(self, job: str | JobHandle | Job, *, missed: bool = False) -> Job:
        """Lets its schedule count again, from its next occurrence in the future; with `missed`, what was due
        meanwhile is treated as its misfire policy says."""
        return Job.read(await self._core.ask("enable_job", id=await self._id(job), missed=missed))

    resume_job = resume

    async def reschedule(
        self, job: str | JobHandle | Job, trigger: Trigger = None, **trigger_args: Unpack[TriggerOptions]
    ) -> Job:
        """Gives a job another schedule. The code of a static job wins again when it is registered next."""
        schedule = schedule_of(trigger, {**trigger_args}).document(self._zone)
        return Job.read(
            await self._core.ask("edit_job", id=await self._id(job), changes={"schedule": schedule})
        )

    reschedule_job = reschedule

    async def modify_job(self, job: str | JobHandle | Job, **changes: Unpack[JobChanges]) -> Job:
        """Changes options of a job."""
        fields = _options.document(changes)
        return Job.read(await self._core.ask("edit_job", id=await self._id(job), changes=fields))

    async def skip_next(self, job: str | JobHandle | Job, n: int = 1) -> Job:
        """Skips the next `n` occurrences, with a record each; 0 takes that back."""
        return Job.read(await self._core.ask("skip_next", id=await self._id(job), n=n))

    async def skip_date(self, job: str | JobHandle | Job, date: str) -> Job:
        """Skips every occurrence on a date, `2026-12-24`, or in a range, `2026-12-24/2026-12-31`."""
        return Job.read(await self._core.ask("skip_date", id=await self._id(job), date=date))

    async def remove(self, job: str | JobHandle | Job) -> None:
        """Removes a job. Running executions go on; its history stays."""
        job_id = await self._id(job)
        await self._core.ask("delete_job", id=job_id)
        if job_id.startswith("static:"):
            self._core.remove_target(job_id)

    remove_job = remove

    async def trigger(
        self,
        job: str | JobHandle | Job,
        parameters: Mapping[str, Any] | None = None,
        *,
        at: Instant | None = None,
        idempotency_key: str | None = None,
        unless_open: bool = False,
        actor: str = "api",
    ) -> Execution:
        """Runs a job now, or at an instant, whether or not it is paused, without moving its schedule."""
        answer = await self._core.ask(
            "run_job",
            id=await self._id(job),
            parameters=None if parameters is None else dict(parameters),
            at=None if at is None else instant(at, self._zone, "at"),
            idempotency_key=idempotency_key,
            unless_open=unless_open,
            actor=actor,
        )
        return Execution.read(answer)

    # Executions

    async def runs(
        self,
        job: str | JobHandle | Job | None = None,
        *,
        status: str | Iterable[str] = (),
        since: Instant | None = None,
        until: Instant | None = None,
        oldest_first: bool = False,
        offset: int = 0,
        limit: int = 50,
    ) -> list[Execution]:
        """A page of executions, the newest first."""
        query = {
            "job_id": None if job is None else await self._id(job),
            "statuses": [status] if isinstance(status, str) else list(status),
            "since": None if since is None else instant(since, self._zone, "since"),
            "until": None if until is None else instant(until, self._zone, "until"),
            "sort": "oldest" if oldest_first else "newest",
            "offset": offset,
            "limit": limit,
        }
        page = await self._core.ask("executions", query=query)
        return [Execution.read(item) for item in page["items"]]

    async def execution(self, execution: str | Execution) -> Execution | None:
        """One execution; `None` when there is none."""
        key = execution.id if isinstance(execution, Execution) else execution
        answer = await self._core.ask("execution", id=key)
        return None if answer is None else Execution.read(answer)

    async def wait_for(self, execution: str | Execution, timeout: Duration | None = None) -> Execution:
        """Waits until an execution has ended. Raises `TimeoutError` when that takes too long."""

        async def look() -> Execution:
            pause = 0.005
            while True:
                found = await self.execution(execution)
                if found is None:
                    raise NotFoundError(f"no execution `{execution}`")
                if found.ended:
                    return found
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, 0.25)

        return await asyncio.wait_for(look(), None if timeout is None else seconds(timeout, "timeout"))

    async def logs(self, execution: str | Execution, *, skip: int = 0, limit: int = 10_001) -> list[LogLine]:
        """The log of an execution, oldest line first."""
        key = execution.id if isinstance(execution, Execution) else execution
        return [LogLine.read(line) for line in await self._core.ask("logs", id=key, skip=skip, limit=limit)]

    async def cancel(self, execution: str | Execution) -> str:
        """Ends a pending execution, or asks a running one to stop, on whichever node it runs: answers
        `cancelled`, `requested`, or the status that it had ended with."""
        key = execution.id if isinstance(execution, Execution) else execution
        return str(await self._core.ask("cancel", id=key))

    async def retry(self, execution: str | Execution) -> Execution:
        """Runs an execution that has ended once more, as the next attempt at the same occurrence."""
        key = execution.id if isinstance(execution, Execution) else execution
        return Execution.read(await self._core.ask("retry", id=key))

    # Questions

    async def next_runs(self, job: str | JobHandle | Job, n: int = 5) -> list[Run]:
        """The next `n` due times of a job."""
        return [Run.read(run) for run in await self._core.ask("next_runs", id=await self._id(job), n=n)]

    async def explain(self, job: str | JobHandle | Job) -> Explanation:
        """Why a job did or did not run, and when it will next."""
        return Explanation.read(await self._core.ask("explain", id=await self._id(job)))

    async def verify(
        self,
        job: str | JobHandle | Job | None = None,
        *,
        since: Instant | timedelta | None = None,
        until: Instant | None = None,
    ) -> Report:
        """Replays a period of the history: was every due occurrence started, or skipped with a reason?"""
        begin: str | None = None
        if isinstance(since, timedelta):
            now = await self._core.ask("now")
            from .schedules import parse_instant

            begin = instant(parse_instant(now) - since)
        elif since is not None:
            begin = instant(since, self._zone, "since")
        answer = await self._core.ask(
            "verify",
            job_id=None if job is None else await self._id(job),
            since=begin,
            until=None if until is None else instant(until, self._zone, "until"),
        )
        return Report.read(answer)

    async def status(self) -> dict[str, Any]:
        """How the scheduler and its store are."""
        answer: dict[str, Any] = await self._core.ask("status")
        return answer

    async def doctor(self) -> list[dict[str, Any]]:
        """Looks at everything that usually is the cause when a scheduler does not do what it should."""
        answer: list[dict[str, Any]] = await self._core.ask("doctor")
        return answer

    async def nodes(self) -> list[dict[str, Any]]:
        """The nodes that share the store."""
        answer: list[dict[str, Any]] = await self._core.ask("nodes")
        return answer

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
        self._listeners.append((listener, frozenset(events)))
        if first and self.running:
            self._core.subscribe()

    def remove_listener(self, listener: Listener) -> None:
        """Calls it no more."""
        self._listeners = [entry for entry in self._listeners if entry[0] is not listener]

    def _tell(self, document: dict[str, Any]) -> None:
        wanted = [fn for fn, names in self._listeners if not names or document["event"] in names]
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
                self._keep_listening(answer, event.name)

    def _keep_listening(self, answer: Awaitable[None], name: str) -> None:
        task = asyncio.ensure_future(answer)

        def done(ended: asyncio.Future[None]) -> None:
            self._tasks.discard(ended)
            if not ended.cancelled() and ended.exception() is not None:
                logger.error("a listener failed on %s", name, exc_info=ended.exception())

        self._tasks.add(task)
        task.add_done_callback(done)

    def __repr__(self) -> str:
        return f"<Scheduler {self._core.name} {'running' if self.running else 'stopped'}>"


def _key(job: str | JobHandle | Job) -> str:
    return job if isinstance(job, str) else job.id
