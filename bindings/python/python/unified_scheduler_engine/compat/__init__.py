"""The surface of the existing backend: its module, its services, its templates, over this engine."""

from __future__ import annotations

from .context import JobExecutionContext, JobResult
from .job_executor import JobExecutor
from .job_registry import JobRegistryService
from .module import (
    get_unified_scheduler,
    initialize_unified_scheduler,
    set_unified_scheduler,
    shutdown_unified_scheduler,
)
from .registry import TemplateRegistry, get_template_registry, initialize_templates
from .static import ScheduledJob
from .template import JobTemplate
from .unified import UnifiedScheduler

__all__ = [
    "JobExecutionContext",
    "JobExecutor",
    "JobRegistryService",
    "JobResult",
    "JobTemplate",
    "ScheduledJob",
    "TemplateRegistry",
    "UnifiedScheduler",
    "get_template_registry",
    "get_unified_scheduler",
    "initialize_templates",
    "initialize_unified_scheduler",
    "set_unified_scheduler",
    "shutdown_unified_scheduler",
]
