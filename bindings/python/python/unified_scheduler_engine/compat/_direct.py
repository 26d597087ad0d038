"""A run of a stored job in this process, without an engine: its record is written through the handle.

The order: the execution is inserted as running; the hooks and the work; the result and the logs; the job; the
people who want to know.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import os
import socket
import sys
from collections.abc import Mapping
from typing import Any

from .._results import to_text
from . import _documents as documents
from . import _mongo
from ._mail import Mailer
from ._outcome import class_of, result_of, stored
from ._pipeline import Pipeline, TimeLimit
from ._times import naive, to_millis, utcnow
from .context import JobExecutionContext, JobResult

logger = logging.getLogger("unified_scheduler")

#: The most of a log that is kept, in lines and in characters of one.
LINES = 10_000
LINE = 8_000

#: Waits between the tries to write a result, in seconds.
WRITES = (0.1, 0.5, 2.0, 5.0)


class DirectRun:
    """Runs jobs here."""

    def __init__(self, db: Any, registry: Any, mailer: Mailer | None) -> None:
        self._db = db
        self._registry = registry
        self._mailer = mailer

    async def run(self, job: Mapping[str, Any], triggered_by: str) -> dict[str, Any]:
        """Runs a job to its end and gives its execution."""
        key, kind = _mongo.new_object_id(), documents.template_of(job)
        began = to_millis(utcnow())
        execution: dict[str, Any] = {
            "_id": key,
            "job_id": str(job.get("_id", "")),
            "job_name": str(job.get("name", "")),
            "template_type": kind or "",
            "status": "running",
            "triggered_by": triggered_by,
            "started_at": began,
            "completed_at": None,
            "duration_seconds": None,
            "result": {},
            "error": None,
            "logs": [],
            "execution_host": f"{socket.gethostname()}:{os.getpid()}",
            "attempt": 1,
        }
        executions = self._db[_mongo.EXECUTIONS]
        await executions.insert_one(execution)
        context = self._context(job, execution, triggered_by)
        try:
            result = await self._result(job, kind, context)
        except BaseException as error:
            # The process ends, or who asked has gone: the record must not say "running" for ever.
            gone = JobResult("failed", f"interrupted: {type(error).__name__}", errors=["interrupted"])
            change = {**_end(gone, context, began), "failure_kind": "interrupted"}
            with contextlib.suppress(Exception):
                writing = executions.update_one({"_id": key, "status": "running"}, {"$set": change})
                await asyncio.shield(asyncio.ensure_future(writing))
            raise
        change = _end(result, context, began)
        await _until_written(lambda: executions.update_one({"_id": key}, {"$set": change}))
        execution.update(change)
        await self._update_job(job, began, change["status"])
        if self._mailer is not None:
            await self._mailer.tell(job.get("notifications"), execution)
        return documents.shown_execution(execution)

    def _context(
        self, job: Mapping[str, Any], execution: Mapping[str, Any], triggered_by: str
    ) -> JobExecutionContext:
        parameters = copy.deepcopy(dict(job.get("parameters") or {}))
        parameters["triggered_by"] = triggered_by
        return JobExecutionContext(
            job_id=execution["job_id"],
            job_name=execution["job_name"],
            parameters=parameters,
            db=self._db,
            triggered_by=triggered_by,
            execution_id=str(execution["_id"]),
            last_run_at=naive(documents.first(job, documents.LAST_RUN)),
            scheduled_for=execution["started_at"],
        )

    async def _result(self, job: Mapping[str, Any], kind: str | None, context: JobExecutionContext) -> Any:
        template = None if kind is None else self._registry.get(kind)
        if template is None:
            message = f"Template '{kind}' not found" if kind else "the job names no template"
            return JobResult("failed", message, errors=[message])
        limit = documents.timeout_of(job)

        async def timed(of: Any) -> Any:
            work = asyncio.ensure_future(pipeline._execute(of))
            try:
                done, _ = await asyncio.wait([work], timeout=limit)
            except asyncio.CancelledError:
                work.cancel()
                raise
            if done:
                return work.result()
            work.cancel()
            # Its `finally` has its time, and no more than that.
            await asyncio.wait([work], timeout=5.0)
            raise TimeLimit(f"Job execution timed out after {limit:g} seconds")

        pipeline = Pipeline(template, str(kind), context, stopping=_is_cancelled)
        return result_of(await pipeline.run(timed), str(kind))

    async def _update_job(self, job: Mapping[str, Any], began: Any, status: str) -> None:
        """Notes the end in the job, where it still is; its schedule is not touched."""
        key = _mongo.job_key(job.get("_id"))
        if key is None:
            return
        change = {"lastRunAt": began, "lastStatus": status}
        jobs = self._db[_mongo.JOBS]
        await _until_written(lambda: jobs.update_one(key, {"$set": change}))


def _is_cancelled() -> bool:
    """Whether somebody has cancelled the task that this is in, and not the template itself."""
    task = asyncio.current_task()
    return sys.version_info >= (3, 11) and task is not None and task.cancelling() > 0


def _end(result: Any, context: JobExecutionContext, began: Any) -> dict[str, Any]:
    now = to_millis(utcnow())
    told = stored(result)
    status = told["status"] if class_of(told["status"]) != "open" else "failed"
    errors = told["errors"]
    error = errors[0] if errors else (told["message"] if class_of(status) == "bad" else None)
    return {
        "status": status,
        "completed_at": now,
        "duration_seconds": told["duration_seconds"] or max((now - began).total_seconds(), 0.0),
        "result": told,
        "error": error,
        "logs": lines(context.logs),
    }


def lines(logs: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The log as it is stored: three texts a line, and not more of it than a document can take."""
    kept = [
        {
            "timestamp": (naive(line.get("timestamp")) or utcnow()).isoformat(),
            "level": to_text(line.get("level", "info")),
            "message": to_text(line.get("message", ""))[:LINE],
        }
        for line in logs[:LINES]
        if isinstance(line, Mapping)
    ]
    budget = 4_000_000
    for place, line in enumerate(kept):
        budget -= len(line["message"].encode()) + 100
        if budget < 0:
            del kept[place:]
            break
    if len(kept) < len(logs):
        cut = f"{len(logs) - len(kept)} more lines were not kept"
        kept.append({"timestamp": utcnow().isoformat(), "level": "warning", "message": cut})
    return kept


async def _until_written(write: Any) -> None:
    """Writes what a finished run came to; a failure to do so does not make it run again."""
    for wait in (*WRITES, None):
        try:
            await write()
            return
        except Exception as error:  # noqa: PERF203
            if wait is None:
                logger.error("the end of an execution could not be written: %s", error)
                return
            await asyncio.sleep(wait)
