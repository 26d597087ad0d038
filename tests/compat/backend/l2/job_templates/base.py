"""Ours in its place."""

from unified_scheduler_engine import JobExecutionContext, JobResult, JobTemplate

__all__ = ["JobExecutionContext", "JobResult", "JobTemplate"]
