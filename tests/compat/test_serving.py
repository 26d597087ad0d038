"""The ways in which a backend is served: other loops, reloading, forking after the import."""

import shutil
from pathlib import Path

import pytest

from documents import job, of_jobs
from looking import assert_whole
from running import HERE, Backend, is_alive, wait_for


@pytest.mark.parametrize(("loop", "module"), [("asyncio", "asyncio"), ("uvloop", "uvloop")])
def test_both_kinds_of_loops_serve(place, loop, module):
    db = place.db
    db.dynamic_jobs.insert_one(job(seconds=1))
    with Backend(place, "--loop", loop, workers=1) as backend:
        assert backend.get("/health")["loop"].startswith(module)
        wait_for(lambda: db.witness.count_documents({"event": "end"}) >= 3)
    assert_whole(place)


def copy_of_the_app(tmp_path):
    """The backend's code, where it can be changed."""
    app = tmp_path / "app"
    shutil.copytree(HERE / "backend" / "app", app, ignore=shutil.ignore_patterns("__pycache__"))
    return app


@pytest.mark.crosswise
def test_a_reload_leaves_no_second_engine_and_nothing_running(place, tmp_path: Path):
    db = place.db
    app = copy_of_the_app(tmp_path)
    long = db.dynamic_jobs.insert_one(job("long", seconds=3600, parameters={"seconds": 600})).inserted_id
    db.dynamic_jobs.insert_one(job("quick", seconds=1))
    arguments = ("--reload", "--reload-dir", str(app))
    with Backend(place, *arguments, workers=1, app=app, BACKEND_GRACE="1") as backend:
        for _ in range(2):
            before = wait_for(lambda: backend.get("/health").get("pid"))
            wait_for(lambda pid=before: db.witness.count_documents({"event": "end", "pid": pid}) >= 2)
            main = app / "main.py"
            main.write_text(main.read_text() + "\n# Changed.\n")
            wait_for(lambda pid=before: backend.get("/health").get("pid", pid) != pid, what="the reload")
            assert not is_alive(before)
            wait_for(lambda: backend.n_nodes() == 1, what="one engine")
    (interrupted,) = of_jobs(db, job_id=str(long))
    assert (interrupted["status"], interrupted["failure_kind"]) == ("failed", "interrupted")
    assert_whole(place)


def test_gunicorn_with_preload_and_uvicorns_workers(place):
    db = place.db
    inserted = db.dynamic_jobs.insert_many([job(f"quick {n}", seconds=1) for n in range(6)])
    keys = [str(key) for key in inserted.inserted_ids]
    with Backend(place, "--preload", server="gunicorn", workers=3) as backend:
        assert len(backend.workers()) == 3
        wait_for(lambda: db.witness.count_documents({"event": "end"}) >= 30)
        hosts = {"status": "success", "job_id": {"$in": keys}}
        wait_for(lambda: len(db.job_executions.distinct("execution_host", hosts)) >= 2)
    # A machine that is held up finds a job still running when it is due again.
    assert {e["status"] for e in of_jobs(db)} <= {"success", "skipped"}
    assert_whole(place)
