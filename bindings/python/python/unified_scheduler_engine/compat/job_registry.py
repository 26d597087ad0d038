"""`JobRegistryService`: the stored jobs, through the program's own database handle.

Documents are written in the existing backend's form, field by field, so that both engines can read them and
no field that somebody else has put there is lost.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from .._errors import InvalidError, SchedulerError
from . import _documents as documents
from . import _mongo
from ._queries import job_page
from ._schema import check
from ._times import naive, to_millis, utcnow
from .registry import find_registry

#: Of a job that is made.
RETRY = {"max_retries": 3, "retry_delay_seconds": 300}

#: Never taken over from an update: not the caller's to set, or added for readers only.
_DROPPED = frozenset(
    {
        "_id",
        "created_by",
        "createdBy",
        "created_at",
        "createdAt",
        "updated_at",
        "updatedAt",
        "version",
        "lastRunAt",
        "last_run_at",
        "lastRun",
        "last_run",
        "lastStatus",
        "last_status",
        "last_run_status",
        "next_run_at",
        "nextRun",
        "next_run",
        "schedule_type",
        "interval_seconds",
        "cron_expression",
        "execution_count",
        "fault",
        documents.OURS,
    }
)

#: How often an update is tried again that somebody else's came before.
_TRIES = 5

#: How many jobs are taken at once, at most.
BATCH = 100


class JobRegistryService:
    """Makes, finds, changes and removes stored jobs."""

    def __init__(self, db: Any, *, registry: Any = None) -> None:
        self.db = db
        self.jobs_collection = db[_mongo.JOBS]
        self.executions_collection = db[_mongo.EXECUTIONS]
        self._registry = registry

    @property
    def template_registry(self) -> Any:
        """Where templates are looked for."""
        return find_registry(self._registry)

    async def create_job(self, job_definition: Mapping[str, Any], created_by: str) -> dict[str, Any]:
        """Stores a job. Raises `ValueError` for an unknown template, or what can't be used of the rest."""
        given = dict(job_definition)
        name = given.get("name")
        if not isinstance(name, str) or not name.strip():
            raise InvalidError("name: give the job a name")
        template_type = documents.template_of(given)
        parameters = self._checked(template_type, given.get("parameters"))
        schedule, understood = documents.checked_schedule(given.get("schedule"))
        now = to_millis(utcnow())
        document: dict[str, Any] = {
            "_id": _mongo.new_object_id(),
            "name": name,
            "description": given.get("description") or "",
            "template_type": template_type,
            "parameters": parameters,
            "schedule": schedule,
            "enabled": given.get("enabled") is not False,
            "timeout_seconds": _timeout(given.get("timeout_seconds")),
            "retry_policy": _plain(given.get("retry_policy")) or dict(RETRY),
            "notifications": _notifications(given.get("notifications")),
            "created_by": created_by,
            "createdAt": now,
            "updatedAt": now,
            "lastRunAt": None,
            "nextRunAt": documents.next_due(understood, now),
            "lastStatus": None,
            "version": 1,
        }
        await self.jobs_collection.insert_one(document)
        return documents.shown_job(document, now)

    async def get_job(self, job_id: str) -> dict[str, Any] | None:
        """A job; `None` when there is none, or the id can't be one."""
        document = await self._find(job_id)
        return None if document is None else documents.shown_job(document, utcnow(), self.template_registry)

    async def delete_job(self, job_id: str) -> bool:
        """Removes a job; whether there was one. Its executions stay."""
        key = _mongo.job_key(job_id)
        if key is None:
            return False
        return bool((await self.jobs_collection.delete_one(key)).deleted_count)

    async def list_jobs(
        self,
        filters: Mapping[str, Any] | None = None,
        skip: int = 0,
        limit: int = 50,
        sort_by: str = "created_at",
        sort_order: int = -1,
    ) -> dict[str, Any]:
        """A page of jobs, by `template_types`, `template_type` and `enabled`."""
        limit, skip = max(int(limit), 1), max(int(skip), 0)
        found, total = await job_page(
            self.jobs_collection,
            filters or {},
            skip=skip,
            limit=limit,
            sort_by=sort_by,
            sort_order=sort_order,
        )
        now, registry = utcnow(), self.template_registry
        return {
            "jobs": [documents.shown_job(document, now, registry) for document in found],
            "total": total,
            "page": skip // limit + 1,
            "pages": -(-total // limit),
            "limit": limit,
        }

    async def update_job(self, job_id: str, updates: Mapping[str, Any]) -> dict[str, Any] | None:
        """Changes fields of a job, and gives it as it is then; `None` when there is none. A due time moves
        only where the schedule is another one, or an overdue job is enabled."""
        for _ in range(_TRIES):
            document = await self._find(job_id)
            if document is None:
                return None
            now = to_millis(utcnow())
            change = self._change(document, updates, now)
            condition: dict[str, Any] = {"_id": document["_id"]}
            if "nextRunAt" in change:
                # A claim in between has moved it on; then look again.
                condition["nextRunAt"] = document.get("nextRunAt")
            written = await self.jobs_collection.find_one_and_update(
                condition, {"$set": change, "$inc": {"version": 1}}, return_document=True
            )
            if written is not None:
                return documents.shown_job(written, now)
        raise SchedulerError(f"the job {job_id} is changed by others all the time")

    def _change(
        self, document: Mapping[str, Any], updates: Mapping[str, Any], now: datetime
    ) -> dict[str, Any]:
        change: dict[str, Any] = {
            key: value
            for key, value in updates.items()
            if key not in _DROPPED and not (value is None and key in _NAMED) and key != "nextRunAt"
        }
        template_type = documents.template_of(updates) or documents.template_of(document)
        for other in documents.TEMPLATE:
            change.pop(other, None)
        if documents.template_of(updates) is not None and template_type != documents.template_of(document):
            change["template_type"] = template_type
            if document.get("templateType") is not None:
                # It comes before the other, and would go on counting.
                change["templateType"] = template_type
        if "parameters" in change or "template_type" in change:
            given = change.get("parameters", document.get("parameters"))
            change["parameters"] = self._checked(template_type, given)
        if "timeout_seconds" in change:
            change["timeout_seconds"] = _timeout(change["timeout_seconds"])
        if "notifications" in change:
            change["notifications"] = _notifications(change["notifications"])
        if "retry_policy" in change:
            change["retry_policy"] = _plain(change["retry_policy"]) or dict(RETRY)
        if isinstance(updates.get("nextRunAt"), datetime):
            change["nextRunAt"] = naive(updates["nextRunAt"])
        self._move(document, change, now)
        change["updatedAt"] = now
        return change

    @staticmethod
    def _move(document: Mapping[str, Any], change: dict[str, Any], now: datetime) -> None:
        """Sets the due time where it has to be another one."""
        try:
            before: dict[str, Any] | None = documents.schedule_of(document)
        except SchedulerError:
            before = None
        understood = before
        if "schedule" in change:
            change["schedule"], understood = documents.checked_schedule(change["schedule"])
            if understood != before:
                change["nextRunAt"] = documents.next_due(understood, now)
        enabled = change.get("enabled") is True and not documents.is_enabled(document)
        due = documents.due_of(document, now)
        if enabled and "nextRunAt" not in change and understood is not None and (due is None or due <= now):
            change["nextRunAt"] = documents.next_due(understood, now, due)

    async def get_jobs_ready_to_run(self) -> list[dict[str, Any]]:
        """Jobs that are due, the longest overdue first; at most a batch of them."""
        now = utcnow()
        condition = {
            "$or": [{"enabled": True}, {"enabled": None, "isEnabled": True}],
            "nextRunAt": {"$lte": now},
        }
        cursor = self.jobs_collection.find(condition).sort([("nextRunAt", 1), ("_id", 1)]).limit(BATCH)
        # To be run, not to be shown: the parameters stay exactly what they are.
        return [
            {**documents.shown_job(document, now), "parameters": document.get("parameters") or {}}
            for document in await _mongo.page(cursor, BATCH)
        ]

    async def update_job_after_execution(self, job_id: str, execution_result: Mapping[str, Any]) -> None:
        """Notes how an execution ended. The due time moves only where it has passed, along its grid; a job
        that was removed meanwhile stays so."""
        document = await self._find(job_id)
        if document is None:
            return
        now = to_millis(utcnow())
        change: dict[str, Any] = {
            "lastRunAt": now,
            "lastStatus": str(execution_result.get("status", "unknown")),
        }
        await self.jobs_collection.update_one({"_id": document["_id"]}, {"$set": change})
        due = naive(document.get("nextRunAt"))
        if due is None or due > now or not documents.is_enabled(document):
            return
        try:
            following = documents.next_due(documents.schedule_of(document), now, due)
        except SchedulerError:
            following = None
        await self.jobs_collection.update_one(
            {"_id": document["_id"], "nextRunAt": document["nextRunAt"]}, {"$set": {"nextRunAt": following}}
        )

    async def get_job_executions(
        self, job_id: str, limit: int = 50, status_filter: str | None = None
    ) -> list[dict[str, Any]]:
        """The executions of a job, the newest first."""
        for field, started in (("job_id", "started_at"), ("jobId", "startedAt")):
            condition: dict[str, Any] = {field: str(job_id)}
            if status_filter:
                condition["status"] = status_filter
            cursor = self.executions_collection.find(condition).sort([(started, -1), ("_id", -1)])
            found = await _mongo.page(cursor.limit(limit), limit)
            if found:
                return [documents.shown_execution(document) for document in found]
        return []

    async def _find(self, job_id: object) -> dict[str, Any] | None:
        key = _mongo.job_key(job_id)
        if key is None:
            return None
        found: dict[str, Any] | None = await self.jobs_collection.find_one(key)
        return found

    def _checked(self, template_type: str | None, parameters: Any) -> dict[str, Any]:
        """The parameters as the template wants them stored. Raises `ValueError`."""
        template = None if template_type is None else self.template_registry.get(template_type)
        if template is None:
            raise InvalidError(f"Template '{template_type}' not found")
        if parameters is not None and not isinstance(parameters, Mapping):
            raise InvalidError("Parameter validation failed: give an object")
        checked: dict[str, Any] = copy.deepcopy(dict(parameters or {}))
        refused = check(template, checked)
        if refused is not None:
            raise InvalidError(f"Parameter validation failed: {refused}")
        return checked


#: Fields of which `null` means that nothing was given.
_NAMED = frozenset(
    {
        "name",
        "description",
        "parameters",
        "schedule",
        "enabled",
        "timeout_seconds",
        "retry_policy",
        "notifications",
    }
)


def _timeout(value: Any) -> int:
    if value is None:
        return documents.DEFAULT_TIMEOUT
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= 86400:
        raise InvalidError(f"timeout_seconds: is {value!r}; give a number of seconds from 1 to 86400")
    return int(value)


def _plain(value: Any) -> dict[str, Any]:
    """A mapping, or a model of pydantic, as a dictionary."""
    dump = getattr(value, "model_dump", None)
    told = dump() if callable(dump) else value
    return dict(told) if isinstance(told, Mapping) else {}


def _notifications(value: Any) -> dict[str, Any]:
    told = _plain(value)
    return {
        "on_success": list(told.get("on_success") or []),
        "on_failure": list(told.get("on_failure") or []),
    }
