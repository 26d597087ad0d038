"""The application: a lifespan, and routes over the backend's services."""

import asyncio
import os
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from services.job_executor import JobExecutor
from services.job_registry import JobRegistryService

from database import get_database
from job_templates import samples
from unified_scheduler import (
    get_unified_scheduler,
    initialize_unified_scheduler,
    shutdown_unified_scheduler,
)


@asynccontextmanager
async def lifespan(app):
    """Starts the scheduler with the application, and stops it with it."""
    samples.register_all()
    await initialize_unified_scheduler(get_database())
    yield
    await shutdown_unified_scheduler()


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    scheduler = get_unified_scheduler()
    return {
        "pid": os.getpid(),
        "running": scheduler.is_running,
        "engine": scheduler.engine is not None,
        "loop": type(asyncio.get_running_loop()).__module__,
    }


@app.get("/nodes")
async def nodes():
    engine = get_unified_scheduler().engine
    found = [] if engine is None else await engine.nodes()
    return {"alive": sum(not node["dead"] for node in found), "nodes": found}


@app.post("/api/admin/scheduler/jobs")
async def create_job(body: dict):
    try:
        job = await JobRegistryService(get_database()).create_job(body, "admin")
    except ValueError as error:
        raise HTTPException(400, str(error)) from error
    return {"success": True, "message": f"Job '{job['name']}' created successfully", "job": job}


@app.get("/api/admin/scheduler/jobs")
async def list_jobs(page: int = 1, limit: int = 20):
    return await JobRegistryService(get_database()).list_jobs(skip=(page - 1) * limit, limit=limit)


@app.put("/api/admin/scheduler/jobs/{job_id}")
async def update_job(job_id: str, body: dict):
    job = await JobRegistryService(get_database()).update_job(job_id, body)
    if job is None:
        raise HTTPException(404, "Job not found")
    return {"success": True, "job": job}


@app.post("/api/admin/scheduler/jobs/{job_id}/run")
async def run_job(job_id: str):
    execution = await JobExecutor(get_database()).execute_job_by_id(job_id, triggered_by="manual:admin")
    if execution is None:
        raise HTTPException(404, "Job not found or disabled")
    return {"success": True, "message": "Job execution started", "execution": execution}


@app.get("/api/users/scheduler-jobs")
async def static_jobs():
    return {"jobs": get_unified_scheduler().get_job_status()}


@app.post("/api/users/scheduler-jobs/{name}/{verb}")
async def change_static_job(name: str, verb: str, interval: float = 1.0):
    scheduler = get_unified_scheduler()
    if verb == "enable":
        scheduler.enable_job(name)
    elif verb == "disable":
        scheduler.disable_job(name)
    elif verb == "interval":
        scheduler.jobs[name].interval_seconds = interval
    elif verb == "run":
        # As the existing backend does it; nobody keeps the task.
        asyncio.create_task(scheduler.run_job(scheduler.jobs[name]))  # noqa: RUF006
    return {"success": True}
