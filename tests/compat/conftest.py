"""Servers for the sample backend: alone, and as a replica set (`bindings/python/tests/mongod.py`)."""

import os
import uuid
from dataclasses import dataclass

import pymongo
import pytest

from shared import mongod

#: Where tests run: each level of adoption, each kind of server. With COMPAT_ALL all pairs of them.
CROSSED = [("l1", "alone"), ("l2", "replica")]
CROSSWISE = [("l1", "replica"), ("l2", "alone")]


@dataclass
class Place:
    """A level of adoption and a fresh database."""

    level: str
    kind: str
    url: str
    db: object

    @property
    def store_url(self):
        """The same database for the engine."""
        base, mark, options = self.url.partition("?")
        return f"{base.rstrip('/')}/{self.db.name}{mark}{options}"


def pytest_generate_tests(metafunc):
    """Tests take turns in which level runs on which server."""
    if "place" in metafunc.fixturenames:
        pairs = CROSSWISE if metafunc.definition.get_closest_marker("crosswise") else CROSSED
        if os.environ.get("COMPAT_ALL"):
            pairs = CROSSED + CROSSWISE
        metafunc.parametrize("place", pairs, indirect=True, ids=["-".join(pair) for pair in pairs])


@pytest.fixture(scope="session")
def alone():
    """A server without a replica set."""
    yield from mongod.provided("TEST_MONGODB_URL")


@pytest.fixture(scope="session")
def replica():
    """A replica set of one."""
    yield from mongod.provided("TEST_MONGODB_REPLICA_URL", replica_set="rs0")


@pytest.fixture
def place(request):
    """A level and a fresh database on one of the servers."""
    level, kind = request.param
    url = request.getfixturevalue(kind)
    name = f"backend_{uuid.uuid4().hex[:12]}"
    with pymongo.MongoClient(url) as client:
        yield Place(level, kind, url, client[name])
        client.drop_database(name)
