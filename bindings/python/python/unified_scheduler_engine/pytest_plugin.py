"""The pytest fixture `test_scheduler`: a scheduler whose time is moved by hand, not yet started.

```
async def test_the_report_is_sent(test_scheduler):
    test_scheduler.add_job(send_report, "cron", hour=3)
    async with test_scheduler:
        await test_scheduler.advance(days=1)
        assert [run.status for run in await test_scheduler.executions()] == ["success"]
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing import TestScheduler


@pytest.fixture
def test_scheduler() -> TestScheduler:
    """A scheduler on a manual clock that shows 2026-01-01T00:00:00Z."""
    from .testing import TestScheduler

    return TestScheduler()
