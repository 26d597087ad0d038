"""See `unified_scheduler_engine.apscheduler`."""

from unified_scheduler_engine.apscheduler import HANDLER, Imported, import_jobs, register

__all__ = ["HANDLER", "Imported", "import_jobs", "register"]
