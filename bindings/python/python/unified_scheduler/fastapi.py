"""See `unified_scheduler_engine.fastapi`."""

from unified_scheduler_engine.fastapi import SchedulerDep, get_scheduler, lifespan

__all__ = ["SchedulerDep", "get_scheduler", "lifespan"]
