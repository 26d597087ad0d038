"""Real servers for each kind of store: those that the environment names."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

#: What each kind of store is found by.
VARIABLES = {
    "postgres": "TEST_POSTGRES_URL",
    "redis": "TEST_REDIS_URL",
    "redis-cluster": "TEST_REDIS_CLUSTER_URL",
    "mongodb": "TEST_MONGODB_URL",
    "mongodb-replica": "TEST_MONGODB_REPLICA_URL",
}

KINDS = ("memory", "sqlite", *VARIABLES)


def url_of(kind: str, folder: Path) -> str:
    """The URL of a fresh store; fails where its server is not named."""
    if kind == "memory":
        return "memory:"
    if kind == "sqlite":
        return f"sqlite://{folder}/jobs.db"
    given = os.environ.get(VARIABLES[kind])
    if not given:
        pytest.fail(f"there is no server for {kind}: set {VARIABLES[kind]}, or run `cargo xtask python`")
    fresh = f"py_{uuid.uuid4().hex[:12]}"
    if kind.startswith("mongodb"):
        place, mark, options = given.partition("?")
        return f"{place.rpartition('/')[0]}/{fresh}{mark}{options}"
    return f"{given}{'&' if '?' in given else '?'}namespace={fresh}"
