"""What the tests share: a scheduler that is stopped when its test ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import servers
from unified_scheduler_engine import Scheduler


@pytest_asyncio.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    """Not yet started; with short graces."""
    made = Scheduler("memory:", stop_grace=0.2, cancel_grace=0.5, report_every=0.02)
    yield made
    await made.stop()


@pytest.fixture(params=servers.KINDS)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh store of each kind."""
    return servers.url_of(request.param, tmp_path)


@pytest.fixture
def database(tmp_path: object) -> str:
    """The URL of a store that lasts."""
    return f"sqlite://{tmp_path}/jobs.db"
