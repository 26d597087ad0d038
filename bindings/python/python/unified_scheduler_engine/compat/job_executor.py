"""`JobExecutor`: runs a stored job to its end, and finds executions.

Where the scheduler of this process runs on the same database, a run goes through it: it is one of the
cluster's, beside which no other of the job runs. Elsewhere, as in a script, it runs here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from .._errors import ConflictError, NotFoundError
from . import _documents as documents
from . import _mongo
from ._direct import DirectRun
from ._ids import object_id_of
from ._times import utcnow
from .registry import find_registry
from .unified import UnifiedScheduler

logger = logging.getLogger("unified_scheduler")


class JobExecutor:
    """Runs jobs, and finds their executions."""

    def __init__(self, db: Any, *, registry: Any = None, scheduler: UnifiedScheduler | None = None) -> None:
        self.db = db
        self.executions_collection = db[_mongo.EXECUTIONS]
        self._registry = registry
        self._scheduler = scheduler

    @property
    def template_registry(self) -> Any:
        """Where templates are looked for."""
        return find_registry(self._registry)

    async def execute_job(self, job: Mapping[str, Any], triggered_by: str = "scheduler") -> dict[str, Any]:
        """Runs a job to its end and gives its execution, also of a run that failed."""
        scheduler = self._engine()
        if scheduler is not None and job.get("_id") is not None:
            try:
                return await self._through(scheduler, job, triggered_by)
            except NotFoundError:
                # No stored job, or not one of this store.
                pass
            except ConflictError:
                return _refused(job, triggered_by)
        mailer = None if scheduler is None else scheduler.mailer
        return await DirectRun(self.db, self.template_registry, mailer).run(job, triggered_by)

    async def execute_job_by_id(self, job_id: str, triggered_by: str = "manual") -> dict[str, Any] | None:
        """The same for a stored job by its id; `None` when there is none, or it is disabled."""
        key = _mongo.job_key(job_id)
        document = None if key is None else await self.db[_mongo.JOBS].find_one(key)
        # One that does not say whether it is enabled is not scheduled, and can be run.
        if document is None or documents.first(document, documents.ENABLED) not in (None, True):
            return None
        return await self.execute_job(document, triggered_by)

    async def get_execution(self, execution_id: str) -> dict[str, Any] | None:
        """An execution; `None` when there is none, or the id can't be one."""
        key = _mongo.object_id(execution_id)
        found = None if key is None else await self.executions_collection.find_one({"_id": key})
        return None if found is None else documents.shown_execution(found)

    async def list_executions(
        self, filters: Mapping[str, Any] | None = None, limit: int = 50, skip: int = 0
    ) -> list[dict[str, Any]]:
        """A page of executions, the newest first."""
        condition = {key: value for key, value in (filters or {}).items() if value is not None}
        cursor = self.executions_collection.find(condition).sort([("started_at", -1), ("_id", -1)])
        found = await _mongo.page(cursor.skip(max(skip, 0)).limit(limit), limit)
        return [documents.shown_execution(document) for document in found]

    async def delete_execution(self, execution_id: str) -> bool:
        """Removes the record of an execution; whether there was one."""
        key = _mongo.object_id(execution_id)
        if key is None:
            return False
        return bool((await self.executions_collection.delete_one({"_id": key})).deleted_count)

    def _engine(self) -> UnifiedScheduler | None:
        """The scheduler of this process, when it runs on the same database."""
        from .module import get_unified_scheduler

        scheduler = self._scheduler or get_unified_scheduler()
        if scheduler is None or scheduler.engine is None or scheduler.db is None:
            return None
        return scheduler if _same(scheduler.db, self.db) else None

    async def _through(
        self, scheduler: UnifiedScheduler, job: Mapping[str, Any], triggered_by: str
    ) -> dict[str, Any]:
        engine = scheduler.engine
        if engine is None:
            raise NotFoundError("no engine runs")
        started = await engine.trigger(
            str(job["_id"]),
            unless_open=True,
            actor=triggered_by.partition(":")[2] or triggered_by,
            triggered_by=triggered_by,
        )
        ended = await engine.wait_for(started)
        found = await self.get_execution(object_id_of(ended.id))
        if found is not None:
            return found
        return documents.shown_execution({**ended.document, "_id": ended.id, "completed_at": ended.ended_at})


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    name = getattr(one, "name", None)
    return name is not None and name == getattr(other, "name", None) and bool(one == other)


def _refused(job: Mapping[str, Any], triggered_by: str) -> dict[str, Any]:
    """What is answered of a run that did not begin, because the job runs already."""
    message = "the job is running already"
    now = utcnow()
    result = {
        "status": "skipped",
        "message": message,
        "details": {},
        "records_processed": 0,
        "records_affected": 0,
        "errors": [],
        "warnings": [message],
        "duration_seconds": 0.0,
    }
    return documents.shown_execution(
        {
            "_id": "",
            "job_id": str(job["_id"]),
            "job_name": str(job.get("name", "")),
            "template_type": documents.template_of(job),
            "status": "skipped",
            "triggered_by": triggered_by,
            "started_at": now,
            "completed_at": now,
            "duration_seconds": 0.0,
            "result": result,
            "error": message,
            "logs": [],
        }
    )
