"""A server for the sample backend; see `bindings/python/tests/compat/mongod.py`."""

import importlib.util
import os
import uuid
from pathlib import Path

import pymongo
import pytest

HELPER = Path(__file__).parents[2] / "bindings" / "python" / "tests" / "compat" / "mongod.py"


def _helper():
    spec = importlib.util.spec_from_file_location("compat_mongod", HELPER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def mongodb_url():
    """A server, without a database."""
    given = os.environ.get("TEST_MONGODB_URL")
    if given:
        yield given.partition("?")[0].rstrip("/")
        return
    helper = _helper()
    if helper.binary() is None:
        pytest.fail("there is no MongoDB server: set TEST_MONGODB_URL, or MONGOD to where mongod is")
    with helper.Mongod() as server:
        yield server.url


@pytest.fixture
def db(mongodb_url):
    """A fresh database."""
    name = f"backend_{uuid.uuid4().hex[:12]}"
    with pymongo.MongoClient(mongodb_url) as client:
        yield client[name]
        client.drop_database(name)
