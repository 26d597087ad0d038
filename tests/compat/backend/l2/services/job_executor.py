"""Ours in its place."""

from unified_scheduler_engine import JobExecutor

__all__ = ["JobExecutor"]
