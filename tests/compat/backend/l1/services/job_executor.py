"""The backend's own executor."""

import asyncio
from datetime import datetime

from bson import ObjectId
from job_templates.base import JobExecutionContext, JobResult
from job_templates.registry import get_template_registry
from services.job_registry import JobRegistryService


class JobExecutor:
    def __init__(self, db):
        self.db = db
        self.executions_collection = db.job_executions
        self.template_registry = get_template_registry()

    async def execute_job(self, job, triggered_by="scheduler"):
        kind = job.get("templateType") or job.get("template_type")
        template = self.template_registry.get(kind)
        started = datetime.utcnow()
        execution = {
            "job_id": str(job["_id"]),
            "job_name": job.get("name"),
            "template_type": kind,
            "status": "running",
            "started_at": started,
            "completed_at": None,
            "duration_seconds": None,
            "triggered_by": triggered_by,
            "result": {},
            "error": None,
            "logs": [],
            "execution_host": "server-01",
        }
        key = (await self.executions_collection.insert_one(execution)).inserted_id
        parameters = {**job.get("parameters", {}), "triggered_by": triggered_by}
        context = JobExecutionContext(
            str(job["_id"]), job["name"], parameters, self.db, triggered_by, str(key)
        )
        try:
            if template is None:
                raise ValueError(f"Template '{kind}' not found")
            await template.pre_execute(context)
            result = await asyncio.wait_for(template.execute(context), job.get("timeout_seconds", 3600))
            await template.post_execute(context, result)
        except asyncio.TimeoutError:
            result = JobResult("timeout", "timed out")
        except Exception as error:
            result = JobResult("failed", str(error), errors=[str(error)])
        ended = datetime.utcnow()
        change = {
            "status": result.status,
            "completed_at": ended,
            "duration_seconds": (ended - started).total_seconds(),
            "result": {"status": result.status, "message": result.message},
            "error": (result.errors or [None])[0],
        }
        await self.executions_collection.update_one({"_id": key}, {"$set": change})
        await JobRegistryService(self.db).update_job_after_execution(str(job["_id"]), change)
        return {**execution, **change, "_id": str(key)}

    async def execute_job_by_id(self, job_id, triggered_by="manual"):
        job = await self.db.dynamic_jobs.find_one({"_id": ObjectId(job_id)})
        if job is None or not job.get("enabled", True):
            return None
        return await self.execute_job(job, triggered_by)
