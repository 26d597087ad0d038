"""The example app does what it says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from waiting import until_blocking

HERE = Path(__file__).parent
PLACES = (HERE.parent / "examples/fastapi_app/main.py", HERE.parents[2] / "examples/fastapi_app/main.py")


def test_the_fastapi_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = next(place for place in PLACES if place.is_file())
    monkeypatch.setenv("STORE", f"sqlite://{tmp_path}/jobs.db")
    spec = importlib.util.spec_from_file_location("fastapi_example", path)
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fastapi_example", example)
    spec.loader.exec_module(example)
    with TestClient(example.app) as client:
        names = {job["name"] for job in client.get("/jobs").json()}
        assert names == {"refresh_prices", "nightly_report"}
        query = {"name": "weekly", "schedule": "every 2 hours"}
        made = client.post("/jobs/mail", params=query, json={"to": "a@example.org"})
        assert made.status_code == 200, made.text
        wrong = client.post("/jobs/mail", params={**query, "schedule": "now and then"}, json={"to": "a"})
        assert wrong.status_code == 422 and "now and then" in wrong.json()["detail"]
        assert client.post("/jobs/weekly/run").status_code == 200
        assert client.post("/jobs/nothing/run").status_code == 404

        def ran() -> dict[str, dict[str, str]] | None:
            done = {run["job"]: run for run in client.get("/runs").json() if run["status"] == "success"}
            return done if {"weekly", "refresh_prices"} <= set(done) else None

        done = until_blocking(ran)
        assert done["weekly"]["message"] == "sent to a@example.org"
        assert done["refresh_prices"]["message"] == "3 prices"
        assert client.get("/jobs/weekly/why").json()["will_run"]
