"""The scheduler for programs without an event loop: every call blocks until it is done.

>>> from unified_scheduler_engine import Manual
>>> with SyncScheduler("memory:") as scheduler:
...     job_id = scheduler.add_job(lambda: "done", Manual(), id="work")
...     scheduler.wait_for(scheduler.trigger(job_id)).message
'done'
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, TypeVar, cast

from ._core import BlockingLoop
from ._handle import JobHandle
from .scheduler import Scheduler

if TYPE_CHECKING:
    from typing_extensions import ParamSpec, Self

    P = ParamSpec("P")

T = TypeVar("T")


def _blocking(
    method: Callable[Concatenate[Scheduler, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncScheduler, P], T]:
    """A method of the scheduler, called on its loop and waited for."""

    @functools.wraps(method)
    def call(self: SyncScheduler, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._wait(method(self.scheduler, *args, **kwargs))

    return call


def _direct(method: Callable[Concatenate[Scheduler, P], T]) -> Callable[Concatenate[SyncScheduler, P], T]:
    """A method of the scheduler that blocks nobody."""

    @functools.wraps(method)
    def call(self: SyncScheduler, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return method(self.scheduler, *args, **kwargs)

    return call


def _stored(
    method: Callable[Concatenate[Scheduler, P], JobHandle],
) -> Callable[Concatenate[SyncScheduler, P], str]:
    """A method that gives a handle: waits until the job is stored, and gives its id."""

    @functools.wraps(method)
    def call(self: SyncScheduler, /, *args: P.args, **kwargs: P.kwargs) -> str:
        async def add() -> str:
            return (await method(self.scheduler, *args, **kwargs)).id

        return self._wait(add()) if self.running else method(self.scheduler, *args, **kwargs).id

    return call


def _decorating(method: Callable[Concatenate[Scheduler, P], T]) -> Callable[Concatenate[SyncScheduler, P], T]:
    """A method that gives a decorator, which waits until the job is stored."""

    @functools.wraps(method)
    def call(self: SyncScheduler, /, *args: P.args, **kwargs: P.kwargs) -> T:
        register: Any = method(self.scheduler, *args, **kwargs)

        async def add(func: Any) -> Any:
            answer = register(func)
            await self.scheduler.settled()
            return answer

        def decorate(func: Any) -> Any:
            return self._wait(add(func)) if self.running else register(func)

        return cast("T", decorate)

    return call


class SyncScheduler:
    """A `Scheduler` with an event loop on a thread of its own: the same methods, waited for.

    Plain functions run in its thread pool, coroutine functions on its loop.
    """

    def __init__(self, url: str = "memory:", **options: Any) -> None:
        self.scheduler = Scheduler(url, **options)
        self._loop: BlockingLoop | None = None

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            self._loop = BlockingLoop()
        answer: T = self._loop.wait(work)
        return answer

    @property
    def running(self) -> bool:
        """Whether it runs in this process."""
        return self.scheduler.running

    @property
    def n_running(self) -> int:
        """How many executions run on this node."""
        return self.scheduler.n_running

    def stop(self, grace: float | None = None) -> None:
        """Stops, and ends the loop's thread."""
        if self._loop is None:
            return
        self._wait(self.scheduler.stop(grace))
        self._loop.close()
        self._loop = None

    def shutdown(self, wait: bool = True) -> None:
        """As in APScheduler; see `stop`."""
        self.stop(None if wait else 0)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    start = _blocking(Scheduler.start)
    wait_stopped = _blocking(Scheduler.wait_stopped)

    job = _decorating(Scheduler.job)
    scheduled_job = _decorating(Scheduler.scheduled_job)
    handler = _direct(Scheduler.handler)
    template = _direct(Scheduler.template)
    register_template = _direct(Scheduler.register_template)
    unregister = _direct(Scheduler.unregister)
    templates = _direct(Scheduler.templates)
    on = _direct(Scheduler.on)
    add_listener = _direct(Scheduler.add_listener)
    remove_listener = _direct(Scheduler.remove_listener)
    add_job = _stored(Scheduler.add_job)

    create_job = _blocking(Scheduler.create_job)
    job_of = _blocking(Scheduler.job_of)
    get_job = _blocking(Scheduler.get_job)
    jobs = _blocking(Scheduler.jobs)
    get_jobs = _blocking(Scheduler.get_jobs)
    pause = _blocking(Scheduler.pause)
    pause_job = _blocking(Scheduler.pause_job)
    resume = _blocking(Scheduler.resume)
    resume_job = _blocking(Scheduler.resume_job)
    reschedule = _blocking(Scheduler.reschedule)
    reschedule_job = _blocking(Scheduler.reschedule_job)
    modify_job = _blocking(Scheduler.modify_job)
    skip_next = _blocking(Scheduler.skip_next)
    skip_date = _blocking(Scheduler.skip_date)
    remove = _blocking(Scheduler.remove)
    remove_job = _blocking(Scheduler.remove_job)
    trigger = _blocking(Scheduler.trigger)

    runs = _blocking(Scheduler.runs)
    execution = _blocking(Scheduler.execution)
    wait_for = _blocking(Scheduler.wait_for)
    logs = _blocking(Scheduler.logs)
    cancel = _blocking(Scheduler.cancel)
    retry = _blocking(Scheduler.retry)

    next_runs = _blocking(Scheduler.next_runs)
    explain = _blocking(Scheduler.explain)
    verify = _blocking(Scheduler.verify)
    status = _blocking(Scheduler.status)
    doctor = _blocking(Scheduler.doctor)
    nodes = _blocking(Scheduler.nodes)
