"""Templates: functions, pydantic models, and any object of the right shape."""

from __future__ import annotations

import asyncio
from typing import Any

import pydantic
import pytest
from unified_scheduler_engine import Context, InvalidError, Manual, Scheduler


async def test_a_template_with_a_schema_checks_parameters_and_runs(scheduler: Scheduler) -> None:
    schema = {
        "type": "object",
        "properties": {"days": {"type": "integer", "minimum": 1}},
        "required": ["days"],
    }

    @scheduler.template("cleanup", parameters=schema, category="database")
    async def cleanup(ctx: Context) -> str:
        """Removes what is old."""
        return f"older than {ctx.parameters['days']}"

    assert scheduler.templates()[0]["description"] == "Removes what is old."
    async with scheduler:
        job = await scheduler.create_job("tidy", "cleanup", Manual(), parameters={"days": 7})
        run = await scheduler.wait_for(await scheduler.trigger(job))
        assert run.message == "older than 7"
        with pytest.raises(InvalidError) as caught:
            await scheduler.create_job("bad", "cleanup", Manual(), parameters={"days": 0})
        assert caught.value.faults[0].field == "parameters.days"
        with pytest.raises(InvalidError, match="nothing is registered as `cleanip`"):
            await scheduler.create_job("typo", "cleanip", Manual())
        with pytest.raises(InvalidError):
            await scheduler.trigger(job, {"days": "x"})


@pytest.mark.parametrize("started", [False, True])
async def test_a_pydantic_model_gives_schema_check_and_instance(scheduler: Scheduler, started: bool) -> None:
    class Parameters(pydantic.BaseModel):  # type: ignore[name-defined,misc,unused-ignore]
        days: int = 30
        name: str

        @pydantic.field_validator("name")  # type: ignore[untyped-decorator,unused-ignore]
        @classmethod
        def lower(cls, value: str) -> str:
            if value == "forbidden":
                raise ValueError("not that one")
            return value.lower()

    @scheduler.template("clean", parameters=Parameters)
    def clean(ctx: Context, parameters: Any) -> str:
        assert isinstance(parameters, Parameters)
        return f"{parameters.name} {parameters.days}"

    if started:
        await scheduler.start()
    job = await scheduler.create_job("a", "clean", Manual(), parameters={"name": "LOGS"})
    assert job.parameters == {"days": 30, "name": "logs"}
    with pytest.raises(InvalidError, match="not that one"):
        await scheduler.create_job("b", "clean", Manual(), parameters={"name": "forbidden"})
    if started:
        assert (await scheduler.wait_for(await scheduler.trigger(job))).message == "logs 30"


class TheirTemplate:
    """A template of a program that does not know ours."""

    template_type = "custom"
    template_name = "Custom"
    category = "maintenance"
    risk_level = "high"

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def get_schema(self) -> dict[str, Any]:
        return {"days": {"type": "integer", "label": "Days", "default": 7}}

    def validate_params(self, params: dict[str, Any]) -> tuple[bool, str | None]:
        if params.get("days") == 13:
            return False, "13 brings bad luck"
        params["days"] = int(params.get("days", 7))
        return True, None

    async def execute(self, context: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        self.seen.append(context.parameters)
        return {"status": "partial_success", "message": "nearly", "records_processed": 3, "errors": ["one"]}


async def test_an_object_of_the_right_shape_is_a_template(scheduler: Scheduler) -> None:
    template = TheirTemplate()
    scheduler.register_template(template)
    (metadata,) = scheduler.templates()
    assert metadata["type"] == "custom" and metadata["risk_level"] == "high"
    assert metadata["parameters_schema"]["properties"]["days"]["label"] == "Days"
    async with scheduler:
        job = await scheduler.create_job("c", "custom", "0 3 * * *")
        assert job.parameters == {"days": 7}
        run = await scheduler.wait_for(await scheduler.trigger(job, actor="anna"))
        assert (run.status, run.message, run.triggered_by) == ("partial_success", "nearly", "manual:anna")
        assert run.document["result"]["errors"] == ["one"]
        with pytest.raises(InvalidError, match="bad luck"):
            await scheduler.create_job("d", "custom", Manual(), parameters={"days": 13})
        with pytest.raises(InvalidError):
            await scheduler.create_job("e", "custom", Manual(), parameters={"days": "7"})
    assert template.seen == [{"days": 7}]


async def test_without_the_schema_only_the_template_decides(scheduler: Scheduler) -> None:
    scheduler.register_template(TheirTemplate(), enforce_schema=False)
    async with scheduler:
        job = await scheduler.create_job("e", "custom", Manual(), parameters={"days": "7"})
        assert job.parameters == {"days": 7}


async def test_a_template_registered_while_it_runs_is_found(scheduler: Scheduler) -> None:
    async with scheduler:
        scheduler.register_template(TheirTemplate())
        job = await scheduler.create_job("c", "custom", Manual())
        assert (await scheduler.wait_for(await scheduler.trigger(job))).status == "partial_success"
        assert scheduler.unregister("custom")
        with pytest.raises(InvalidError):
            await scheduler.create_job("f", "custom", Manual())


async def test_a_schema_that_is_none_is_refused_at_once(scheduler: Scheduler) -> None:
    with pytest.raises(InvalidError, match="no JSON Schema"):
        scheduler.template("bad", parameters={"type": "object", "properties": {"a": {"type": "text"}}})(print)
