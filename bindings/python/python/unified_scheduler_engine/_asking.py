"""What every group of the scheduler's verbs needs: the engine, its time zone, and how jobs are named."""

from __future__ import annotations

from typing import Any

from ._core import Core
from ._handle import JobHandle, JobRef
from .models import Job


class Asking:
    """Asks the engine."""

    _core: Core
    _zone: str | None
    _defaults: dict[str, Any]

    @property
    def running(self) -> bool:
        """Whether it runs in this process."""
        return self._core.running

    async def _id(self, job: JobRef) -> str:
        if isinstance(job, (JobHandle, Job)):
            return job.id
        if self._core.target(f"static:{job}") is not None:
            return f"static:{job}"
        found: str = (await self._core.ask("find_job", id=job))["id"]
        return found
