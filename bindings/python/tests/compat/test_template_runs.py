"""Templates of any class, run by `UnifiedScheduler` over a store in a file."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from unified_scheduler_engine import Manual
from unified_scheduler_engine.compat import (
    JobResult,
    TemplateRegistry,
    UnifiedScheduler,
)
from waiting import ended, engine_of, until

from .templates import Foreign


async def test_templates_of_the_backends_own_classes_run(
    scheduler: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    foreign = Foreign()
    engine = await engine_of(scheduler)
    templates.register(foreign)  # Long after the start.
    await until(lambda: engine.core.target("foreign"))
    job = await engine.create_job("f", "foreign", Manual(), parameters={"n": 1})
    run = await ended(engine, await engine.trigger(job))
    assert run.status == "success"
    assert run.message == "done"
    assert foreign.hooks == ["pre_execute", "execute", "post_execute"]
    assert run.duration is not None
    assert run.duration < 90
    foreign.raises = ValueError("bad")
    run = await ended(engine, await engine.trigger(job))
    assert (run.status, run.message) == ("failed", "caught bad")
    assert run.error is not None
    assert (run.error.kind, run.error.message) == ("ValueError", "bad")
    assert run.error.trace is not None
    assert "templates.py" in run.error.trace
    foreign.raises, foreign.post_raises = None, True
    run = await ended(engine, await engine.trigger(job))
    assert run.status == "success"
    assert "after the work" in run.warnings[0]


async def test_the_registry_of_the_backend_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    from unified_scheduler_engine.compat import registry

    class Theirs:
        def list_templates(self) -> list[dict[str, str]]:
            return [{"type": "foreign", "name": "Foreign"}]

        def get(self, kind: str) -> Any:
            return foreign if kind == "foreign" else None

    foreign, theirs = Foreign(), Theirs()
    module = types.ModuleType("job_templates.registry")
    module.get_template_registry = lambda: theirs  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "job_templates.registry", module)
    assert registry.find_registry() is theirs
    assert registry.templates_of(theirs) == {"foreign": foreign}
    ours = TemplateRegistry()
    assert registry.find_registry(ours) is ours


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (None, "failed", "the template 'echo' answered NoneType, which is no JobResult"),
        (7, "failed", "the template 'echo' answered int, which is no JobResult"),
        ({"status": "completed", "message": "m"}, "completed", "m"),
        (JobResult("partial_success", "m", errors=None), "partial_success", "m"),
        (JobResult("skipped", "m"), "skipped", "m"),
        (JobResult("exploded", "m"), "failed", "m"),
    ],
)
async def test_what_a_template_answers_is_stored(
    scheduler: UnifiedScheduler, templates: TemplateRegistry, answer: Any, status: str, message: str
) -> None:
    echo = templates.get("echo")
    echo.answers = answer
    if answer is None:

        async def nothing(context: Any) -> None:
            return None

        echo.execute = nothing
    engine = await engine_of(scheduler)
    job = await engine.create_job("e", "echo", Manual())
    run = await ended(engine, await engine.trigger(job))
    assert (run.status, run.message) == (status, message)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, MemoryError, ValueError])
async def test_whatever_a_template_raises_ends_its_run_alone_and_keeps_its_trace(
    scheduler: UnifiedScheduler, templates: TemplateRegistry, kind: type[BaseException]
) -> None:
    echo = templates.get("echo")
    echo.raises = kind("out of \ud800 paper \x00")
    engine = await engine_of(scheduler)
    job = await engine.create_job("e", "echo", Manual())
    run = await ended(engine, await engine.trigger(job))
    assert run.status == "failed"
    assert run.error is not None
    assert run.error.kind == kind.__name__
    assert "out of ? paper" in run.error.message
    assert run.error.trace is not None
    assert "in execute" in run.error.trace
    echo.raises = None
    assert (await ended(engine, await engine.trigger(job))).status == "success"
    assert scheduler.is_running
    await until(lambda: scheduler.trouble is None)


async def test_parameters_say_who_triggered_and_are_a_copy(
    scheduler: UnifiedScheduler, templates: TemplateRegistry
) -> None:
    engine = await engine_of(scheduler)
    job = await engine.create_job("e", "echo", Manual(), parameters={"times": 2})
    await ended(engine, await engine.trigger(job, actor="bob"))
    context = templates.get("echo").calls[0]
    assert context.parameters == {"times": 2, "triggered_by": "manual:bob"}
    assert context.triggered_by == "manual:bob"
    assert context.params is context.parameters
    assert context.attempt == 1
    assert context.scheduled_for is not None
    assert (await engine.job_of(job)).parameters == {"times": 2}
