"""The sample backend on a real server, under uvicorn with four workers."""

import os
import signal
import socket
import time
from collections import Counter
from datetime import timedelta

from documents import begins, job, now, of_jobs
from looking import assert_whole, engine_of
from running import Backend, is_alive, wait_for

#: Shorter than the loop is blocked, and long enough for a machine that is held up for a while.
LEASE, BLOCK = 6, 9


def blocked(db, key):
    """From when until when, in its last run, a job had blocked the loop of its worker, and in which."""
    end = db.witness.find_one({"job_id": str(key), "event": "end"}, sort=[("at", -1)])
    return end["at"] - timedelta(seconds=BLOCK), end["at"], end["pid"]


def of_others_within(db, key):
    """The executions of stored jobs that began and ended in other workers while the loop was blocked."""
    since, until, pid = blocked(db, key)
    within = {"started_at": {"$gt": since}, "completed_at": {"$lt": until}, "status": "success"}
    return [e for e in of_jobs(db, **within) if not ran_in(e, pid)]


def ran_in(execution, pid):
    """Whether it was in this process."""
    return str(execution["execution_host"]).startswith(f"{socket.gethostname()}:{pid}")


def test_each_due_time_runs_once_whatever_else_runs(place):
    db = place.db
    quick = [job(f"quick {n}", due=3 + n / 10) for n in range(20)]
    keys = db.dynamic_jobs.insert_many(quick).inserted_ids
    # One that is slow, and one that blocks the loop for longer than a lease.
    slow = job("slow", parameters={"seconds": BLOCK}, seconds=3600, due=4.0)
    blocks = job("blocks", parameters={"seconds": BLOCK, "block": True}, seconds=3600, due=3600)
    slow, block = db.dynamic_jobs.insert_many([slow, blocks]).inserted_ids

    def ran(key, times):
        return db.witness.count_documents({"event": "end", "job_id": str(key)}) >= times

    with Backend(place, BACKEND_LEASE=str(LEASE)) as backend:
        assert len(backend.workers()) >= 4
        wait_for(lambda: all(ran(key, 1) for key in keys))
        n_blocks = 0
        # What a worker has taken at the very instant of its block waits; on a slow machine that may be all.
        while n_blocks == 0 or (n_blocks < 5 and len(of_others_within(db, block)) < 20):
            n_blocks += 1
            db.dynamic_jobs.update_one({"_id": block}, {"$set": {"nextRunAt": now()}})
            wait_for(lambda n=n_blocks: ran(block, n))
        others = of_others_within(db, block)
        assert len(others) >= 20, "nobody waited for the one that blocked its loop"
        wait_for(lambda: ran(slow, 1) and all(ran(key, 4) for key in keys))
        wait_for(lambda: db.witness_static.count_documents({}) >= 8)
        # Which worker answers does not matter: static jobs are the cluster's.
        assert [j["name"] for j in backend.get("/api/users/scheduler-jobs")["jobs"]] == ["heartbeat", "plain"]
        backend.stop()
    executions = of_jobs(db)
    # A machine that is held up finds a job still running when it is due again.
    statuses = Counter(e["status"] for e in executions)
    assert statuses.keys() <= {"success", "skipped"}, "no lease was lost"
    due = [(e["job_id"], e["scheduled_for"], e["attempt"]) for e in executions]
    assert len(set(due)) == len(due)
    for key in keys:
        mine = [e for e in executions if e["job_id"] == str(key) and e["status"] == "success"]
        assert len(begins(db, key)) == len(mine) >= 4
        steps = {(e["scheduled_for"] - mine[0]["scheduled_for"]).total_seconds() % 2 for e in mine}
        assert steps == {0.0}, "due times are on a grid"
        assert all(e["triggered_by"] == "scheduler" for e in mine)
    assert (len(begins(db, slow)), len(begins(db, block))) == (1, n_blocks)
    # One that blocks its loop is given no more: only one claim can have been under way.
    since, until, pid = blocked(db, block)
    taken = [e for e in executions if ran_in(e, pid) and e.get("started_at")]
    given = {e["started_at"] for e in taken if since + timedelta(seconds=0.5) < e["started_at"] < until}
    assert len(given) <= 1, given
    beats = list(db.job_executions.find({"job_id": "static:heartbeat", "status": "success"}))
    assert len({e["scheduled_for"] for e in beats}) == len(beats)
    assert db.witness_static.count_documents({}) == len(beats)
    assert_whole(place)
    found = db.dynamic_jobs.find_one({"_id": keys[0]})
    assert found["lastStatus"] == "success"
    one = next(e for e in executions if e["job_id"] == str(keys[0]) and e["status"] == "success")
    assert one["result"]["details"] == {"job": str(keys[0]), "names": ["a"]}
    assert [line["level"].lower() for line in one["logs"]] == ["info", "info", "info"]
    assert isinstance(one["duration_seconds"], float)


def test_a_killed_worker_leaves_nothing_running_and_loses_nothing(place):
    db = place.db
    key = db.dynamic_jobs.insert_one(job("long", seconds=6, parameters={"seconds": 4})).inserted_id
    db.dynamic_jobs.insert_many([job(f"quick {n}", seconds=1) for n in range(5)])
    with Backend(place, BACKEND_LEASE="4") as backend:
        first = wait_for(lambda: db.witness.find_one({"event": "begin", "job_id": str(key)}))
        assert first["pid"] in backend.workers()
        os.kill(first["pid"], signal.SIGKILL)
        wait_for(lambda: db.job_executions.find_one({"job_id": str(key), "status": "lost"}))
        # And then it runs again, when it is due.
        wait_for(lambda: db.witness.find_one({"event": "end", "job_id": str(key)}))
        # uvicorn has put another worker in its place.
        wait_for(lambda: len(backend.workers()) >= 4 and first["pid"] not in backend.workers())
    began = {"job_id": str(key), "started_at": {"$ne": None}}
    died = db.job_executions.find_one(began, sort=[("started_at", 1)])
    assert (died["status"], died["attempt"], died["failure_kind"]) == ("lost", 1, "lost")
    assert died["completed_at"] is not None
    assert_whole(place)


def test_all_killed_at_once_the_next_start_ends_what_was_left(place):
    db = place.db
    key = db.dynamic_jobs.insert_one(job("long", seconds=3600, parameters={"seconds": 600})).inserted_id
    with Backend(place, workers=2, BACKEND_LEASE="4") as backend:
        wait_for(lambda: db.witness.find_one({"event": "begin"}))
        pids = backend.workers()
        backend.kill()
        wait_for(lambda: not any(map(is_alive, pids)))
    assert db.job_executions.count_documents({"job_id": str(key), "status": "running"}) == 1
    with Backend(place, workers=2, BACKEND_LEASE="4"):
        wait_for(lambda: db.job_executions.find_one({"job_id": str(key), "status": "lost"}))
    assert len(begins(db, key)) == 1
    assert_whole(place)


def test_a_stop_interrupts_what_does_not_end_and_needs_no_patience_beyond_its_grace(place):
    db = place.db
    key = db.dynamic_jobs.insert_one(job("long", seconds=3600, parameters={"seconds": 600})).inserted_id
    with Backend(place, workers=2, BACKEND_GRACE="1") as backend:
        wait_for(lambda: db.witness.find_one({"event": "begin"}))
        backend.stop()
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
        wait_for(lambda: db.witness.count_documents({"event": "begin"}) == 2)
        static = "/api/users/scheduler-jobs"
        backend.send("POST", f"{static}/heartbeat/disable")
        # Every worker learns of it.
        wait_for(lambda: not any(backend.get(static)["jobs"][0]["enabled"] for _ in range(6)))
        with engine_of(place) as engine:
            wait_for(lambda: not engine.get_job("static:heartbeat").enabled)
            wait_for(lambda: not engine.runs("static:heartbeat", status=("pending", "running")))
        n = db.witness_static.count_documents({})
        time.sleep(2.5)
        assert db.witness_static.count_documents({}) == n
        backend.send("POST", f"{static}/heartbeat/enable")
        wait_for(lambda: db.witness_static.count_documents({}) > n)
        n = db.witness_static.count_documents({})
        backend.send("POST", f"{static}/heartbeat/interval?interval=3600")
        backend.send("POST", f"{static}/heartbeat/run")
        wait_for(lambda: db.witness_static.count_documents({}) > n)
