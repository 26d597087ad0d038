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

from .templates import Echo


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
        client = pymongo.AsyncMongoClient(mongodb_url)
        yield client[name]
        await client.close()
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
    made = compat.UnifiedScheduler(
        None, store_url=f"sqlite://{tmp_path}/jobs.db", stop_grace=0.5, poll=0.2, lease=2.0
    )
    yield made
    await made.stop()
