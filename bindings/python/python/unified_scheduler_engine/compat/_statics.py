"""Brings static jobs into an engine, and what the engine knows of them back.

Every change is carried out in its order, one after another, on the loop of the scheduler. Before the engine
runs there is nothing to carry out: at its start all jobs are entered as they are then.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from datetime import timedelta
from typing import Any

from .._errors import NotFoundError, SchedulerError, UnavailableError
from .._targets import is_async
from ..models import Job
from ..scheduler import Scheduler
from ..schedules import Every
from ._times import aware, naive, utcnow
from .static import Jobs, ScheduledJob

logger = logging.getLogger("unified_scheduler")

#: How long a change that the store could not take waits before it is tried again.
AGAIN = 1.0


def key_of(name: str) -> str:
    """The id that the engine stores a static job under."""
    return f"static:{name}"


async def run_here(job: ScheduledJob) -> None:
    """Runs the function of a job once, however it is made. Raises what it raises."""
    if is_async(job.func):
        answer = job.func()
    else:
        answer = await asyncio.to_thread(job.func)
    if inspect.isawaitable(answer):
        await answer


class Statics:
    """The static jobs of one scope in one engine."""

    def __init__(self, scheduler: Scheduler, jobs: Jobs, scope: str, default_scope: str) -> None:
        self.scheduler = scheduler
        self._jobs = jobs
        self._scope = scope
        self._default_scope = default_scope
        self._orders: asyncio.Queue[tuple[str, ScheduledJob]] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: asyncio.Task[None] | None = None
        #: Names that the store has had since the start: what is missing among them was removed elsewhere.
        self._stored: set[str] = set()

    def mine(self) -> list[ScheduledJob]:
        """The jobs of this scope."""
        return [j for j in self._jobs.values() if (j.scope or self._default_scope) == self._scope]

    async def begin(self) -> None:
        """Enters all jobs; the engine runs. Changes are carried out from now on."""
        self._loop = asyncio.get_running_loop()
        for job in self.mine():
            self._orders.put_nowait(("put", job))
        self._worker = asyncio.create_task(self._work())
        await self._orders.join()

    async def end(self) -> None:
        """Carries out no more changes."""
        self._loop = None
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker

    def order(self, what: str, job: ScheduledJob) -> None:
        """Has a change carried out: `put`, `remove`, `enabled`, `interval`, `func`, `next_run`."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        try:
            here = asyncio.get_running_loop() is loop
        except RuntimeError:
            here = False
        if here:
            self._orders.put_nowait((what, job))
        else:
            loop.call_soon_threadsafe(self._orders.put_nowait, (what, job))

    async def settled(self) -> None:
        """Waits until every change so far is carried out."""
        if self._loop is not None:
            await self._orders.join()

    async def _work(self) -> None:
        while True:
            what, job = await self._orders.get()
            try:
                await self._carry_out(what, job)
            except UnavailableError as error:
                logger.warning("the static job '%s' can't be stored now: %s", job.name, error)
                if self._loop is not None:
                    self._loop.call_later(AGAIN, self._orders.put_nowait, (what, job))
            except SchedulerError as error:
                logger.error("the static job '%s': %s", job.name, error)
            except Exception:
                logger.exception("the static job '%s' can't be changed", job.name)
            finally:
                self._orders.task_done()

    async def _carry_out(self, what: str, job: ScheduledJob) -> None:
        key = key_of(job.name)
        if what == "remove":
            self._stored.discard(job.name)
            if not any(mine.name == job.name for mine in self.mine()):
                with contextlib.suppress(NotFoundError):
                    await self.scheduler.remove(key)
            return
        if self._jobs.get(job.name) is not job:
            # Replaced or removed since.
            return
        if what in ("put", "func"):
            await self._put(job)
        elif what == "enabled":
            changed = await (self.scheduler.resume(key) if job.enabled else self.scheduler.pause(key))
            self._learn(job, changed)
        elif what == "interval":
            changes = job._changes
            changed = await self.scheduler.reschedule(key, Every(seconds=job.interval_seconds))
            if job._changes == changes:
                self._learn(job, changed)
        elif what == "next_run":
            await self._move(job, key)

    async def _put(self, job: ScheduledJob) -> None:
        key, changes = key_of(job.name), job._changes
        run = self._async_body(job) if is_async(job.func) else self._sync_body(job)
        options: dict[str, Any] = {}
        if job.timeout_seconds is not None:
            options["timeout"] = job.timeout_seconds
        if not job.enabled:
            options["next_run_time"] = None
        await self.scheduler.add_job(
            run, Every(seconds=job.interval_seconds), id=job.name, replace_existing=True, **options
        )
        self._stored.add(job.name)
        stored = await self.scheduler.get_job(key)
        if stored is not None and job.enabled and job._enabled_said and not stored.enabled:
            stored = await self.scheduler.resume(key)
        if stored is not None and job._changes == changes:
            self._learn(job, stored)

    async def _move(self, job: ScheduledJob, key: str) -> None:
        """Makes a job due at another time, from which its intervals count on."""
        due = job.next_run
        if due <= utcnow():
            await self.scheduler.trigger(key, unless_open=True, actor="next_run")
            return
        every = Every(seconds=job.interval_seconds, anchor=aware(due), start=aware(due))
        await self.scheduler.reschedule(key, every)

    def _async_body(self, job: ScheduledJob) -> Any:
        async def run() -> None:
            self._began(job)
            try:
                await job.func()
            except Exception as error:
                self._failed(job, error)
                raise

        return run

    def _sync_body(self, job: ScheduledJob) -> Any:
        loop = asyncio.get_running_loop()

        def run() -> None:
            self._began(job)
            try:
                answer = job.func()
                if inspect.isawaitable(answer):
                    # A plain function that gave a coroutine: that belongs on the loop.
                    asyncio.run_coroutine_threadsafe(_await(answer), loop).result()
            except Exception as error:
                self._failed(job, error)
                raise

        return run

    @staticmethod
    def _began(job: ScheduledJob) -> None:
        now = utcnow()
        job.last_run = now
        job.run_count += 1
        period = timedelta(seconds=job.interval_seconds)
        if job.next_run <= now:
            # As the engine has done already, which tells it a little later.
            job._next_run += period * ((now - job.next_run) // period + 1)
        logger.debug("static job '%s' starts", job.name)

    @staticmethod
    def _failed(job: ScheduledJob, error: Exception) -> None:
        job.failure_count += 1
        logger.error("static job '%s' failed: %s", job.name, error, exc_info=error)

    def _learn(self, job: ScheduledJob, stored: Job) -> None:
        interval = stored.schedule.get("interval_seconds")
        job._learn(
            stored.enabled,
            job.interval_seconds if interval is None else interval,
            naive(stored.last_run_at),
            naive(stored.next_run_time),
        )

    async def refresh(self) -> None:
        """Takes over what other processes have changed."""
        mine = {key_of(job.name): job for job in self.mine() if job.name in self._stored}
        if not mine or not self._orders.empty():
            return
        before = {key: job._changes for key, job in mine.items()}
        seen: set[str] = set()
        names = list(mine)
        for start in range(0, len(names), 500):
            for stored in await self.scheduler.jobs(templates=names[start : start + 500], limit=500):
                seen.add(stored.id)
                job = mine.get(stored.id)
                if job is not None and job._changes == before[stored.id]:
                    self._learn(job, stored)
        for key, job in mine.items():
            if key not in seen and job._changes == before[key] and self._jobs.get(job.name) is job:
                logger.info("the static job '%s' was removed by another process", job.name)
                self._stored.discard(job.name)
                self._jobs._forget(job.name)
                self.scheduler.unregister(key)


async def _await(answer: Any) -> Any:
    return await answer
