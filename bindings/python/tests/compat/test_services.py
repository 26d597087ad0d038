"""`JobRegistryService` and `JobExecutor` on a real server, with the handles of both drivers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import datetime, timedelta, timezone
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

from .templates import Echo, Foreign

EVERY_MINUTE = {"type": "interval", "interval_seconds": 60, "expression": None, "timezone": "UTC"}


def now() -> datetime:
    """As documents have it."""
    value = datetime.now(timezone.utc).replace(tzinfo=None)
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


async def made(db: Any, **fields: Any) -> dict[str, Any]:
    job = {"name": "a", "template_type": "echo", "schedule": EVERY_MINUTE, **fields}
    return await JobRegistryService(db).create_job(job, "alice")


async def stored(db: Any, job_id: Any) -> dict[str, Any]:
    document = await db.dynamic_jobs.find_one({"_id": ObjectId(str(job_id))})
    assert document is not None
    return dict(document)


async def test_a_job_is_stored_in_the_form_of_the_existing_backend(
    db: Any, templates: TemplateRegistry
) -> None:
    job = await made(db, parameters={"times": 2}, description="d")
    document = await stored(db, job["_id"])
    assert set(document) == {
        "_id", "name", "description", "template_type", "parameters", "schedule", "enabled",
        "timeout_seconds", "retry_policy", "notifications", "created_by", "createdAt", "updatedAt",
        "lastRunAt", "nextRunAt", "lastStatus", "version",
    }  # fmt: skip
    assert document["schedule"] == EVERY_MINUTE
    assert document["retry_policy"] == {"max_retries": 3, "retry_delay_seconds": 300}
    assert timedelta(seconds=55) < document["nextRunAt"] - now() <= timedelta(seconds=60)
    assert job["next_run_at"] == document["nextRunAt"]
    assert isinstance(job["_id"], str)
    assert job["last_run_status"] is None
    again = await JobRegistryService(db).get_job(job["_id"])
    assert again is not None
    assert again["next_run_at"] == job["next_run_at"]


async def test_only_a_name_and_a_template_are_needed(db: Any, templates: TemplateRegistry) -> None:
    job = await JobRegistryService(db).create_job({"name": "a", "template_type": "echo"}, "alice")
    assert job["interval_seconds"] == 3600
    assert job["parameters"] == {"times": 1}


@pytest.mark.parametrize("bad", ["x", "", None, "64b0c0ffee64b0c0ffee64b"])
async def test_a_malformed_id_finds_nothing(db: Any, templates: TemplateRegistry, bad: Any) -> None:
    service, executor = JobRegistryService(db), JobExecutor(db)
    assert await service.get_job(bad) is None
    assert await service.delete_job(bad) is False
    assert await service.update_job(bad, {"name": "b"}) is None
    assert await executor.get_execution(bad) is None
    assert await executor.delete_execution(bad) is False
    assert await executor.execute_job_by_id(bad) is None


async def test_what_can_not_be_used_is_a_value_error(db: Any, templates: TemplateRegistry) -> None:
    service = JobRegistryService(db)
    for fields, message in (
        ({"template_type": "nothing"}, "Template 'nothing' not found"),
        ({"parameters": {"refuse": True}}, "Parameter validation failed: it was asked to refuse"),
        ({"parameters": {"times": 10}}, "Parameter validation failed: times: 10 is more than 9"),
        ({"parameters": {"mode": "loud"}}, "why: is required"),
        ({"name": "  "}, "name"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
    ):
        job = {"name": "a", "template_type": "echo", "schedule": EVERY_MINUTE, **fields}
        with pytest.raises(ValueError, match="(?s).*" + message.replace("(", r"\(")):
            await service.create_job(job, "alice")
    assert await db.dynamic_jobs.count_documents({}) == 0


@pytest.mark.parametrize(
    "schedule",
    [
        {"type": "cron", "expression": "61 * * * *"},
        {"type": "cron", "expression": "0 3 * * *", "timezone": "Mars/Base"},
        {"type": "sometimes"},
        "not a cron",
        {"type": "cron"},
        17,
    ],
)
async def test_d08_a_schedule_that_can_not_run_is_refused_on_save(
    db: Any, templates: TemplateRegistry, schedule: Any
) -> None:
    with pytest.raises(ValueError):
        await made(db, schedule=schedule)
    job = await made(db)
    with pytest.raises(ValueError):
        await JobRegistryService(db).update_job(job["_id"], {"schedule": schedule})


async def test_d08_a_stored_schedule_that_can_not_run_is_shown_with_its_reason(
    db: Any, templates: TemplateRegistry
) -> None:
    await db.dynamic_jobs.insert_one(
        {
            "name": "b",
            "template_type": "echo",
            "enabled": True,
            "schedule": {"type": "cron", "expression": "?"},
        }
    )
    job = (await JobRegistryService(db).list_jobs())["jobs"][0]
    assert job["last_run_status"] == "failed"
    assert job["fault"]


async def test_d09_every_form_of_a_schedule_is_read(db: Any, templates: TemplateRegistry) -> None:
    forms: list[tuple[dict[str, Any], str, Any]] = [
        ({"schedule": "0 3 * * *"}, "cron", "0 3 * * *"),
        ({"schedule": {"type": "cron", "value": "0 3 * * *"}}, "cron", "0 3 * * *"),
        ({"schedule": {"type": "interval", "interval_seconds": None}}, "interval", 3600),
        ({"schedule": {"interval_seconds": 90}}, "interval", 90),
        ({"schedule": {}, "scheduleType": "cron", "cronExpression": "5 4 * * *"}, "cron", "5 4 * * *"),
        ({"intervalSeconds": 30}, "interval", 30),
    ]
    for fields, kind, value in forms:
        key = (await db.dynamic_jobs.insert_one({"name": "n", "template": "echo", **fields})).inserted_id
        job = await JobRegistryService(db).get_job(str(key))
        assert job is not None
        assert job["schedule_type"] == kind, fields
        assert value == (job["cron_expression"] if kind == "cron" else job["interval_seconds"]), fields
        assert "fault" not in job, fields


async def test_d09_a_bare_cron_expression_is_accepted(db: Any, templates: TemplateRegistry) -> None:
    job = await made(db, schedule="0 3 * * *")
    document = await stored(db, job["_id"])
    expected = {"type": "cron", "interval_seconds": None, "expression": "0 3 * * *", "timezone": "UTC"}
    assert document["schedule"] == expected
    assert (document["nextRunAt"].hour, document["nextRunAt"].minute) == (3, 0)


@pytest.mark.parametrize("seconds", [None, 0, -5, True, "60"])
async def test_d10_an_interval_is_a_number_from_1_on_save(
    db: Any, templates: TemplateRegistry, seconds: Any
) -> None:
    with pytest.raises(ValueError, match="interval_seconds"):
        await made(db, schedule={"type": "interval", "interval_seconds": seconds})


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


async def test_d17_a_list_is_sorted_and_filtered_by_what_fields_mean(
    db: Any, templates: TemplateRegistry
) -> None:
    t = now()
    await db.dynamic_jobs.insert_many(
        [
            {"name": "new", "template_type": "echo", "createdAt": t, "enabled": True},
            {
                "name": "old",
                "templateType": "echo",
                "template_type": "x",
                "created_at": t - timedelta(days=2),
            },
            {"name": "text", "template": "foreign", "createdAt": (t - timedelta(days=1)).isoformat() + "Z"},
            {"name": "none", "template_type": "x", "isEnabled": True},
            {"name": "none2", "template_type": "x", "enabled": False, "isEnabled": True},
        ]
    )
    service = JobRegistryService(db)

    async def names(filters: Any = None, **options: Any) -> list[str]:
        return [job["name"] for job in (await service.list_jobs(filters, **options))["jobs"]]

    assert await names(sort_order=-1) == ["new", "text", "old", "none2", "none"]
    assert await names(sort_order=1) == ["none", "none2", "old", "text", "new"]
    assert sorted(await names({"template_type": "echo"})) == ["new", "old"]
    assert sorted(await names({"template_types": ["echo", "foreign"]})) == ["new", "old", "text"]
    assert sorted(await names({"template_types": [], "enabled": True})) == ["new", "none"]
    assert len(await names({"enabled": False})) == 3
    answer = await service.list_jobs(skip=2, limit=2, sort_by="name", sort_order=1)
    assert [job["name"] for job in answer["jobs"]] == ["none2", "old"]
    assert {k: v for k, v in answer.items() if k != "jobs"} == {"total": 5, "page": 2, "pages": 3, "limit": 2}
    assert (await service.list_jobs({"template_type": "nobody"}))["pages"] == 0
    assert (await service.list_jobs(skip=50))["jobs"] == []


async def test_d21_saving_a_job_unchanged_moves_nothing(db: Any, templates: TemplateRegistry) -> None:
    service = JobRegistryService(db)
    job = await made(db)
    due = now() + timedelta(seconds=7)
    await db.dynamic_jobs.update_one({"_id": ObjectId(job["_id"])}, {"$set": {"nextRunAt": due, "custom": 1}})
    whole = await service.get_job(job["_id"])
    assert whole is not None
    # As the page does: the whole answer comes back, its times as texts.
    sent = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in whole.items()}
    changed = await service.update_job(job["_id"], {**sent, "name": "b"})
    assert changed is not None
    document = await stored(db, job["_id"])
    assert document["nextRunAt"] == due
    assert (document["name"], document["version"], document["custom"]) == ("b", 2, 1)
    assert isinstance(document["createdAt"], datetime)
    assert not {"next_run_at", "last_run_at", "created_at", "last_status", "schedule_type"} & set(document)
    moved = await service.update_job(job["_id"], {"schedule": {"type": "interval", "interval_seconds": 600}})
    assert moved is not None
    assert moved["next_run_at"] - now() > timedelta(seconds=590)


async def test_d21_enabling_an_overdue_job_does_not_fire_it(db: Any, templates: TemplateRegistry) -> None:
    service = JobRegistryService(db)
    job = await made(db, enabled=False)
    overdue = now() - timedelta(seconds=150)
    await db.dynamic_jobs.update_one({"_id": ObjectId(job["_id"])}, {"$set": {"nextRunAt": overdue}})
    enabled = await service.update_job(job["_id"], {"enabled": True})
    assert enabled is not None
    # On the grid of its old due time, in the future.
    assert enabled["next_run_at"] == overdue + timedelta(seconds=180)
    assert await service.get_jobs_ready_to_run() == []


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
    assert foreign.seen.duration_seconds < 5
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


async def test_d07_mails_are_sent_and_their_failure_changes_nothing(
    db: Any, templates: TemplateRegistry
) -> None:
    from unified_scheduler_engine.compat._direct import DirectRun
    from unified_scheduler_engine.compat._mail import Mailer

    sent: list[tuple[str, str]] = []

    async def send_email(to: str, subject: str, html: str, text: str) -> None:
        if to == "broken@x":
            raise ConnectionError("no server")
        sent.append((to, subject))

    notifications = {"on_success": ["ok@x"], "on_failure": ["broken@x", "bad@x"]}
    job = await made(db, notifications=notifications)
    run = DirectRun(db, templates, Mailer(send_email))
    assert (await run.run(job, "scheduler"))["status"] == "success"
    templates.get("echo").answers = {"status": "partial", "message": "half"}
    assert (await run.run(job, "scheduler"))["status"] == "partial"
    templates.get("echo").answers = {"status": "skipped", "message": "not today"}
    await run.run(job, "scheduler")
    assert sent == [("ok@x", "[Scheduler] a: success"), ("bad@x", "[Scheduler] a: partial")]


async def test_d12_a_template_that_raises_cancelled_error_is_recorded_cancelled(
    db: Any, templates: TemplateRegistry
) -> None:
    templates.get("echo").raises = asyncio.CancelledError()
    execution = await JobExecutor(db).execute_job(await made(db))
    assert execution["status"] == "cancelled"


async def test_d13_a_run_longer_than_its_time_out_is_recorded_timeout(
    db: Any, templates: TemplateRegistry
) -> None:
    templates.get("echo").sleep = 30
    job = await made(db)
    execution = await JobExecutor(db).execute_job({**job, "timeout_seconds": 0.05})
    assert execution["status"] == "timeout"
    assert templates.get("echo").hooks == ["execute"]


async def test_a_run_that_is_cancelled_from_outside_does_not_stay_running(
    db: Any, templates: TemplateRegistry
) -> None:
    templates.get("echo").sleep = 30
    job = await made(db)
    run = asyncio.create_task(JobExecutor(db).execute_job(job))
    while not templates.get("echo").calls:
        await asyncio.sleep(0.01)
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


async def test_d27_numbers_that_come_as_texts_are_made_numbers(db: Any, templates: TemplateRegistry) -> None:
    job = await made(db, parameters={"codes": ["200", "201"], "times": "3"})
    assert job["parameters"] == {"codes": [200, 201], "times": 3}


async def test_d28_a_job_removed_while_it_runs_stays_so(db: Any, templates: TemplateRegistry) -> None:
    service = JobRegistryService(db)
    templates.get("echo").sleep = 0.2
    job = await made(db)
    run = asyncio.create_task(JobExecutor(db).execute_job(job))
    await asyncio.sleep(0.05)
    assert await service.delete_job(job["_id"])
    assert (await run)["status"] == "success"
    await service.update_job_after_execution(job["_id"], {"status": "success"})
    assert await db.dynamic_jobs.count_documents({}) == 0
    assert len(await service.get_job_executions(job["_id"])) == 1


async def test_d29_due_jobs_are_taken_in_batches_the_longest_overdue_first(
    db: Any, templates: TemplateRegistry
) -> None:
    t = now()
    await db.dynamic_jobs.insert_many(
        [
            {"name": str(n), "template_type": "echo", "enabled": True, "nextRunAt": t - timedelta(seconds=n)}
            for n in range(150)
        ]
    )
    ready = await JobRegistryService(db).get_jobs_ready_to_run()
    assert len(ready) == 100
    assert ready[0]["name"] == "149"


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
