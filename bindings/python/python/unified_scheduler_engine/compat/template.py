"""The base class of templates, with the hooks around an execution.

The base keeps nothing in the instance, because subclasses seldom call its `__init__`. One instance serves all
executions, at the same time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from ._schema import wrapped
from .context import JobExecutionContext, JobResult


class JobTemplate(ABC):
    """A kind of job: what it does, and which parameters it takes."""

    template_type: ClassVar[str] = "base_template"
    template_name: ClassVar[str] = "Base Template"
    template_description: ClassVar[str] = "Base job template"
    category: ClassVar[str] = "general"
    icon: ClassVar[str] = "⚙️"
    estimated_duration: ClassVar[str] = "Unknown"
    resource_usage: ClassVar[str] = "medium"
    risk_level: ClassVar[str] = "low"
    #: Whether running it twice does no harm. Only then do stored retry defaults count.
    retry_safe: ClassVar[bool] = False

    @abstractmethod
    async def execute(self, context: JobExecutionContext) -> JobResult:
        """Does the work."""

    @abstractmethod
    def validate_params(self, params: dict[str, Any]) -> tuple[bool, str | None]:
        """Whether the parameters can be used, else why not. It may mend them in place: what is stored is
        what they are afterwards."""

    @abstractmethod
    def get_schema(self) -> dict[str, Any]:
        """The parameters: as a JSON Schema, or only its properties."""

    async def pre_execute(self, context: JobExecutionContext) -> bool:
        """Before the work; false calls it off."""
        context.log("info", f"Starting job execution: {context.job_name}")
        return True

    async def post_execute(self, context: JobExecutionContext, result: JobResult) -> None:
        """After the work, whatever it came to."""
        context.log("info", f"Job execution completed: {result.status}")

    async def on_error(self, context: JobExecutionContext, error: Exception) -> JobResult:
        """After an exception: what is recorded in its place."""
        context.log("error", f"Job execution failed: {error}")
        return JobResult("failed", f"Job execution failed: {error}", errors=[str(error)])

    def get_metadata(self) -> dict[str, Any]:
        """What pages show of it."""
        return {
            "_id": self.template_type,
            "type": self.template_type,
            "name": self.template_name,
            "description": self.template_description,
            "category": self.category,
            "icon": self.icon,
            "estimated_duration": self.estimated_duration,
            "resource_usage": self.resource_usage,
            "risk_level": self.risk_level,
            "parameters_schema": wrapped(self.get_schema()),
        }
