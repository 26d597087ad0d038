"""Stored jobs on a real server, run by the engine through a handle of each driver."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import Any

import bson
import pytest
import pytest_asyncio
from bson import ObjectId
from unified_scheduler_engine.compat import (
    JobExecutor,
    JobRegistryService,
    JobResult,
    TemplateRegistry,
    UnifiedScheduler,
    set_unified_scheduler,
)
from waiting import engine_of, until

from .documents import job, now, stored
from .templates import Foreign


@pytest_asyncio.fixture
async def running(db: Any, templates: TemplateRegistry) -> AsyncIterator[UnifiedScheduler]:
    """A scheduler that runs on the database of the handle."""
    sent: list[Any] = []

    async def send_email(*mail: str) -> None:
        sent.append(mail)

    scheduler = UnifiedScheduler(db, poll=0.3, stop_grace=0.5, send_email=send_email)
    scheduler.sent = sent  # type: ignore[attr-defined]
    set_unified_scheduler(scheduler)
    try:
        # A slow database is waited for, and the next test has a scheduler of its own in any case.
        await engine_of(scheduler)
        yield scheduler
    finally:
        await scheduler.stop()
        set_unified_scheduler(None)


async def test_a_due_job_runs_with_exactly_what_is_stored(
    db: Any, running: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    parameters = {"when": now(), "who": ObjectId(), "filter": {"$gt": 1}, "times": 2, "x": 1.5}
    due = now() + timedelta(seconds=1)
    key = (await db.dynamic_jobs.insert_one(job(parameters=parameters, nextRunAt=due))).inserted_id
    echo = templates.get("echo")
    await until(lambda: echo.calls)
    context = echo.calls[0]
    assert context.parameters == {**parameters, "triggered_by": "scheduler"}
    assert context.job_id == str(key)
    assert context.db is db
    assert context.scheduled_for == due

    async def ended() -> Any:
        return await db.job_executions.find_one({"_id": ObjectId(context.execution_id), "status": "success"})

    execution = await until(ended)
    assert execution["job_id"] == str(key)
    assert execution["scheduled_for"] == due
    assert execution["attempt"] == 1
    assert execution["execution_host"].startswith(f"{socket.gethostname()}:{os.getpid()}")
    assert execution["result"]["details"] == {"seen": 1}
    assert set(execution["result"]) == set(JobResult("", "").to_dict())
    document = await db.dynamic_jobs.find_one({"_id": key})
    assert document["nextRunAt"] == due + timedelta(hours=1)
    assert document["parameters"] == parameters

    async def noted() -> Any:
        found = await db.dynamic_jobs.find_one({"_id": key})
        return found.get("lastStatus") == "success" and found["lastRunAt"]

    await until(noted)
    listed = await JobExecutor(db).list_executions({"job_id": str(key)})
    assert [item["_id"] for item in listed] == [context.execution_id]
    lines = (await JobExecutor(db).get_execution(context.execution_id) or {})["logs"]
    assert [line["message"] for line in lines] == [
        "Starting job execution: a",
        "echo 2",
        "Job execution completed: success",
    ]
    assert all(isinstance(line["level"], str) for line in lines)


async def test_the_first_job_that_others_write_into_a_new_database_is_found_within_the_poll(
    db: Any, running: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    # When all is done that a start looks at. The engine itself looks every 30 s.
    await asyncio.sleep(1)
    await db.dynamic_jobs.insert_one(job(nextRunAt=now()))
    await until(lambda: templates.get("echo").calls, 20)


async def test_d16_a_manual_run_goes_through_the_engine_and_does_not_overlap(
    db: Any, running: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    gate = templates.get("echo").hold()
    due = now() + timedelta(hours=1)
    key = (await db.dynamic_jobs.insert_one(job(nextRunAt=due))).inserted_id
    executor = JobExecutor(db)
    both = [
        asyncio.create_task(executor.execute_job_by_id(str(key), by)) for by in ("manual:bob", "manual:eve")
    ]
    # One is answered at once, while the other runs.
    await until(lambda: any(run.done() for run in both))
    gate.set()
    skipped, done = sorted([await run or {} for run in both], key=lambda run: str(run["status"]))
    assert (skipped["status"], done["status"]) == ("skipped", "success")
    assert done["triggered_by"].startswith("manual:")
    assert len(templates.get("echo").calls) == 1
    assert templates.get("echo").calls[0].parameters["triggered_by"] == done["triggered_by"]
    assert (await db.dynamic_jobs.find_one({"_id": key}))["nextRunAt"] == due
    by_code = await executor.execute_job(await db.dynamic_jobs.find_one({"_id": key}))
    assert by_code["status"] == "success"
    assert templates.get("echo").calls[1].triggered_by == "scheduler"


@pytest.mark.parametrize("by", ["manual", "user", "manual:bob", "scheduler"])
async def test_who_triggered_a_run_is_stored_as_given(
    db: Any, running: UnifiedScheduler, templates: TemplateRegistry, by: str
) -> None:
    parameters = {"when": now(), "who": ObjectId(), "times": 1}
    due = now() + timedelta(hours=1)
    key = (await db.dynamic_jobs.insert_one(job(nextRunAt=due, parameters=parameters))).inserted_id
    execution = await JobExecutor(db).execute_job_by_id(str(key), by)
    assert execution is not None
    assert (execution["status"], execution["triggered_by"]) == ("success", by)
    context = templates.get("echo").calls[0]
    assert context.triggered_by == by
    assert context.parameters == {**parameters, "triggered_by": by}


async def test_a_job_made_by_the_service_runs_and_is_edited(
    db: Any, running: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    service = JobRegistryService(db)
    made = await service.create_job(
        {
            "name": "often",
            "template_type": "echo",
            "schedule": {"type": "interval", "interval_seconds": 1},
            "notifications": {"on_success": ["a@x"]},
        },
        "alice",
    )
    calls = templates.get("echo").calls
    await until(lambda: len(calls) >= 3)
    due = [context.scheduled_for for context in calls]
    assert all((b - a).total_seconds() % 1 == 0 for a, b in itertools.pairwise(due))
    await service.update_job(made["_id"], {"enabled": False})
    # Nothing is claimed any more; what was, ends.
    due_next = (await stored(db, made["_id"]))["nextRunAt"]
    await asyncio.sleep(1.5)
    assert (await stored(db, made["_id"]))["nextRunAt"] == due_next

    async def all_ended() -> bool:
        ended = await service.get_job_executions(made["_id"])
        return [run["status"] for run in ended].count("success") == len(calls)

    await until(all_ended)
    assert all(context.scheduled_for < due_next for context in calls)
    n = len(calls)
    await until(lambda: len(running.sent) == n)  # type: ignore[attr-defined]
    assert await service.delete_job(made["_id"])
    assert await all_ended()
    assert len(calls) == n


async def test_who_is_to_be_told_of_an_end_costs_no_question(
    db: Any, running: UnifiedScheduler, templates: TemplateRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert running.engine is not None
    asked: list[str] = []
    ask = running.engine.core.ask

    async def listening(op: str, **arguments: Any) -> Any:
        asked.append(op)
        return await ask(op, **arguments)

    monkeypatch.setattr(running.engine.core, "ask", listening)
    told = {"notifications": {"on_success": ["a@x"]}}
    await db.dynamic_jobs.insert_many([job(nextRunAt=now()), job(nextRunAt=now(), **told)])
    await until(lambda: running.sent)  # type: ignore[attr-defined]
    await until(lambda: len(templates.get("echo").calls) == 2)
    assert [mail[0] for mail in running.sent] == ["a@x"]  # type: ignore[attr-defined]
    assert "get_job" not in asked


async def test_d22_nothing_in_an_answer_breaks_a_json_layer(
    db: Any, running: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    odd = {"id": ObjectId(), "nan": float("nan"), "raw": b"\xff", "times": 1}
    key = (await db.dynamic_jobs.insert_one(job(parameters=odd, odd=odd))).inserted_id
    await until(lambda: db.job_executions.find_one({"job_id": str(key), "status": "success"}))
    listed: Any = await JobRegistryService(db).list_jobs()
    executions = await JobExecutor(db).list_executions()

    def plain(value: Any) -> Any:
        return value.isoformat() if isinstance(value, datetime) else int("it is no time")

    assert json.dumps(listed, default=plain, allow_nan=False)
    assert json.dumps(executions, default=plain, allow_nan=False)


async def test_d02_the_due_time_has_moved_before_the_work_begins(
    db: Any, running: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    templates.get("echo").hold()
    due = now() + timedelta(seconds=0.5)
    key = (await db.dynamic_jobs.insert_one(job(nextRunAt=due))).inserted_id
    await until(lambda: templates.get("echo").calls)
    document = await db.dynamic_jobs.find_one({"_id": key})
    assert document["nextRunAt"] == due + timedelta(hours=1)
    assert document.get("lastStatus") is None, "it still runs"
    assert await JobRegistryService(db).get_jobs_ready_to_run() == []


async def test_d10_null_is_an_hour_and_nothing_runs_at_every_poll(
    db: Any, running: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    due = now() + timedelta(seconds=0.5)
    schedules = [{"type": "interval", "interval_seconds": value} for value in (None, 0, -1)]
    jobs = [job(schedule=schedule, nextRunAt=due) for schedule in schedules]
    keys = (await db.dynamic_jobs.insert_many(jobs)).inserted_ids
    calls = templates.get("echo").calls
    await until(lambda: calls)
    await asyncio.sleep(1.5)
    assert [context.job_id for context in calls] == [str(keys[0])]
    assert (await db.dynamic_jobs.find_one({"_id": keys[0]}))["nextRunAt"] == due + timedelta(hours=1)
    shown = [await JobRegistryService(db).get_job(str(key)) for key in keys]
    assert [bool((found or {}).get("fault")) for found in shown] == [False, True, True]


async def test_d22_no_document_of_ours_breaks_the_json_layer_of_the_old_routes(
    db: Any, running: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    """It shows whole documents: of what is in them it can take no type that JSON does not have, but for dates
    and the `_id` at the top."""
    echo = templates.get("echo")
    gate = echo.hold()
    await db.dynamic_jobs.insert_many([job(name=str(n)) for n in range(3)])
    fails = job(name="fails", template_type="foreign", parameters={"n": 1})
    foreign = Foreign()
    foreign.raises, foreign.retry_safe = ValueError("bad"), True  # type: ignore[attr-defined]
    templates.register(foreign)
    await db.dynamic_jobs.insert_one(fails)

    async def look() -> int:
        for collection in (db.dynamic_jobs, db.job_executions):
            async for document in collection.find({}):
                document.pop("_id")
                odd = [*not_of_json(document)]
                assert not odd, odd
        return int(await db.job_executions.count_documents({"status": {"$in": ["success", "failed"]}}))

    # Also in the midst of it, while runs are claimed, open, and waited for.
    await until(lambda: echo.calls)
    await look()
    gate.set()

    async def all_ended() -> bool:
        return await look() == 4

    await until(all_ended)


def not_of_json(value: Any, path: str = "") -> Iterator[str]:
    """The paths of what the old routes can't show."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from not_of_json(item, f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from not_of_json(item, f"{path}[]")
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield f"{path}: {value}"
    elif not isinstance(value, (str, int, bool, datetime, type(None))):
        yield f"{path}: {type(value).__name__}"


async def test_d11_a_job_without_a_template_is_set_aside_and_stops_no_other(
    db: Any, running: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    bad = job(name="bad", nextRunAt=now() - timedelta(seconds=5))
    del bad["template_type"]
    await db.dynamic_jobs.insert_many([bad, job(name="good")])
    await until(lambda: templates.get("echo").calls)

    async def is_set_aside() -> bool:
        bad, good = (await JobRegistryService(db).list_jobs(sort_by="name", sort_order=1))["jobs"]
        assert not good.get("fault")
        return bool(bad.get("fault")) and bad["last_run_status"] == "failed"

    await until(is_set_aside)


async def test_d28_a_job_that_is_removed_while_it_runs_does_not_come_back(
    db: Any, running: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    gate = templates.get("echo").hold()
    key = (await db.dynamic_jobs.insert_one(job())).inserted_id
    await until(lambda: templates.get("echo").calls)
    await db.dynamic_jobs.delete_one({"_id": key})
    gate.set()

    async def ended() -> Any:
        return await db.job_executions.find_one({"job_id": str(key), "status": {"$ne": "running"}})

    await until(ended)
    await asyncio.sleep(0.3)
    assert await db.dynamic_jobs.count_documents({}) == 0


async def test_check_dynamic_jobs_returns_when_what_is_due_has_been_taken(
    db: Any, running: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    await db.dynamic_jobs.insert_one(job(nextRunAt=now() - timedelta(seconds=1)))
    await running.check_dynamic_jobs()
    await until(lambda: len(templates.get("echo").calls) == 1)


async def test_d26_lines_stand_in_the_document_while_it_runs(
    db: Any, running: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    templates.get("echo").hold()
    await db.dynamic_jobs.insert_one(job())

    async def told() -> Any:
        found = await JobExecutor(db).list_executions({"status": "running"})
        return found and found[0]["logs"]

    assert await until(told)


async def test_what_is_huge_or_odd_fits_into_the_document_of_its_execution(
    db: Any, running: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    echo = templates.get("echo")
    odd = "lone \ud800, nul \x00, wide \U0001f600"

    async def execute(context: Any) -> JobResult:
        for _ in range(6):
            context.log("warning", "y" * 3_000_000)
        context.log("info", odd)
        details = {odd: odd, "text": "x" * 10_000_000, "id": ObjectId(), "set": {1}, "nan": float("nan")}
        return JobResult("success", odd, details, errors=[odd], warnings=[odd] * 5000)

    echo.execute = execute
    key = (await db.dynamic_jobs.insert_one(job(name="wide \U0001f600"))).inserted_id

    async def ended() -> Any:
        return await db.job_executions.find_one({"job_id": str(key), "status": {"$ne": "running"}})

    execution = await until(ended)
    assert execution["status"] == "success"
    assert execution["job_name"] == "wide \U0001f600"
    assert "wide \U0001f600" in execution["result"]["message"]
    assert any("was cut" in warning for warning in execution["result"]["warnings"])
    assert all(isinstance(line["message"], str) for line in execution["logs"])
    assert len(bson.encode(execution)) < 8_000_000
    assert not [*not_of_json({**execution, "_id": None})]


async def test_d26_indexes_are_made(db: Any, running: UnifiedScheduler) -> None:
    async def has_one(collection: Any, *fields: str) -> bool:
        keys = [index["key"] for index in (await collection.index_information()).values()]
        return any(tuple(name for name, _ in key)[: len(fields)] == fields for key in keys)

    # In the background.
    await until(lambda: has_one(db.dynamic_jobs, "enabled", "nextRunAt"))
    await until(lambda: has_one(db.job_executions, "job_id", "started_at"))
