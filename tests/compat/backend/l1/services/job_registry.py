"""The backend's own service: what it needs of one, after the contract."""

from datetime import datetime, timedelta

from bson import ObjectId
from croniter import croniter
from job_templates.registry import get_template_registry


def next_run(schedule, now):
    if schedule.get("type") == "cron":
        return croniter(schedule["expression"], now).get_next(datetime)
    return now + timedelta(seconds=schedule.get("interval_seconds") or 3600)


def shown(job):
    return {**job, "_id": str(job["_id"])}


class JobRegistryService:
    def __init__(self, db):
        self.db = db
        self.jobs_collection = db.dynamic_jobs

    async def create_job(self, job_definition, created_by):
        template = get_template_registry().get(job_definition["template_type"])
        if template is None:
            raise ValueError(f"Template '{job_definition['template_type']}' not found")
        ok, message = template.validate_params(job_definition.setdefault("parameters", {}))
        if not ok:
            raise ValueError(f"Parameter validation failed: {message}")
        now = datetime.utcnow()
        job = {
            "name": job_definition["name"],
            "description": "",
            "template_type": job_definition["template_type"],
            "parameters": job_definition["parameters"],
            "schedule": job_definition["schedule"],
            "enabled": job_definition.get("enabled", True),
            "timeout_seconds": job_definition.get("timeout_seconds", 3600),
            "retry_policy": {"max_retries": 3, "retry_delay_seconds": 300},
            "notifications": {"on_success": [], "on_failure": []},
            "created_by": created_by,
            "createdAt": now,
            "updatedAt": now,
            "lastRunAt": None,
            "nextRunAt": next_run(job_definition["schedule"], now),
            "lastStatus": None,
            "version": 1,
        }
        await self.jobs_collection.insert_one(job)
        return shown(job)

    async def list_jobs(self, filters=None, skip=0, limit=50):
        jobs = await self.jobs_collection.find({}).skip(skip).limit(limit).to_list(limit)
        return {"jobs": [shown(job) for job in jobs], "total": await self.jobs_collection.count_documents({})}

    async def update_job(self, job_id, updates):
        updates["updatedAt"] = datetime.utcnow()
        await self.jobs_collection.update_one({"_id": ObjectId(job_id)}, {"$set": updates})
        return shown(await self.jobs_collection.find_one({"_id": ObjectId(job_id)}))

    async def get_jobs_ready_to_run(self):
        condition = {"enabled": True, "nextRunAt": {"$lte": datetime.utcnow()}}
        return await self.jobs_collection.find(condition).to_list(None)

    async def update_job_after_execution(self, job_id, execution_result):
        job = await self.jobs_collection.find_one({"_id": ObjectId(job_id)})
        schedule = job.get("schedule") or {}
        now = datetime.utcnow()
        change = {
            "lastRunAt": now,
            "lastStatus": execution_result["status"],
            "nextRunAt": next_run(schedule, now),
        }
        await self.jobs_collection.update_one({"_id": job["_id"]}, {"$set": change})
