"""Ours in its place."""

from unified_scheduler_engine import JobRegistryService

__all__ = ["JobRegistryService"]
