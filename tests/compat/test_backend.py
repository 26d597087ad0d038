"""The sample backend with this package, on a real server, under uvicorn with four workers."""

import os
import signal
import time
from datetime import datetime, timedelta, timezone

import pytest
from running import Backend, OldEngine, wait_for

levels = pytest.mark.parametrize("level", ["l1", "l2"])


def now():
    """As documents have it."""
    value = datetime.now(timezone.utc).replace(tzinfo=None)
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


def job(name="a", seconds=2, due=3.0, **fields):
    """A document as the existing backend writes it."""
    return {
        "name": name,
        "description": "",
        "template_type": "work",
        "parameters": {"seconds": 0},
        "schedule": {
            "type": "interval",
            "interval_seconds": seconds,
            "expression": "0 * * * *",
            "timezone": "UTC",
        },
        "enabled": True,
        "timeout_seconds": 60,
        "retry_policy": {"max_retries": 3, "retry_delay_seconds": 300},
        "notifications": {"on_success": [], "on_failure": []},
        "created_by": "alice",
        "createdAt": now(),
        "updatedAt": now(),
        "lastRunAt": None,
        "nextRunAt": now() + timedelta(seconds=due),
        "lastStatus": None,
        "version": 1,
        **fields,
    }


def begins(db, key):
    """When the job began to work, by its own witness."""
    found = db.witness.find({"job_id": str(key), "event": "begin"}).sort("at", 1)
    return [document["at"] for document in found]


def gaps(times):
    return [(b - a).total_seconds() for a, b in zip(times, times[1:], strict=False)]


@levels
def test_each_due_time_runs_once_whatever_else_runs(mongodb_url, db, level):
    keys = db.dynamic_jobs.insert_many([job(f"quick {n}") for n in range(20)]).inserted_ids
    slow = db.dynamic_jobs.insert_one(job("slow", parameters={"seconds": 7}, seconds=3600)).inserted_id
    blocks = job("blocks", parameters={"seconds": 3, "block": True}, seconds=3600, due=4.0)
    block = db.dynamic_jobs.insert_one(blocks).inserted_id
    with Backend(mongodb_url, db.name, level) as backend:
        assert len(backend.workers()) >= 4
        time.sleep(14)
        # Which worker answers does not matter: static jobs are the cluster's.
        assert [j["name"] for j in backend.get("/api/users/scheduler-jobs")["jobs"]] == ["heartbeat", "plain"]
        assert backend.stop() < 14
    executions = list(db.job_executions.find({}))
    assert {e["status"] for e in executions} <= {"success", "failed", "skipped"}
    dynamic = [e for e in executions if not e["job_id"].startswith("static:")]
    skipped = [e for e in dynamic if e["status"] == "skipped"]
    assert all(e["failure_kind"] for e in skipped)
    print("skipped:", [(e["job_name"], e["failure_kind"]) for e in skipped])
    due = [(e["job_id"], e["scheduled_for"], e["attempt"]) for e in dynamic]
    assert len(set(due)) == len(due)
    dynamic = [e for e in dynamic if e["status"] != "skipped"]
    for key in keys:
        times = begins(db, key)
        assert len(times) >= 3
        mine = [e for e in dynamic if e["job_id"] == str(key)]
        assert len(times) == len(mine)
        steps = {(e["scheduled_for"] - mine[0]["scheduled_for"]).total_seconds() % 2 for e in mine}
        assert steps == {0.0}, "due times are on a grid"
        assert all(e["triggered_by"] == "scheduler" for e in mine)
    assert len(begins(db, slow)) == 1
    assert len(begins(db, block)) == 1
    late = sorted((e["started_at"] - e["scheduled_for"]).total_seconds() for e in dynamic)
    print("late:", late[len(late) // 2], late[-5:])
    assert late[len(late) // 2] < 0.5, late
    beats = [document["at"] for document in db.witness_static.find({}).sort("at", 1)]
    assert len(beats) >= 8
    assert sum(gap < 0.4 for gap in gaps(beats)) <= 1, gaps(beats)
    found = db.dynamic_jobs.find_one({"_id": keys[0]})
    assert found["lastStatus"] == "success"
    one = next(e for e in dynamic if e["job_id"] == str(keys[0]))
    assert one["result"]["details"] == {"job": str(keys[0]), "names": ["a"]}
    assert [line["level"].lower() for line in one["logs"]] == ["info", "info", "info"]
    assert isinstance(one["duration_seconds"], float)


@levels
def test_documents_in_every_form_are_read_and_none_of_their_fields_changes(mongodb_url, db, level):
    past, soon = now() - timedelta(days=90), now() + timedelta(seconds=4)
    extra = {"tags": ["x"], "priority": 3, "runCount": 7, "odd": {"a": [1, {"b": None}]}}
    base = {"parameters": {"seconds": 0}, "enabled": True, **extra}
    four = {"type": "interval", "interval_seconds": 3600, "expression": None, "timezone": "UTC"}
    runs = {
        "camel": {**base, "templateType": "work", "template_type": "nothing", "schedule": four, "nextRunAt": soon},
        "short": {**base, "template": "work", "schedule": four, "nextRunAt": soon},
        "hint to come": {**base, "template_type": "work", "schedule": four, "next_run_at": soon},
        "text": {**base, "template_type": "work", "schedule": four, "nextRunAt": soon.isoformat() + "Z"},
        "overdue": {**base, "template_type": "work", "schedule": four, "nextRunAt": past},
        "flag": {**base, "enabled": None, "isEnabled": True, "template_type": "work", "schedule": four,
                 "nextRunAt": soon},
        "no parameters": {"enabled": True, "template_type": "work", "schedule": four, "nextRunAt": soon},
        "flat": {**base, "template_type": "work", "scheduleType": "interval", "intervalSeconds": 3600,
                 "nextRunAt": soon},
        "string": {**base, "template_type": "work", "schedule": "0 3 * * *", "nextRunAt": soon},
        "value": {**base, "template_type": "work", "schedule": {"type": "cron", "value": "0 3 * * *"},
                  "nextRunAt": soon},
        "null": {**base, "template_type": "work", "schedule": {"type": "interval", "interval_seconds": None},
                 "nextRunAt": soon},
    }  # fmt: skip
    rests = {
        "hint of the past": {**base, "template_type": "work", "schedule": four, "next_run_at": past},
        "no due time": {**base, "template_type": "work", "schedule": four},
        "off": {**base, "template_type": "work", "schedule": four, "enabled": False, "nextRunAt": past},
        "says nothing": {"template_type": "work", "schedule": four, "nextRunAt": past},
        "bad cron": {**base, "template_type": "work", "schedule": {"type": "cron", "expression": "x"},
                     "nextRunAt": past},
        "bad zone": {**base, "template_type": "work", "nextRunAt": past,
                     "schedule": {"type": "cron", "expression": "0 3 * * *", "timezone": "Mars/Base"}},
        "no template": {**base, "schedule": four, "nextRunAt": past},
        "zero": {**base, "template_type": "work", "schedule": {"type": "interval", "interval_seconds": 0},
                 "nextRunAt": past},
    }  # fmt: skip
    documents = [{"name": name, **fields} for name, fields in {**runs, **rests}.items()]
    db.dynamic_jobs.insert_many(documents)
    with Backend(mongodb_url, db.name, level, workers=2):
        time.sleep(12)
    after = {document["name"]: document for document in db.dynamic_jobs.find({})}
    for document in documents:
        name, found = document["name"], after[document["name"]]
        mine = {"nextRunAt", "lastRunAt", "lastStatus", "unified_scheduler", "updatedAt"}
        assert {k: v for k, v in found.items() if k not in mine} == {
            k: v for k, v in document.items() if k not in mine
        }, name
        expected = 1 if name in runs else 0
        assert len(begins(db, document["_id"])) == expected, name
    for name in ("hint of the past", "no due time"):
        assert after[name]["nextRunAt"] > now(), name
    for name in ("bad cron", "bad zone", "zero", "no template"):
        assert after[name].get("lastStatus") == "failed", (name, after[name])


@levels
def test_a_killed_worker_leaves_nothing_running_and_loses_nothing(mongodb_url, db, level):
    key = db.dynamic_jobs.insert_one(job("long", seconds=8, parameters={"seconds": 5})).inserted_id
    with Backend(mongodb_url, db.name, level) as backend:
        first = wait_for(lambda: db.witness.find_one({"event": "begin"}))
        assert first["pid"] in backend.workers()
        os.kill(first["pid"], signal.SIGKILL)
        wait_for(lambda: db.job_executions.find_one({"job_id": str(key), "status": {"$in": ["lost", "failed"]}}))
        # And then it runs again, when it is due.
        wait_for(lambda: db.witness.find_one({"event": "end"}), 40)
        died = db.job_executions.find_one({"job_id": str(key)}, sort=[("started_at", 1)])
        assert died["status"] != "running"
        assert died["attempt"] == 1


@levels
def test_a_manual_run_and_an_edit_go_through_the_backends_own_routes(mongodb_url, db, level):
    with Backend(mongodb_url, db.name, level, workers=2) as backend:
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
        if level == "l2":
            assert after["nextRunAt"] == before["nextRunAt"]
        assert db.witness.find_one({})["parameter"] == "manual:admin"
        db.dynamic_jobs.update_one({}, {"$set": {"nextRunAt": now() + timedelta(seconds=2)}})
        # The edit of another writer is noticed within the poll interval.
        wait_for(lambda: db.witness.count_documents({"event": "begin"}) == 2, 10)
        static = "/api/users/scheduler-jobs"
        backend.send("POST", f"{static}/heartbeat/disable")
        time.sleep(1.5)
        n = db.witness_static.count_documents({})
        time.sleep(3)
        assert db.witness_static.count_documents({}) == n
        for _ in range(4):
            # Every worker has learned of it.
            assert not backend.get(static)["jobs"][0]["enabled"]
        backend.send("POST", f"{static}/heartbeat/enable")
        wait_for(lambda: db.witness_static.count_documents({}) > n, 10)


@levels
def test_the_old_engine_beside_ours_doubles_nothing_and_going_back_works(mongodb_url, db, level):
    keys = [
        db.dynamic_jobs.insert_one(
            job(f"{n}", seconds=5, due=5 + n * 0.3, parameters={"seconds": 1.5})
        ).inserted_id
        for n in range(4)
    ]
    with OldEngine(mongodb_url, db.name), Backend(mongodb_url, db.name, level):
        time.sleep(18)
    for key in keys:
        times = begins(db, key)
        assert len(times) >= 2
        assert all(gap > 1.5 for gap in gaps(times)), gaps(times)
    before = {key: len(begins(db, key)) for key in keys}
    with OldEngine(mongodb_url, db.name):
        wait_for(lambda: all(len(begins(db, key)) > before[key] for key in keys), 40)
    assert all(gap > 1.4 for key in keys for gap in gaps(begins(db, key)))
