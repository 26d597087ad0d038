"""What the tests of the existing surface share: a MongoDB server, a handle of each driver, templates."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import mongod
import pymongo
import pytest
import pytest_asyncio
from unified_scheduler_engine import compat
from unified_scheduler_engine.compat import registry as registry_module
from unified_scheduler_engine.compat import unified

from .templates import Echo


@pytest_asyncio.fixture(autouse=True)
async def none_is_left() -> AsyncIterator[None]:
    """A process has one scheduler: what a test that failed has left is stopped, for the sake of the next."""
    yield
    compat.set_unified_scheduler(None)
    left = None if unified._running is None else unified._running[1]()
    if left is not None:
        await left.stop()


@pytest.fixture(scope="session")
def mongodb_url() -> Iterator[str]:
    """A server, without a database."""
    yield from mongod.provided("TEST_MONGODB_URL")


def driver_names() -> list[str]:
    """The drivers that are installed."""
    found = []
    try:
        import motor.motor_asyncio  # noqa: F401

        found.append("motor")
    except ImportError:
        pass
    if hasattr(pymongo, "AsyncMongoClient"):
        found.append("pymongo")
    return found


@pytest_asyncio.fixture(params=driver_names())
async def db(request: pytest.FixtureRequest, mongodb_url: str) -> AsyncIterator[Any]:
    """A fresh database, as a handle of Motor and of PyMongo."""
    name = f"compat_{uuid.uuid4().hex[:12]}"
    if request.param == "motor":
        from motor.motor_asyncio import AsyncIOMotorClient

        client: Any = AsyncIOMotorClient(mongodb_url)
        yield client[name]
        client.close()
    else:
        async with pymongo.AsyncMongoClient(mongodb_url) as client:
            yield client[name]
    with pymongo.MongoClient[Any](mongodb_url) as plain:
        plain.drop_database(name)


@pytest.fixture
def templates(monkeypatch: pytest.MonkeyPatch) -> compat.TemplateRegistry:
    """A registry of the process with one template in it."""
    fresh = compat.TemplateRegistry()
    monkeypatch.setattr(registry_module, "_registry", fresh)
    fresh.register(Echo())
    return fresh


@pytest_asyncio.fixture
async def scheduler(tmp_path: Any, templates: compat.TemplateRegistry) -> AsyncIterator[Any]:
    """A scheduler over a store in a file, not started; of its database only the engine knows."""
    made = compat.UnifiedScheduler(None, store_url=f"sqlite://{tmp_path}/jobs.db", stop_grace=0.5, poll=0.2)
    yield made
    await made.stop()
