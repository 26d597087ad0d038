"""Brings the templates of a registry into an engine, which then runs the stored jobs that use them.

The registry is looked at again and again, because templates may be registered at any time, also by a module
that is loaded long after the start.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from .._engine import Context
from ..scheduler import Scheduler
from . import _mongo
from ._ids import object_id_of
from ._outcome import record
from ._pipeline import Pipeline
from ._schema import verdict
from ._times import naive
from .context import JobExecutionContext
from .registry import find_registry, metadata_of, templates_of

logger = logging.getLogger("unified_scheduler")

_METADATA = (
    "type",
    "name",
    "description",
    "category",
    "icon",
    "estimated_duration",
    "resource_usage",
    "risk_level",
)


class TemplateTarget:
    """A template as the engine calls it."""

    kind = "loop"
    checks = True

    def __init__(self, template: Any, template_type: str, db: Any, documents: bool) -> None:
        self.template = template
        self._type = template_type
        self._db = db
        #: Whether executions and jobs are documents that `db` reaches.
        self._documents = documents
        told = metadata_of(template)
        #: For the engine: it does not hold parameters against a schema. The template has the last word.
        self.metadata: dict[str, Any] = {
            **{key: str(told[key]) for key in _METADATA},
            "type": template_type,
            "parameters_schema": {},
            "retry_safe": bool(getattr(template, "retry_safe", False)),
        }

    def check(self, parameters: dict[str, Any]) -> list[tuple[str, str]]:
        """What is wrong with parameters; the template may mend them in place."""
        refused = verdict(self.template, parameters)
        return [] if refused is None else [("", refused)]

    async def run(self, ctx: Context) -> Any:
        """Runs it once, with the hooks around it."""
        context = await self._context(ctx)
        pipeline = Pipeline(
            self.template,
            self._type,
            context,
            stopping=lambda: ctx.cancelled,
            measured=ctx.measured,
        )
        result = await pipeline.run()
        return record(result, pipeline.error)

    async def _context(self, ctx: Context) -> JobExecutionContext:
        given = json.loads(ctx.execution_json()).get("parameters")
        parameters: dict[str, Any] = ctx.parameters
        if given is None and self._documents and _mongo.has_types(parameters):
            parameters = await _mongo.parameters_of(self._db, ctx.job_id) or parameters
        triggered_by = ctx.triggered_by
        if given is not None:
            triggered_by = str(parameters.get("triggered_by", triggered_by))
        parameters["triggered_by"] = triggered_by
        execution_id = ctx.execution_id
        return JobExecutionContext(
            job_id=ctx.job_id,
            job_name=ctx.job_name,
            parameters=parameters,
            db=self._db,
            triggered_by=triggered_by,
            execution_id=object_id_of(execution_id) if self._documents else execution_id,
            last_run_at=naive(ctx.last_run_at),
            scheduled_for=naive(ctx.due_at),
            attempt=ctx.attempt,
            sink=ctx.log,
        )


class Templates:
    """The templates of one registry in one engine."""

    def __init__(self, scheduler: Scheduler, db: Any, registry: Any, *, documents: bool) -> None:
        self._scheduler = scheduler
        self._db = db
        self._explicit = registry
        #: Whether jobs and executions are documents that `db` reaches.
        self.documents = documents
        self._entered: dict[str, Any] = {}
        self._refused: dict[str, Any] = {}

    @property
    def registry(self) -> Any:
        """The registry that counts now."""
        return find_registry(self._explicit)

    @property
    def n(self) -> int:
        """How many templates there are."""
        return len(self._entered)

    def sync(self) -> None:
        """Enters what is new, and takes away what has gone."""
        try:
            found = templates_of(self.registry)
        except Exception:
            logger.exception("the registry of templates can't be read")
            return
        for kind, template in found.items():
            if self._entered.get(kind) is template or self._refused.get(kind) is template:
                continue
            try:
                target = TemplateTarget(template, kind, self._db, self.documents)
                self._scheduler.core.set_target(kind, target, target.metadata)
            except Exception as error:
                logger.error("the template '%s' can't be used: %s", kind, error)
                self._refused[kind] = template
                continue
            self._entered[kind] = template
        for kind in [kind for kind in self._entered if kind not in found]:
            del self._entered[kind]
            self._scheduler.unregister(kind)
