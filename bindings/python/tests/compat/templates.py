"""Templates of the tests. Some are of classes that know nothing of ours."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from unified_scheduler_engine.compat import JobExecutionContext, JobResult, JobTemplate


class Echo(JobTemplate):
    """Says what it was given; its schema is flat."""

    template_type = "echo"
    template_name = "Echo"
    category = "tests"

    def __init__(self) -> None:
        self.calls: list[JobExecutionContext] = []
        self.hooks: list[str] = []
        self.sleep = 0.0
        self.gate: asyncio.Event | None = None
        self.raises: BaseException | None = None
        self.answers: Any = None

    def hold(self) -> asyncio.Event:
        """Lets no run end before what this gives is set."""
        self.gate = asyncio.Event()
        return self.gate

    def get_schema(self) -> dict[str, Any]:
        return {
            "times": {"type": "integer", "label": "Times", "min": 1, "max": 9, "default": 1},
            "codes": {"type": "array", "items": {"type": "integer"}},
            "mode": {"type": "string", "enum": ["plain", "loud"]},
            "why": {"type": "string", "required_if": {"mode": "loud"}},
        }

    def validate_params(self, params: dict[str, Any]) -> tuple[bool, str | None]:
        if params.get("refuse"):
            return False, "it was asked to refuse"
        params.setdefault("times", 1)
        return True, None

    async def execute(self, context: JobExecutionContext) -> Any:
        self.calls.append(context)
        self.hooks.append("execute")
        context.log("INFO", f"echo {context.parameters.get('times')}")
        if self.sleep:
            await asyncio.sleep(self.sleep)
        if self.gate is not None:
            await self.gate.wait()
        if self.raises is not None:
            raise self.raises
        return JobResult("success", "echoed", {"seen": 1}) if self.answers is None else self.answers


@dataclass
class ForeignResult:
    """A result of the backend's own class."""

    status: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)
    records_processed: int = 0
    records_affected: int = 0
    errors: Any = None
    warnings: list[str] = field(default_factory=list)
    duration_seconds: float = 0.0


class Foreign:
    """A template of the backend's own base class, with all the hooks."""

    template_type = "foreign"
    template_name = "Foreign"
    template_description = "of another base class"
    category = "tests"
    icon = "x"
    estimated_duration = "1 s"
    resource_usage = "low"
    risk_level = "low"

    def __init__(self) -> None:
        self.hooks: list[str] = []
        self.post_raises = False
        self.pre_raises = False
        self.pre_answers = True
        self.raises: BaseException | None = None
        self.seen: Any = None

    def get_schema(self) -> dict[str, Any]:
        return {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}, "required": ["n"]}

    def validate_params(self, params: dict[str, Any]) -> tuple[bool, str | None]:
        return True, None

    async def pre_execute(self, context: Any) -> bool:
        self.hooks.append("pre_execute")
        if self.pre_raises:
            raise RuntimeError("not ready")
        return self.pre_answers

    async def execute(self, context: Any) -> ForeignResult:
        self.hooks.append("execute")
        if self.raises is not None:
            raise self.raises
        return ForeignResult("success", "done", duration_seconds=99.0)

    async def post_execute(self, context: Any, result: Any) -> None:
        self.hooks.append("post_execute")
        self.seen = result
        if self.post_raises:
            raise RuntimeError("after the work")

    async def on_error(self, context: Any, error: Exception) -> ForeignResult:
        self.hooks.append("on_error")
        return ForeignResult("failed", f"caught {error}", errors=[str(error)])
