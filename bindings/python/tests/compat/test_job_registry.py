"""`JobRegistryService` on a real server, with the handles of both drivers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from unified_scheduler_engine.compat import (
    JobRegistryService,
    TemplateRegistry,
)

from .documents import EVERY_MINUTE, made, now, stored


async def test_a_job_is_stored_in_the_form_of_the_existing_backend(
    db: Any, templates: TemplateRegistry
) -> None:
    before = now()
    job = await made(db, parameters={"times": 2}, description="d")
    document = await stored(db, job["_id"])
    assert set(document) == {
        "_id", "name", "description", "template_type", "parameters", "schedule", "enabled",
        "timeout_seconds", "retry_policy", "notifications", "created_by", "createdAt", "updatedAt",
        "lastRunAt", "nextRunAt", "lastStatus", "version",
    }  # fmt: skip
    assert document["schedule"] == EVERY_MINUTE
    assert document["retry_policy"] == {"max_retries": 3, "retry_delay_seconds": 300}
    assert before <= document["nextRunAt"] - timedelta(seconds=60) <= now()
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
    due = now() + timedelta(hours=7)
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
    before = now()
    moved = await service.update_job(job["_id"], {"schedule": {"type": "interval", "interval_seconds": 600}})
    assert moved is not None
    assert before <= moved["next_run_at"] - timedelta(seconds=600) <= now()


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


async def test_d27_numbers_that_come_as_texts_are_made_numbers(db: Any, templates: TemplateRegistry) -> None:
    job = await made(db, parameters={"codes": ["200", "201"], "times": "3"})
    assert job["parameters"] == {"codes": [200, 201], "times": 3}


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
