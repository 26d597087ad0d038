"""A job as code that added it holds it, and what names a job in calls."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

from .models import Execution, Job
from .schedules import Trigger

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._options import JobChanges, TriggerOptions
    from .scheduler import Scheduler


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


#: What names a job: its id, its name, or what a call has answered.
JobRef = str | JobHandle | Job


def key_of(job: JobRef) -> str:
    """The id or name that a job is looked for by."""
    return job if isinstance(job, str) else job.id
