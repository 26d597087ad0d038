"""`UnifiedScheduler`: the scheduler as the existing backend holds it, over the engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import weakref
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from .._errors import ConflictError, InvalidError, UnsupportedError
from ..models import Event
from ..scheduler import Scheduler
from . import _connect
from ._dynamic import Templates
from ._loop_watch import LoopWatch
from ._mail import Mailer, SendEmail
from ._proof import leads_to
from ._statics import Statics, key_of, run_here
from ._times import utcnow
from .static import SCOPES, Jobs, ScheduledJob

logger = logging.getLogger("unified_scheduler")

#: How long `start` waits for the engine before it goes on without it.
START_WAIT = 5.0
#: How often jobs are looked for that nobody can run.
ORPHANS_EVERY = 30.0
#: How long after the grace `stop` waits for the last words.
STOP_MARGIN = 4.0

#: The scheduler that runs in this process.
_running: tuple[int, weakref.ref[UnifiedScheduler]] | None = None


class UnifiedScheduler:
    """Static jobs of this program, and the jobs stored in its database.

    `db` is the handle of Motor or of PyMongo's async client; it is passed to templates as it is. The engine
    has a connection of its own, to `store_url`, else to where the handle leads, else to `MONGODB_URL`.

    `scope` says where static jobs run that do not say it themselves: `cluster`, once per due time among all
    processes with this database, or `process`, in each of them.
    """

    def __init__(
        self,
        db: Any = None,
        *,
        store_url: str | None = None,
        registry: Any = None,
        scope: str = "cluster",
        send_email: SendEmail | None = None,
        concurrency: int = 20,
        max_threads: int = 20,
        poll: float = 5.0,
        stop_grace: float = 8.0,
        lease: float | None = None,
        retention: timedelta | float | None = None,
        create_indexes: bool = True,
        name: str | None = None,
    ) -> None:
        if scope not in SCOPES:
            raise ValueError(f"scope: {scope!r}; there are {' and '.join(SCOPES)}")
        self.db = db
        self.jobs = Jobs(self._entered, self._left)
        self._store_url = store_url
        self._registry = registry
        self._scope = scope
        self._mailer = Mailer(send_email)
        self._poll = poll
        self._grace = stop_grace
        self._create_indexes = create_indexes
        self._name = name
        self._options: dict[str, Any] = {
            "concurrency": concurrency,
            "max_threads": max_threads,
            "stop_grace": stop_grace,
            "retention": retention,
            **({} if lease is None else {"lease": lease}),
        }
        self._on = False
        self._process = os.getpid()
        self._cluster: Statics | None = None
        self._local: Statics | None = None
        self._templates: Templates | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        self._stopped = asyncio.Event()
        self._refused: Exception | None = None
        self._trouble: str | None = "not started"
        self._watch = LoopWatch()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._orphans_at = 0.0
        self._tasks: set[asyncio.Task[Any]] = set()

    # What there is

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped, in this process."""
        return self._on and self._process == os.getpid()

    @property
    def engine(self) -> Scheduler | None:
        """The scheduler below, over the store; `None` while there is none."""
        cluster = self._cluster
        return cluster.scheduler if cluster is not None and cluster.scheduler.running else None

    @property
    def trouble(self) -> str | None:
        """Why nothing runs although it was started; `None` when all is well."""
        if not self.is_running:
            return "stopped"
        if self._watch.blocked_for > 1:
            return f"the event loop has stood still for {self._watch.blocked_for:.0f} s"
        return self._trouble

    @property
    def mailer(self) -> Mailer:
        """What tells people of ends."""
        return self._mailer

    # Static jobs

    def add_job(
        self,
        name: str,
        interval_seconds: float,
        func: Callable[[], Any],
        is_async: bool = True,
        *,
        timeout_seconds: float | None = None,
        scope: str | None = None,
    ) -> None:
        """Adds a static job, in place of the one of the same name."""
        self.jobs[name] = ScheduledJob(
            name, interval_seconds, func, is_async, timeout_seconds=timeout_seconds, scope=scope
        )

    def remove_job(self, name: str) -> None:
        """Removes a static job; one that is unknown is ignored."""
        if name in self.jobs:
            del self.jobs[name]

    def enable_job(self, name: str) -> None:
        """Lets the schedule of a static job count; one that is unknown is ignored."""
        if name in self.jobs:
            self.jobs[name].enabled = True

    def disable_job(self, name: str) -> None:
        """Keeps the schedule of a static job from counting. What runs goes on."""
        if name in self.jobs:
            self.jobs[name].enabled = False

    def get_job_status(self) -> list[dict[str, Any]]:
        """The static jobs, in the order in which they were added."""
        return [job.status() for job in self.jobs.values()]

    async def run_job(self, job: ScheduledJob) -> None:
        """Runs a job now, also one that is disabled, and returns when it has ended. Never raises an
        `Exception`. One that runs already, wherever, is not run beside itself."""
        statics = self._statics_of(job) if self.jobs.get(job.name) is job else None
        try:
            if statics is None or not statics.scheduler.running:
                await self._run_here(job)
                return
            await statics.settled()
            execution = await statics.scheduler.trigger(key_of(job.name), unless_open=True, actor="run_job")
            await statics.scheduler.wait_for(execution)
            await statics.refresh()
        except ConflictError:
            logger.warning("static job '%s' runs already", job.name)
        except Exception:
            logger.exception("static job '%s' could not be run", job.name)

    async def _run_here(self, job: ScheduledJob) -> None:
        job.last_run = utcnow()
        job.run_count += 1
        try:
            await run_here(job)
        except Exception as error:
            job.failure_count += 1
            logger.error("static job '%s' failed: %s", job.name, error, exc_info=error)
        job._next_run = utcnow() + timedelta(seconds=job.interval_seconds)

    def _statics_of(self, job: ScheduledJob) -> Statics | None:
        return self._local if (job.scope or self._scope) == "process" else self._cluster

    def _entered(self, job: ScheduledJob) -> None:
        job._owner = self
        self.changed(job, "put")

    def _left(self, job: ScheduledJob) -> None:
        job._owner = None
        self.changed(job, "remove")

    def changed(self, job: ScheduledJob, what: str) -> None:
        """A static job has another value now, or was added or removed."""
        statics = self._statics_of(job)
        if statics is not None:
            statics.order(what, job)
        elif self._loop is not None and self._on and not self._loop.is_closed():
            # The first job of this scope: the supervisor makes an engine for it.
            self._loop.call_soon_threadsafe(self._woken.set)

    # Stored jobs

    async def check_dynamic_jobs(self) -> None:
        """Looks at once for stored jobs that are due, and returns when they have been taken. Never raises."""
        from ._due import run_due

        try:
            await run_due(self)
        except Exception:
            logger.exception("the stored jobs that are due could not be looked for")

    # Life

    async def start(self) -> None:
        """Starts, and returns once the engine runs. Where the database does not answer it returns too, and
        goes on trying."""
        global _running
        if self.is_running:
            logger.warning("the scheduler is running already")
            return
        other = _running[1]() if _running is not None and _running[0] == os.getpid() else None
        if other is not None and other is not self and other.is_running:
            raise ConflictError(
                "a scheduler already runs in this process, and one is enough: use get_unified_scheduler(), or"
                " stop the other one first"
            )
        if self._process != os.getpid():
            # What a process that this one is a fork of has.
            self._cluster = self._local = self._templates = self._supervisor = None
        self._on, self._process = True, os.getpid()
        _running = (self._process, weakref.ref(self))
        self._tried, self._stopped = asyncio.Event(), asyncio.Event()
        self._refused, self._trouble = None, "starting"
        self._watch = LoopWatch()
        self._watch.start()
        self._loop, self._woken = asyncio.get_running_loop(), asyncio.Event()
        self._supervisor = asyncio.create_task(self._supervise(), name="unified-scheduler")
        with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
            await asyncio.wait_for(self._tried.wait(), START_WAIT)
        refused = self._refused
        if refused is not None:
            await self.stop()
            raise refused

    async def stop(self) -> None:
        """Stops: nothing new begins from now on; what runs may end within the grace, then is cancelled and
        recorded as interrupted. Needs no database to come to an end."""
        if not self._on:
            return
        self._on = False
        self._watch.stop()
        supervisor, self._supervisor = self._supervisor, None
        try:
            engines = [s for s in (self._cluster, self._local) if s is not None]
            self._cluster = self._local = self._templates = None
            await asyncio.gather(*(self._end(statics) for statics in engines), return_exceptions=True)
            if supervisor is not None and supervisor is not asyncio.current_task():
                supervisor.cancel()
                await asyncio.wait([supervisor], timeout=STOP_MARGIN)
        finally:
            self._trouble = "stopped"
            self._stopped.set()

    async def wait_stopped(self) -> None:
        """Waits until somebody stops it."""
        if self._on:
            await self._stopped.wait()

    async def _end(self, statics: Statics) -> None:
        stopping = asyncio.ensure_future(statics.scheduler.stop(self._grace))
        await statics.end()
        done, _ = await asyncio.wait([stopping], timeout=self._grace + STOP_MARGIN)
        if not done:
            logger.error("the store did not answer while the scheduler stopped; others find its runs lost")
            statics.scheduler.core.engine.kill()
            stopping.cancel()
        elif stopping.exception() is not None:
            logger.error("the scheduler did not stop in order: %s", stopping.exception())

    async def _supervise(self) -> None:
        """Brings the engines up, keeps them up, and keeps them and the mapping of jobs the same."""
        delay = 0.5
        while self._on:
            try:
                await self._bring_up()
            except (InvalidError, UnsupportedError, ConflictError) as error:
                self._refused, self._trouble = error, str(error)
                if self._tried.is_set():
                    logger.error("the scheduler can't be started: %s", error)
                self._tried.set()
                return
            except Exception as error:
                if self._trouble != str(error):
                    logger.warning("the scheduler can't reach its store, and tries again: %s", error)
                self._trouble = str(error) or type(error).__name__
                self._tried.set()
                await asyncio.sleep(delay)
                delay = min(delay * 2, 30.0)
                continue
            delay, self._trouble = 0.5, None
            self._tried.set()
            await self._keep_up()

    async def _keep_up(self) -> None:
        """Returns when an engine has ended by itself."""
        while self._on:
            self._woken.clear()
            with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
                await asyncio.wait_for(self._woken.wait(), min(self._poll, 2.0))
            try:
                await self._bring_up_local()
                if self._templates is not None:
                    self._templates.sync()
                for statics in (self._cluster, self._local):
                    if statics is None:
                        continue
                    if not statics.scheduler.running:
                        logger.error("the engine has ended by itself; it is started again")
                        await statics.end()
                        return
                    await statics.refresh()
                await self._look_for_orphans()
                self._trouble = None
            except Exception as error:
                self._trouble = str(error) or type(error).__name__

    async def _look_for_orphans(self) -> None:
        templates, loop = self._templates, asyncio.get_running_loop()
        if templates is None or not templates.documents or loop.time() < self._orphans_at:
            return
        self._orphans_at = loop.time() + ORPHANS_EVERY
        from ._orphans import report_orphans

        await report_orphans(self.db, templates.registry)

    async def _bring_up_local(self) -> None:
        wanted = any((job.scope or self._scope) == "process" for job in self.jobs.values())
        if wanted and (self._local is None or not self._local.scheduler.running):
            local = Scheduler("memory:", **{**self._options, "name": "static jobs", "retention": 3600.0})
            await local.start()
            await self._begun(local, "process")

    async def _bring_up(self) -> None:
        await self._bring_up_local()
        if self._cluster is None or not self._cluster.scheduler.running:
            if self._scope == "process" and self.db is None and self._store_url is None:
                return
            scheduler, is_mongo = await self._open()
            try:
                self._templates = Templates(scheduler, self.db, self._registry, documents=is_mongo)
                self._templates.sync()
                scheduler.add_listener(self._ended, "execution_ended")
                await scheduler.start()
            except BaseException:
                # Nobody else knows of it yet.
                await scheduler.core.stop(0)
                raise
            await self._begun(scheduler, "cluster")

    async def _begun(self, scheduler: Scheduler, scope: str) -> None:
        statics = Statics(scheduler, self.jobs, scope, self._scope)
        if not self._on:
            # Stopped meanwhile.
            await self._end(statics)
            raise asyncio.CancelledError
        if scope == "process":
            self._local = statics
        else:
            self._cluster = statics
        await statics.begin()

    async def _open(self) -> tuple[Scheduler, bool]:
        """A scheduler over the first URL that leads to the database."""
        extras = {"scan_interval_ms": str(int(self._poll * 1000))}
        if not self._create_indexes:
            extras["create_indexes"] = "false"
        tried: list[str] = []
        failed: Exception | None = None
        for candidate in _connect.candidates(self.db, self._store_url):
            url = _connect.with_options(candidate.url, extras)
            scheduler = Scheduler(url, name=self._name or _place(), **self._options)
            try:
                if not candidate.to_prove or await leads_to(scheduler, self.db):
                    return scheduler, url.startswith("mongodb")
                tried.append(f"{candidate.source} leads to another database")
            except UnsupportedError:
                raise
            except Exception as error:
                failed = error
                tried.append(f"{candidate.source}: {error}")
            await scheduler.core.stop(0)
        if failed is not None and not isinstance(failed, InvalidError):
            # It may only be away for now.
            raise failed
        raise InvalidError(f"no way to the database was found ({'; '.join(tried)}): {_connect.HELP}")

    # Ends

    def _ended(self, event: Event) -> None:
        if event.execution is None or event.document.get("retry_at") is not None:
            return
        if event.execution.job_id.startswith("static:"):
            return
        notify = event.document.get("notify")
        if notify is not None and not any(notify.values()):
            return
        task = asyncio.ensure_future(self._tell(event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, event: Event) -> None:
        engine, execution = self.engine, event.execution
        if engine is None or execution is None:
            return
        notify = event.document.get("notify")
        if notify is not None:
            await self._mailer.tell(notify, execution.document)
            return
        try:
            job = await engine.core.ask("get_job", id=execution.job_id)
        except Exception as error:
            logger.error("who is to be told of '%s' is not known: %s", execution.job_name, error)
            return
        if job is not None:
            await self._mailer.tell(job.get("notifications"), execution.document)

    def __repr__(self) -> str:
        static = json.dumps(list(self.jobs))
        return f"<UnifiedScheduler {'running' if self.is_running else 'stopped'} {static}>"


def _place() -> str:
    """Where executions say that they ran."""
    return f"{socket.gethostname()}:{os.getpid()}"
