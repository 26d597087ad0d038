"""Names, signatures and defaults of the existing surface: what code that was written for it relies on."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import unified_scheduler_engine
from unified_scheduler_engine import (
    JobExecutionContext,
    JobExecutor,
    JobRegistryService,
    JobResult,
    JobTemplate,
    ScheduledJob,
    TemplateRegistry,
    UnifiedScheduler,
)
from unified_scheduler_engine.compat import _schema as schema
from unified_scheduler_engine.compat._ids import object_id_of

from .templates import Echo

RESULT_KEYS = [
    "status",
    "message",
    "details",
    "records_processed",
    "records_affected",
    "errors",
    "warnings",
    "duration_seconds",
]


#: What the contract promises of each callable: its positional parameters with their defaults, and whether it
#: is awaited. What we take beyond that is keyword-only, and optional.
SIGNATURES: dict[str, str] = {
    "ScheduledJob": "(name, interval_seconds, func, is_async=True)",
    "ScheduledJob.should_run": "()",
    "ScheduledJob.update_next_run": "()",
    "UnifiedScheduler": "(db=None)",
    "UnifiedScheduler.add_job": "(name, interval_seconds, func, is_async=True)",
    "UnifiedScheduler.remove_job": "(name)",
    "UnifiedScheduler.enable_job": "(name)",
    "UnifiedScheduler.disable_job": "(name)",
    "UnifiedScheduler.run_job": "await (job)",
    "UnifiedScheduler.start": "await ()",
    "UnifiedScheduler.stop": "await ()",
    "UnifiedScheduler.wait_stopped": "await ()",
    "UnifiedScheduler.check_dynamic_jobs": "await ()",
    "UnifiedScheduler.get_job_status": "()",
    "get_unified_scheduler": "()",
    "set_unified_scheduler": "(instance)",
    "initialize_unified_scheduler": "await (db)",
    "shutdown_unified_scheduler": "await ()",
    "JobRegistryService": "(db)",
    "JobRegistryService.create_job": "await (job_definition, created_by)",
    "JobRegistryService.get_job": "await (job_id)",
    "JobRegistryService.delete_job": "await (job_id)",
    "JobRegistryService.list_jobs": (
        "await (filters=None, skip=0, limit=50, sort_by='created_at', sort_order=-1)"
    ),
    "JobRegistryService.update_job": "await (job_id, updates)",
    "JobRegistryService.get_jobs_ready_to_run": "await ()",
    "JobRegistryService.update_job_after_execution": "await (job_id, execution_result)",
    "JobRegistryService.get_job_executions": "await (job_id, limit=50, status_filter=None)",
    "JobExecutor": "(db)",
    "JobExecutor.execute_job": "await (job, triggered_by='scheduler')",
    "JobExecutor.execute_job_by_id": "await (job_id, triggered_by='manual')",
    "JobExecutor.get_execution": "await (execution_id)",
    "JobExecutor.list_executions": "await (filters=None, limit=50, skip=0)",
    "JobExecutor.delete_execution": "await (execution_id)",
    "JobExecutionContext": (
        "(job_id, job_name, parameters, db, triggered_by='scheduler', execution_id=None, logs=…)"
    ),
    "JobExecutionContext.log": "(level, message, **kwargs)",
    "JobResult": (
        "(status, message, details=…, records_processed=0, records_affected=0, errors=…, warnings=…,"
        " duration_seconds=0.0)"
    ),
    "JobResult.to_dict": "()",
    "JobTemplate.execute": "await (context)",
    "JobTemplate.validate_params": "(params)",
    "JobTemplate.get_schema": "()",
    "JobTemplate.pre_execute": "await (context)",
    "JobTemplate.post_execute": "await (context, result)",
    "JobTemplate.on_error": "await (context, error)",
    "JobTemplate.get_metadata": "()",
    "TemplateRegistry": "()",
    "TemplateRegistry.register": "(template)",
    "TemplateRegistry.unregister": "(template_type)",
    "TemplateRegistry.get": "(template_type)",
    "TemplateRegistry.list_templates": "()",
    "TemplateRegistry.exists": "(template_type)",
    "TemplateRegistry.get_by_category": "(category)",
    "TemplateRegistry.get_metadata": "(template_type=None)",
    "get_template_registry": "()",
    "initialize_templates": "()",
}


def signature_of(thing: Any, promised: int) -> str:
    """The positional parameters, as many as are promised; those beyond must be optional."""
    awaited = "await " if inspect.iscoroutinefunction(thing) else ""
    shown: list[str] = []
    for name, p in inspect.signature(thing).parameters.items():
        if name == "self":
            continue
        if p.kind is p.VAR_KEYWORD:
            shown += [] if len(shown) >= promised else [f"**{name}"]
        elif p.kind is p.KEYWORD_ONLY or len(shown) >= promised:
            assert p.default is not p.empty, f"{name} of {thing} must be optional"
        else:
            made = repr(p.default).startswith("<factory") or str(p.default) == "<factory>"
            default = "" if p.default is p.empty else "=…" if made else f"={p.default!r}"
            shown.append(name + default)
    return f"{awaited}({', '.join(shown)})"


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_a_signature_is_that_of_the_contract(name: str) -> None:
    found: Any = unified_scheduler_engine
    for part in name.split("."):
        found = getattr(found, part)
    promised = SIGNATURES[name]
    assert signature_of(found, promised.count(",") + (promised[-2] != "(")) == promised


def test_the_attributes_are_those_of_the_contract() -> None:
    job = ScheduledJob("a", 60, print)
    assert {"name", "interval_seconds", "func", "is_async", "last_run", "next_run", "enabled"} <= set(
        dir(job)
    )
    scheduler = UnifiedScheduler({"dynamic_jobs": 1})
    assert scheduler.db == {"dynamic_jobs": 1}
    assert scheduler.is_running is False
    scheduler.jobs["a"] = job
    assert "a" in scheduler.jobs
    assert scheduler.jobs["a"] is job
    assert (len(scheduler.jobs), list(scheduler.jobs.values()), list(scheduler.jobs.items())) == (
        1,
        [job],
        [("a", job)],
    )
    (status,) = scheduler.get_job_status()
    assert list(status)[:5] == ["name", "enabled", "interval_seconds", "last_run", "next_run"]
    assert datetime.fromisoformat(status["next_run"]).tzinfo is None
    del scheduler.jobs["a"]
    assert not scheduler.jobs
    db = {"dynamic_jobs": "jobs", "job_executions": "executions"}
    service = JobRegistryService(db)
    assert (service.db, service.jobs_collection, service.executions_collection) == (db, "jobs", "executions")
    executor = JobExecutor(db)
    assert (executor.db, executor.executions_collection) == (db, "executions")
    assert executor.template_registry is unified_scheduler_engine.get_template_registry()
    assert unified_scheduler_engine.unified_scheduler is unified_scheduler_engine.get_unified_scheduler()


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("template_type", "base_template"),
        ("category", "general"),
        ("estimated_duration", "Unknown"),
        ("resource_usage", "medium"),
        ("risk_level", "low"),
    ],
)
def test_class_attributes_of_templates_have_the_defaults_of_the_contract(name: str, default: str) -> None:
    assert getattr(JobTemplate, name) == default
    assert {"template_name", "template_description", "icon"} <= set(dir(JobTemplate))
    assert JobTemplate.__abstractmethods__ == {"execute", "validate_params", "get_schema"}


def test_a_scheduled_job_begins_as_the_contract_says() -> None:
    job = ScheduledJob("a", 60, print)
    assert (job.name, job.interval_seconds, job.func, job.is_async) == ("a", 60, print, True)
    assert job.last_run is None
    assert job.enabled
    assert isinstance(job.next_run, datetime)
    assert job.next_run.tzinfo is None
    assert job.should_run()
    job.update_next_run()
    assert not job.should_run()
    assert job.last_run is not None
    assert (job.next_run - job.last_run).total_seconds() == 60


def test_a_context_is_made_by_keyword_without_a_scheduler(caplog: pytest.LogCaptureFixture) -> None:
    context = JobExecutionContext(job_id="1", job_name="n", parameters={"a": 1}, db=None)
    assert (context.triggered_by, context.execution_id, context.logs) == ("scheduler", None, [])
    with caplog.at_level("DEBUG"):
        context.log("WARNING", "one", extra=1)
        context.log("nonsense", "two")
        context.log(level="error", message="three")
    assert [line["level"] for line in context.logs] == ["WARNING", "nonsense", "error"]
    assert context.logs[0]["extra"] == 1
    assert context.logs[0]["timestamp"].tzinfo is None
    levels = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert levels == [
        ("WARNING", "[Job: n] one"),
        ("INFO", "[Job: n] two"),
        ("ERROR", "[Job: n] three"),
    ]
    assert JobExecutionContext("1", "n", {}, None).logs is not context.logs


def test_a_result_has_exactly_eight_fields() -> None:
    assert list(JobResult("success", "m").to_dict()) == RESULT_KEYS
    assert JobResult("success", "m").details is not JobResult("success", "m").details


async def test_the_base_of_templates_holds_no_state_and_has_the_hooks() -> None:
    class Bare(JobTemplate):
        def __init__(self, needed: int) -> None:
            self.needed = needed

        async def execute(self, context: JobExecutionContext) -> JobResult:
            return JobResult("success", "m")

        def validate_params(self, params: dict[str, Any]) -> tuple[bool, str | None]:
            return True, None

        def get_schema(self) -> dict[str, Any]:
            return {}

    template = Bare(1)
    assert vars(template) == {"needed": 1}
    assert template.template_type == "base_template"
    metadata = template.get_metadata()
    assert list(metadata) == [
        "_id", "type", "name", "description", "category", "icon", "estimated_duration", "resource_usage",
        "risk_level", "parameters_schema",
    ]  # fmt: skip
    assert (metadata["category"], metadata["resource_usage"], metadata["risk_level"]) == (
        "general",
        "medium",
        "low",
    )
    context = JobExecutionContext("1", "n", {}, None)
    assert await template.pre_execute(context) is True
    await template.post_execute(context, JobResult("success", "m"))
    failed = await template.on_error(context, ValueError("bad"))
    assert (failed.status, failed.errors) == ("failed", ["bad"])
    assert [line["message"] for line in context.logs] == [
        "Starting job execution: n",
        "Job execution completed: success",
        "Job execution failed: bad",
    ]


def test_a_registry_registers_replaces_and_tells(caplog: pytest.LogCaptureFixture) -> None:
    registry, first, second = TemplateRegistry(), Echo(), Echo()
    registry.register(first)
    assert registry.get("echo") is first
    registry.register(second)
    assert registry.get("echo") is second
    assert "registered again" in caplog.text
    assert registry.exists("echo")
    assert registry.list_templates() == ["echo"]
    assert registry.get_by_category("tests") == [second]
    assert registry.get_by_category("other") == []
    assert registry.get_metadata("echo")["name"] == "Echo"
    assert registry.get_metadata("nothing") == {}
    assert registry.get_metadata()["count"] == 1
    assert registry.unregister("echo")
    assert not registry.unregister("echo")
    assert registry.get("echo") is None


def test_both_dialects_of_schemas_are_wrapped_and_validated() -> None:
    flat = {
        "days": {"type": "integer", "min": 1, "max": 9, "label": "Days"},
        "to": {"required_if": {"mode": "x"}},
    }
    whole = {
        "type": "object",
        "properties": {"days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["days"],
    }
    assert schema.wrapped(flat) == {"type": "object", "properties": flat, "required": []}
    assert schema.wrapped(whole) == whole
    for dialect in (flat, whole):
        assert schema.faults(dialect, {"days": 0}) == ["days: 0 is less than 1"]
        assert schema.faults(dialect, {"days": 10}) == ["days: 10 is more than 9"]
        assert schema.faults(dialect, {"days": "x"}) == ["days: is no integer"]
        assert schema.faults(dialect, {"days": True}) == ["days: is no integer"]
        assert schema.faults(dialect, {"days": 5, "other": 1}) == []
    assert schema.faults(whole, {}) == ["days: is required"]
    assert schema.faults(flat, {"days": None}) == []
    assert schema.faults(flat, {"mode": "x"}) == ["to: is required"]


def test_ids_of_executions_sort_as_they_were_made() -> None:
    ids = ["01a20ad6-05ff-7000-b535-e2be8d3021a9", "01a20ad6-09e3-7000-9bb2-26b9ceefc88a"]
    assert [len(object_id_of(key)) for key in ids] == [24, 24]
    assert object_id_of(ids[0]) < object_id_of(ids[1])


def test_both_names_of_the_package_give_the_same_things() -> None:
    import unified_scheduler

    for name in unified_scheduler_engine.__all__:
        assert getattr(unified_scheduler, name) is getattr(unified_scheduler_engine, name), name
    assert sorted(unified_scheduler.__all__) == sorted(unified_scheduler_engine.__all__)


def test_a_local_module_of_the_packages_name_imports_from_the_other(tmp_path: Path) -> None:
    (tmp_path / "unified_scheduler.py").write_text(
        textwrap.dedent(
            """
            from unified_scheduler_engine import ScheduledJob, UnifiedScheduler, set_unified_scheduler
            MINE = True
            """
        )
    )
    code = (
        "import unified_scheduler as mine, unified_scheduler_engine as engine\n"
        "assert mine.MINE and mine.UnifiedScheduler is engine.UnifiedScheduler\n"
        "assert engine.unified_scheduler is None\n"
        "s = engine.UnifiedScheduler(None)\n"
        "mine.set_unified_scheduler(s)\n"
        "assert engine.unified_scheduler is s and engine.get_unified_scheduler() is s\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
