"""The backend's custom templates."""

import asyncio
import os
import time
from datetime import datetime, timezone

from bson import ObjectId
from job_templates.base import JobExecutionContext, JobResult, JobTemplate
from job_templates.registry import get_template_registry


async def witness(context, event):
    """Says in the database what happened, beside all records of the scheduler."""
    await context.db["witness"].insert_one(
        {
            "job_id": context.job_id,
            "event": event,
            "pid": os.getpid(),
            "at": datetime.now(timezone.utc),
            "triggered_by": context.triggered_by,
            "parameter": context.parameters.get("triggered_by"),
        }
    )


class Work(JobTemplate):
    """Takes some seconds; its schema is flat."""

    template_type = "work"
    template_name = "Work"
    category = "tests"

    def __init__(self):
        self.started = 0

    def get_schema(self):
        return {
            "seconds": {"type": "number", "label": "Seconds", "min": 0, "default": 0},
            "block": {"type": "boolean", "label": "On the loop", "default": False},
        }

    def validate_params(self, params):
        if params.get("seconds", 0) < 0:
            return False, "seconds must not be negative"
        params.setdefault("seconds", 0)
        return True, None

    async def execute(self, context: JobExecutionContext) -> JobResult:
        self.started += 1
        context.log("INFO", "begins", n=self.started)
        await witness(context, "begin")
        seconds = context.parameters.get("seconds", 0)
        if context.parameters.get("block"):
            time.sleep(seconds)
        else:
            await asyncio.sleep(seconds)
        await witness(context, "end")
        job = await context.db.dynamic_jobs.find_one({"_id": ObjectId(context.job_id)})
        return JobResult(
            status="success",
            message="worked",
            details={"job": job["_id"] if job else None, "names": {"a"}},
            records_processed=1,
            errors=None,
        )


class Fail(JobTemplate):
    """Fails; its schema is a JSON Schema."""

    template_type = "fail"
    template_name = "Fail"

    def get_schema(self):
        return {"type": "object", "properties": {"why": {"type": "string"}}, "required": []}

    def validate_params(self, params):
        return True, None

    async def execute(self, context):
        await witness(context, "begin")
        raise RuntimeError(context.parameters.get("why", "it fails"))


class FailSafe(Fail):
    """Fails, and says that it may be tried again."""

    template_type = "fail_safe"
    template_name = "Fail safely"
    retry_safe = True


def register_all():
    """Registers them all."""
    registry = get_template_registry()
    for template in (Work(), Fail(), FailSafe()):
        registry.register(template)
