"""An app with jobs: `python examples/fastapi_app/main.py`, then http://127.0.0.1:8000/docs.

Needs `pip install unified-scheduler[fastapi] uvicorn`. Jobs and their history are in `jobs.db`; start it
twice (with another PORT) and both processes share the work.
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from typing import Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from unified_scheduler import (
    Context,
    Cron,
    Every,
    InvalidError,
    NotFoundError,
    Result,
    Retry,
    RetryLater,
    Scheduler,
)
from unified_scheduler.fastapi import SchedulerDep, lifespan

scheduler = Scheduler(os.environ.get("STORE", "sqlite://jobs.db"), timezone="Europe/Berlin")
app = FastAPI(title="An app with jobs", lifespan=lifespan(scheduler))


@scheduler.job(Every(seconds=10), timeout="1m")
async def refresh_prices(ctx: Context) -> Result:
    """Runs on the event loop of the app."""
    ctx.info("asking for prices", due_at=ctx.due_at)
    for done in range(1, 4):
        await asyncio.sleep(0.1)
        ctx.progress(done, 3)
    return Result("3 prices", records_processed=3)


@scheduler.job(Cron("0 3 * * *"), retry=Retry(3, "1m", backoff="exponential"))
def nightly_report() -> str:
    """A plain function: runs in a thread."""
    return "written"


class Mail(BaseModel):
    """What the template `mail` wants to know."""

    to: str
    subject: str = "Hello"


@scheduler.template("mail", parameters=Mail, category="communication", icon="✉️")
async def mail(ctx: Context, parameters: Mail) -> str:
    """Sends a mail, or would."""
    if parameters.to.endswith("@busy.example") and ctx.attempt < 3:
        raise RetryLater(timedelta(seconds=5), "the server is busy")
    return f"sent to {parameters.to}"


@app.get("/jobs")
async def jobs(scheduler: SchedulerDep) -> list[dict[str, Any]]:
    """Every job, and when it is due next."""
    return [{"id": job.id, "name": job.name, "next": job.next_run_time} for job in await scheduler.jobs()]


@app.post("/jobs/mail")
async def new_mail_job(name: str, schedule: str, mail: Mail, scheduler: SchedulerDep) -> str:
    """Makes a job at run time: `schedule` is a cron expression, or a text such as `every 2 hours`."""
    try:
        job = await scheduler.create_job(name, "mail", schedule, parameters=mail.model_dump())
    except InvalidError as error:
        raise HTTPException(422, str(error)) from None
    return job.id


@app.post("/jobs/{job}/run")
async def run_now(job: str, scheduler: SchedulerDep) -> str:
    """Runs a job now; its schedule stays as it is."""
    try:
        return (await scheduler.trigger(job)).id
    except NotFoundError as error:
        raise HTTPException(404, str(error)) from None


@app.get("/jobs/{job}/why")
async def why(job: str, scheduler: SchedulerDep) -> dict[str, Any]:
    """Why it did or did not run, and when it will next."""
    answer = await scheduler.explain(job)
    return {"will_run": answer.will_run, "why": [reason.text for reason in answer.reasons]}


@app.get("/runs")
async def runs(scheduler: SchedulerDep, job: str | None = None) -> list[dict[str, Any]]:
    """The last runs."""
    return [
        {"job": run.job_name, "due": run.due_at, "status": run.status, "message": run.message}
        for run in await scheduler.runs(job, limit=20)
    ]


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
