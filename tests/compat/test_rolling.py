"""The old engine and ours: beside each other while an update rolls, and one after the other, both ways."""

import re
import time

import pytest

from documents import begins, gaps, job, now
from running import Backend, OldEngine, wait_for


def begun_of_ours(db, key):
    """When our runs of a job began to work, by their due times."""
    found = {}
    ours = {"job_id": str(key), "status": "success", "scheduled_for": {"$ne": None}}
    for run in db.job_executions.find(ours):
        pid = int(re.search(r":(\d+)", run["execution_host"])[1])
        work = {"job_id": str(key), "event": "begin", "pid": pid, "at": {"$gte": run["started_at"]}}
        found[run["scheduled_for"]] = db.witness.find_one(work, sort=[("at", 1)])["at"]
    return found


@pytest.mark.crosswise
def test_the_old_engine_beside_ours_doubles_nothing_and_going_back_works(place):
    db = place.db
    keys = [
        db.dynamic_jobs.insert_one(
            job(f"{n}", seconds=5, due=7 + n * 0.3, parameters={"seconds": 1.5})
        ).inserted_id
        for n in range(4)
    ]
    with OldEngine(place) as old, Backend(place):
        wait_for(lambda: all(len(begins(db, key)) >= 3 for key in keys))
        hosts = {e["execution_host"] for e in db.job_executions.find({"job_id": {"$in": [*map(str, keys)]}})}
        assert len(hosts) >= 2
        old.stop()
        # Alone, ours goes on where both were.
        n = {key: len(begins(db, key)) for key in keys}
        wait_for(lambda: all(len(begins(db, key)) > n[key] for key in keys))
    for key in keys:
        ours = begun_of_ours(db, key)
        # A second run of the same due time would begin while the first, of one second and a half, still runs.
        assert all(gap > 1.5 for gap in gaps(sorted(ours.values()))), ours
        # The old engine sees no due time that ours has begun to work on: the claim has moved it.
        for seen in db.witness_old.find({"job_id": str(key)}):
            assert seen["due"] not in ours or ours[seen["due"]] > seen["at"], (seen, ours)
    stopped = now()
    before = {key: len(begins(db, key)) for key in keys}
    with OldEngine(place):
        wait_for(lambda: all(len(begins(db, key)) > before[key] for key in keys))
    for key in keys:
        again = [at for at in begins(db, key) if at > stopped]
        assert all(gap > 1.4 for gap in gaps(again)), again


def test_whatever_ours_has_touched_the_old_engine_runs_again(place):
    """Rule 3.5.10, for the schedules that it knows; also after ours has died in the midst of it."""
    db = place.db
    cron = {"type": "cron", "expression": "* * * * *", "interval_seconds": None, "timezone": "UTC"}
    jobs = [
        job("interval", seconds=4, due=7),
        job("cron", due=7, schedule=cron),
        job("long", seconds=6, due=7, parameters={"seconds": 30}),
        job("fails", seconds=4, due=7, template_type="fail"),
        job("off and on", seconds=4, due=7, enabled=False),
        job("no due time", seconds=4, nextRunAt=None),
    ]
    keys = dict(zip([j["name"] for j in jobs], db.dynamic_jobs.insert_many(jobs).inserted_ids, strict=True))
    with Backend(place, workers=2) as backend:
        if place.level == "l2":
            body = {"name": "made", "template_type": "work", "schedule": job(seconds=4)["schedule"]}
            made = backend.send("POST", "/api/admin/scheduler/jobs", body)["job"]["_id"]
            keys["made"] = made
        path = f"/api/admin/scheduler/jobs/{keys['off and on']}"
        backend.send("PUT", path, {"enabled": True})
        ran = [key for name, key in keys.items() if name != "cron"]
        wait_for(lambda: all(begins(db, key) for key in ran))
        backend.kill()
    before = {key: len(begins(db, key)) for key in keys.values()}
    killed = now()
    with OldEngine(place):
        # The cron job is due each minute.
        others = [key for name, key in keys.items() if name != "cron"]
        wait_for(lambda: all(len(begins(db, key)) > before[key] for key in others))
        assert db.dynamic_jobs.find_one({"_id": keys["cron"]})["nextRunAt"] is not None
        time.sleep(1)
    for name, key in keys.items():
        again = [at for at in begins(db, key) if at > killed]
        # At most one more than the schedule has: nobody else ran them.
        assert len(again) <= 1 + (now() - killed).total_seconds() / 4, name
