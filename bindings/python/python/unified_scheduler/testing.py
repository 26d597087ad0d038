"""See `unified_scheduler_engine.testing`."""

from unified_scheduler_engine.testing import TestScheduler

__all__ = ["TestScheduler"]
