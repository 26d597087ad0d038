"""A double of the engine that is replaced: it polls, then runs what is due, one after another.

Nothing in it is atomic: what is due when it looks is run, and the next due time is written at the end. It
runs with the backend's own services (`l1`), its poll made short.
"""

import asyncio
import logging
import os
from datetime import datetime, timezone

from services.job_executor import JobExecutor
from services.job_registry import JobRegistryService

from database import get_database
from job_templates import samples

POLL = float(os.environ.get("OLD_POLL", "0.5"))


async def main():
    samples.register_all()
    db = get_database()
    print("polling", flush=True)
    while True:
        asked = datetime.now(timezone.utc)
        ready = await JobRegistryService(db).get_jobs_ready_to_run()
        if ready:
            # What it saw, for the tests.
            seen = [{"job_id": str(job["_id"]), "due": job["nextRunAt"], "at": asked} for job in ready]
            await db.witness_old.insert_many(seen)
        for job in ready:
            try:
                await JobExecutor(db).execute_job(job)
            except Exception:
                logging.exception("a job could not be run")
        await asyncio.sleep(POLL)


if __name__ == "__main__":
    asyncio.run(main())
