"""What the records say when a test is over."""

from contextlib import contextmanager

from unified_scheduler_engine import SyncScheduler


@contextmanager
def engine_of(place):
    """An engine that does not run, to ask."""
    scheduler = SyncScheduler(place.store_url)
    try:
        yield scheduler
    finally:
        scheduler.stop()


def verified(place):
    """A replay of the whole history: was every due time started, or skipped with a reason?"""
    with engine_of(place) as engine:
        return engine.verify()


def assert_whole(place):
    """No due time is without a record, and none has two; nothing is left running."""
    report = verified(place)
    assert report.is_whole, report.problems
    assert report.occurrences > 0
    assert place.db.job_executions.count_documents({"status": "running"}) == 0
