"""The backend's own base class: it knows nothing of any scheduler."""

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import datetime

logger = logging.getLogger(__name__)


@dataclass
class JobExecutionContext:
    job_id: str
    job_name: str
    parameters: dict
    db: object
    triggered_by: str = "scheduler"
    execution_id: str = None
    logs: list = field(default_factory=list)

    def log(self, level, message, **kwargs):
        self.logs.append({"timestamp": datetime.utcnow(), "level": level, "message": message, **kwargs})
        getattr(logger, level.lower(), logger.info)(f"[Job: {self.job_name}] {message}")


@dataclass
class JobResult:
    status: str
    message: str
    details: dict = field(default_factory=dict)
    records_processed: int = 0
    records_affected: int = 0
    errors: list = field(default_factory=list)
    warnings: list = field(default_factory=list)
    duration_seconds: float = 0.0


class JobTemplate(ABC):
    template_type = "base_template"
    template_name = "Base"
    template_description = ""
    category = "general"
    icon = "x"
    estimated_duration = "Unknown"
    resource_usage = "medium"
    risk_level = "low"

    @abstractmethod
    async def execute(self, context): ...

    @abstractmethod
    def validate_params(self, params): ...

    @abstractmethod
    def get_schema(self): ...

    async def pre_execute(self, context):
        context.log("info", f"Starting job execution: {context.job_name}")
        return True

    async def post_execute(self, context, result):
        context.log("info", f"Job execution completed: {result.status}")

    async def on_error(self, context, error):
        context.log("error", f"Job execution failed: {error}")
        return JobResult("failed", f"Job execution failed: {error}", errors=[str(error)])

    def get_metadata(self):
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
            "parameters_schema": self.get_schema(),
        }
