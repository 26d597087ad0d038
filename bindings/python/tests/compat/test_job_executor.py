"""`JobExecutor` on a real server, without an engine, with the handles of both drivers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from bson import ObjectId
from unified_scheduler_engine.compat import (
    JobExecutor,
    JobRegistryService,
    TemplateRegistry,
    UnifiedScheduler,
)
from waiting import until

from .documents import made, now, stored
from .templates import Echo, Foreign


@pytest.mark.parametrize("bad", ["x", "", None, "64b0c0ffee64b0c0ffee64b"])
async def test_a_malformed_id_finds_nothing(db: Any, templates: TemplateRegistry, bad: Any) -> None:
    service, executor = JobRegistryService(db), JobExecutor(db)
    assert await service.get_job(bad) is None
    assert await service.delete_job(bad) is False
    assert await service.update_job(bad, {"name": "b"}) is None
    assert await executor.get_execution(bad) is None
    assert await executor.delete_execution(bad) is False
    assert await executor.execute_job_by_id(bad) is None


async def test_d11_a_job_without_parameters_runs_and_one_without_a_template_leaves_a_record(
    db: Any, templates: TemplateRegistry
) -> None:
    executor = JobExecutor(db)
    for fields, status in (
        ({"template_type": "echo"}, "success"),
        ({}, "failed"),
        ({"template": "no"}, "failed"),
    ):
        key = (await db.dynamic_jobs.insert_one({"name": "n", "enabled": True, **fields})).inserted_id
        execution = await executor.execute_job_by_id(str(key))
        assert execution is not None
        assert execution["status"] == status
        found = await executor.get_execution(execution["_id"])
        assert found is not None
        assert found["status"] == status


async def test_d15_a_result_that_can_not_be_written_at_once_is_written_later(
    db: Any, templates: TemplateRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unified_scheduler_engine.compat import _direct

    job = await made(db)
    failures = iter([ConnectionError("away"), ConnectionError("away")])

    class Flaky:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        async def update_one(self, *arguments: Any) -> Any:
            for error in failures:
                raise error
            return await self.inner.update_one(*arguments)

    class Handle:
        def __getitem__(self, name: str) -> Any:
            return Flaky(db[name])

    monkeypatch.setattr(_direct, "WRITES", (0.0, 0.0, 0.0))
    execution = await JobExecutor(Handle()).execute_job(job)
    found = await JobExecutor(db).get_execution(execution["_id"])
    assert found is not None
    assert found["status"] == "success"
    assert len(templates.get("echo").calls) == 1


async def test_d16_a_manual_run_does_not_touch_the_schedule(db: Any, templates: TemplateRegistry) -> None:
    job = await made(db)
    before = await stored(db, job["_id"])
    execution = await JobExecutor(db).execute_job_by_id(job["_id"], "manual:bob")
    assert execution is not None
    after = await stored(db, job["_id"])
    assert after["nextRunAt"] == before["nextRunAt"]
    assert after["lastStatus"] == "success"
    assert after["lastRunAt"] == execution["started_at"]
    context = templates.get("echo").calls[0]
    assert context.parameters == {"times": 1, "triggered_by": "manual:bob"}
    assert after["parameters"] == {"times": 1}
    assert execution["triggered_by"] == "manual:bob"


async def test_d22_a_result_that_can_not_be_stored_is_converted(db: Any, templates: TemplateRegistry) -> None:
    echo = templates.get("echo")
    echo.answers = {
        "status": "success",
        "message": "ok",
        "details": {
            "id": ObjectId(), "set": {1}, 3: Decimal("1.5"), "nan": float("nan"), "inf": float("inf"),
            "bytes": b"\xff", "text": "a\ud800b", "object": object(), "big": 2**80, "when": now(),
        },
    }  # fmt: skip
    job = await made(db)
    execution = await JobExecutor(db).execute_job(job)
    assert execution["status"] == "success"
    found = await JobExecutor(db).get_execution(execution["_id"])
    assert found is not None
    details = found["result"]["details"]
    assert details["set"] == [1]
    assert details["3"] == "1.5"
    assert details["nan"] is None
    assert isinstance(details["id"], str)


async def test_d23_hooks_run_in_their_order_and_their_errors_are_their_own(
    db: Any, templates: TemplateRegistry
) -> None:
    foreign = Foreign()
    templates.register(foreign)
    job = await made(db, template_type="foreign", parameters={"n": 1})

    async def run() -> dict[str, Any]:
        foreign.hooks.clear()
        return await JobExecutor(db).execute_job(job)

    execution = await run()
    assert foreign.hooks == ["pre_execute", "execute", "post_execute"]
    assert execution["status"] == "success"
    assert foreign.seen.duration_seconds < 90
    foreign.post_raises = True
    execution = await run()
    assert execution["status"] == "success"
    assert "after the work" in execution["result"]["warnings"][0]
    foreign.post_raises, foreign.raises = False, ValueError("bad")
    execution = await run()
    assert foreign.hooks == ["pre_execute", "execute", "on_error", "post_execute"]
    assert (execution["status"], execution["error"]) == ("failed", "bad")
    foreign.raises, foreign.pre_raises = None, True
    execution = await run()
    assert foreign.hooks == ["pre_execute", "on_error", "post_execute"]
    assert execution["error"] == "not ready"
    foreign.pre_raises, foreign.pre_answers = False, False
    execution = await run()
    assert execution["status"] == "cancelled"
    assert execution["result"]["message"] == "Job execution cancelled by pre_execute hook"


async def test_d12_a_template_that_raises_cancelled_error_is_recorded_cancelled(
    db: Any, templates: TemplateRegistry
) -> None:
    templates.get("echo").raises = asyncio.CancelledError()
    execution = await JobExecutor(db).execute_job(await made(db))
    assert execution["status"] == "cancelled"


async def test_d13_a_run_longer_than_its_time_out_is_recorded_timeout(
    db: Any, templates: TemplateRegistry
) -> None:
    templates.get("echo").hold()
    job = await made(db)
    execution = await JobExecutor(db).execute_job({**job, "timeout_seconds": 0.05})
    assert execution["status"] == "timeout"
    assert templates.get("echo").hooks == ["execute"]


async def test_a_run_that_is_cancelled_from_outside_does_not_stay_running(
    db: Any, templates: TemplateRegistry
) -> None:
    templates.get("echo").hold()
    job = await made(db)
    run = asyncio.create_task(JobExecutor(db).execute_job(job))
    await until(lambda: templates.get("echo").calls)
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run
    found = await JobExecutor(db).list_executions({"job_id": job["_id"]})
    assert [execution["status"] for execution in found] == ["failed"]


async def test_d24_a_run_of_a_removed_template_leaves_one_record(
    db: Any, templates: TemplateRegistry
) -> None:
    job = await made(db)
    templates.unregister("echo")
    execution = await JobExecutor(db).execute_job(job)
    assert execution["error"] == "Template 'echo' not found"
    assert await db.job_executions.count_documents({}) == 1


async def test_d24_a_job_whose_template_has_gone_leaves_one_record_in_all(
    db: Any, templates: TemplateRegistry
) -> None:
    from unified_scheduler_engine.compat._orphans import report_orphans

    job = await made(db)
    due = now() - timedelta(hours=1)
    await db.dynamic_jobs.update_one({"_id": ObjectId(job["_id"])}, {"$set": {"nextRunAt": due}})
    assert await report_orphans(db, templates) == 0
    templates.unregister("echo")
    await asyncio.gather(*(report_orphans(db, templates) for _ in range(4)))
    assert await report_orphans(db, templates) == 0
    found = await JobRegistryService(db).get_job_executions(job["_id"])
    assert [execution["error"] for execution in found] == ["Template 'echo' not found"]
    shown = await JobRegistryService(db).get_job(job["_id"])
    assert shown is not None
    assert shown["fault"] == "Template 'echo' not found"
    assert shown["last_run_status"] == "failed"


async def test_d28_a_job_removed_while_it_runs_stays_so(db: Any, templates: TemplateRegistry) -> None:
    service = JobRegistryService(db)
    gate = templates.get("echo").hold()
    job = await made(db)
    run = asyncio.create_task(JobExecutor(db).execute_job(job))
    await until(lambda: templates.get("echo").calls)
    assert await service.delete_job(job["_id"])
    gate.set()
    assert (await run)["status"] == "success"
    await service.update_job_after_execution(job["_id"], {"status": "success"})
    assert await db.dynamic_jobs.count_documents({}) == 0
    assert len(await service.get_job_executions(job["_id"])) == 1


async def test_d02_d04_a_pass_moves_the_due_time_first_and_along_its_grid(
    db: Any, templates: TemplateRegistry
) -> None:
    job = await made(db)
    overdue = now() - timedelta(seconds=150)
    await db.dynamic_jobs.update_one({"_id": ObjectId(job["_id"])}, {"$set": {"nextRunAt": overdue}})
    templates.get("echo").sleep = 0.2
    first, second = UnifiedScheduler(db), UnifiedScheduler(db)
    await asyncio.gather(first.check_dynamic_jobs(), second.check_dynamic_jobs())
    assert len(templates.get("echo").calls) == 1
    document = await stored(db, job["_id"])
    assert document["nextRunAt"] == overdue + timedelta(seconds=180)


async def test_d05_old_records_are_read_whatever_their_spelling(db: Any) -> None:
    t = now()
    key = (
        await db.job_executions.insert_one({"jobId": "j", "startedAt": t, "durationSeconds": 2})
    ).inserted_id
    found = await JobExecutor(db).get_execution(str(key))
    assert found is not None
    assert (found["job_id"], found["started_at"], found["duration_seconds"]) == ("j", t, 2)
    assert found["status"] == "unknown"
    listed = await JobRegistryService(db).get_job_executions("j")
    assert [execution["_id"] for execution in listed] == [str(key)]


async def test_the_log_of_a_run_is_stored_as_texts(
    db: Any, templates: TemplateRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    execution = await JobExecutor(db).execute_job(await made(db))
    found = await JobExecutor(db).get_execution(execution["_id"])
    assert found is not None
    assert [line["level"] for line in found["logs"]] == ["info", "INFO", "info"]
    assert all(set(line) == {"timestamp", "level", "message"} for line in found["logs"])
    assert all(isinstance(value, str) for line in found["logs"] for value in line.values())
    assert "[Job: a] echo 1" in caplog.text


async def test_context_db_is_the_handle_itself(db: Any, templates: TemplateRegistry) -> None:
    await JobExecutor(db).execute_job(await made(db))
    echo: Echo = templates.get("echo")
    assert echo.calls[0].db is db
    assert ObjectId(echo.calls[0].job_id)
