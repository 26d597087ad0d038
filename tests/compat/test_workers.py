"""The sample backend on a real server, under uvicorn with four workers."""

import os
import signal
import time
from collections import Counter

from documents import begins, gaps, job, of_jobs
from looking import assert_whole
from running import Backend, is_alive, wait_for


def late(executions):
    """How late they began, the latest last."""
    return sorted((e["started_at"] - e["scheduled_for"]).total_seconds() for e in executions)


def test_each_due_time_runs_once_whatever_else_runs(place):
    db = place.db
    keys = db.dynamic_jobs.insert_many([job(f"quick {n}", due=6.0) for n in range(20)]).inserted_ids
    # One that is slow, and one that blocks the loop for longer than a lease.
    slow = job("slow", parameters={"seconds": 9}, seconds=3600, due=6.0)
    blocks = job("blocks", parameters={"seconds": 6, "block": True}, seconds=3600, due=6.5)
    slow, block = db.dynamic_jobs.insert_many([slow, blocks]).inserted_ids
    with Backend(place, BACKEND_LEASE="3") as backend:
        assert len(backend.workers()) >= 4
        wait_for(lambda: db.witness.count_documents({"event": "end", "job_id": str(slow)}))
        # Which worker answers does not matter: static jobs are the cluster's.
        assert [j["name"] for j in backend.get("/api/users/scheduler-jobs")["jobs"]] == ["heartbeat", "plain"]
        assert backend.stop() < 14
    executions = of_jobs(db)
    assert Counter(e["status"] for e in executions).keys() == {"success"}, "no lease was lost"
    due = [(e["job_id"], e["scheduled_for"], e["attempt"]) for e in executions]
    assert len(set(due)) == len(due)
    for key in keys:
        mine = [e for e in executions if e["job_id"] == str(key)]
        assert len(begins(db, key)) == len(mine) >= 4
        steps = {(e["scheduled_for"] - mine[0]["scheduled_for"]).total_seconds() % 2 for e in mine}
        assert steps == {0.0}, "due times are on a grid"
        assert all(e["triggered_by"] == "scheduler" for e in mine)
    assert len(begins(db, slow)) == len(begins(db, block)) == 1
    times = late(executions)
    print("late:", times[len(times) // 2], times[-5:])
    assert times[len(times) // 2] < 0.5
    assert times[-1] < 2.0, "nobody waited for the one that blocked its loop"
    beats = [document["at"] for document in db.witness_static.find({}).sort("at", 1)]
    assert len(beats) >= 8
    assert sum(gap < 0.4 for gap in gaps(beats)) <= 1, gaps(beats)
    assert_whole(place)
    found = db.dynamic_jobs.find_one({"_id": keys[0]})
    assert found["lastStatus"] == "success"
    one = next(e for e in executions if e["job_id"] == str(keys[0]))
    assert one["result"]["details"] == {"job": str(keys[0]), "names": ["a"]}
    assert [line["level"].lower() for line in one["logs"]] == ["info", "info", "info"]
    assert isinstance(one["duration_seconds"], float)


def test_a_killed_worker_leaves_nothing_running_and_loses_nothing(place):
    db = place.db
    key = db.dynamic_jobs.insert_one(job("long", seconds=6, parameters={"seconds": 4})).inserted_id
    db.dynamic_jobs.insert_many([job(f"quick {n}", seconds=1) for n in range(5)])
    with Backend(place, BACKEND_LEASE="3") as backend:
        first = wait_for(lambda: db.witness.find_one({"event": "begin", "job_id": str(key)}))
        assert first["pid"] in backend.workers()
        os.kill(first["pid"], signal.SIGKILL)
        wait_for(lambda: db.job_executions.find_one({"job_id": str(key), "status": "lost"}), 10)
        # And then it runs again, when it is due.
        wait_for(lambda: db.witness.find_one({"event": "end", "job_id": str(key)}), 40)
        # uvicorn has put another worker in its place.
        wait_for(lambda: len(backend.workers()) >= 4 and first["pid"] not in backend.workers())
    died = db.job_executions.find_one({"job_id": str(key)}, sort=[("started_at", 1)])
    assert (died["status"], died["attempt"], died["failure_kind"]) == ("lost", 1, "lost")
    assert died["completed_at"] is not None
    assert_whole(place)


def test_all_killed_at_once_the_next_start_ends_what_was_left(place):
    db = place.db
    key = db.dynamic_jobs.insert_one(job("long", seconds=3600, parameters={"seconds": 60})).inserted_id
    with Backend(place, workers=2, BACKEND_LEASE="2") as backend:
        wait_for(lambda: db.witness.find_one({"event": "begin"}))
        pids = backend.workers()
        backend.kill()
        wait_for(lambda: not any(map(is_alive, pids)))
    assert db.job_executions.count_documents({"job_id": str(key), "status": "running"}) == 1
    with Backend(place, workers=2, BACKEND_LEASE="2"):
        wait_for(lambda: db.job_executions.find_one({"job_id": str(key), "status": "lost"}))
    assert len(begins(db, key)) == 1
    assert_whole(place)


def test_a_stop_interrupts_what_does_not_end_and_needs_no_patience_beyond_its_grace(place):
    db = place.db
    key = db.dynamic_jobs.insert_one(job("long", seconds=3600, parameters={"seconds": 60})).inserted_id
    with Backend(place, workers=2, BACKEND_GRACE="1") as backend:
        wait_for(lambda: db.witness.find_one({"event": "begin"}))
        assert backend.stop() < 8
    (execution,) = of_jobs(db, job_id=str(key))
    assert (execution["status"], execution["failure_kind"]) == ("failed", "interrupted")
    assert "stopped" in execution["error"]
    assert_whole(place)


def test_a_manual_run_and_an_edit_go_through_the_backends_own_routes(place):
    db = place.db
    with Backend(place, workers=2) as backend:
        made = backend.send(
            "POST",
            "/api/admin/scheduler/jobs",
            {
                "name": "made",
                "template_type": "work",
                "parameters": {},
                "schedule": {"type": "interval", "interval_seconds": 3600},
            },
        )["job"]
        path = f"/api/admin/scheduler/jobs/{made['_id']}"
        before = db.dynamic_jobs.find_one({})
        run = backend.send("POST", f"{path}/run")["execution"]
        assert run["status"] == "success"
        assert run["triggered_by"] == "manual:admin"
        after = db.dynamic_jobs.find_one({})
        if place.level == "l2":
            assert after["nextRunAt"] == before["nextRunAt"]
        assert db.witness.find_one({})["parameter"] == "manual:admin"
        db.dynamic_jobs.update_one({}, {"$set": {"nextRunAt": job(due=2)["nextRunAt"]}})
        # The edit of another writer is noticed within the poll interval.
        wait_for(lambda: db.witness.count_documents({"event": "begin"}) == 2, 10)
        static = "/api/users/scheduler-jobs"
        backend.send("POST", f"{static}/heartbeat/disable")
        # Every worker learns of it.
        wait_for(lambda: not any(backend.get(static)["jobs"][0]["enabled"] for _ in range(6)), 10)
        time.sleep(0.5)
        n = db.witness_static.count_documents({})
        time.sleep(2.5)
        assert db.witness_static.count_documents({}) == n
        backend.send("POST", f"{static}/heartbeat/enable")
        wait_for(lambda: db.witness_static.count_documents({}) > n, 10)
        n = db.witness_static.count_documents({})
        backend.send("POST", f"{static}/heartbeat/interval?interval=3600")
        backend.send("POST", f"{static}/heartbeat/run")
        wait_for(lambda: db.witness_static.count_documents({}) > n, 10)
