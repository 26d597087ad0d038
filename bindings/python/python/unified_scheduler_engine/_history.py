"""The verbs that look at executions, and that ask what happened and what will."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from ._asking import Asking
from ._errors import NotFoundError
from ._handle import JobRef
from .models import Execution, Explanation, LogLine, Report, Run
from .schedules import Duration, Instant, instant, parse_instant, seconds


class HistoryVerbs(Asking):
    """Executions, and answers in place of riddles."""

    async def runs(
        self,
        job: JobRef | None = None,
        *,
        status: str | Iterable[str] = (),
        since: Instant | None = None,
        until: Instant | None = None,
        oldest_first: bool = False,
        offset: int = 0,
        limit: int = 50,
    ) -> list[Execution]:
        """A page of executions, the newest first: those with one of these statuses, and with a due time from
        `since` until before `until`."""
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
        """Waits until an execution has ended, on whichever node. Raises `TimeoutError` when that takes longer
        than `timeout`, in real time; the execution goes on."""

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

    async def next_runs(self, job: JobRef, n: int = 5) -> list[Run]:
        """The next `n` due times of a job."""
        return [Run.read(run) for run in await self._core.ask("next_runs", id=await self._id(job), n=n)]

    async def explain(self, job: JobRef) -> Explanation:
        """Why a job did or did not run, and when it will next."""
        return Explanation.read(await self._core.ask("explain", id=await self._id(job)))

    async def verify(
        self,
        job: JobRef | None = None,
        *,
        since: Instant | timedelta | None = None,
        until: Instant | None = None,
    ) -> Report:
        """Replays a period of the history: was every due occurrence started, or skipped with a reason?"""
        begin: str | None = None
        if isinstance(since, timedelta):
            now = await self._core.ask("now")
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
        """How the scheduler and its store are; lengths of time in it are seconds."""
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
