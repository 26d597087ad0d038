"""What is needed of a database handle, whichever driver made it: Motor, or PyMongo's own async one.

Neither is imported unless a handle of it is used: `bson` is there then too.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from ._ids import is_object_id

JOBS = "dynamic_jobs"
EXECUTIONS = "job_executions"


def object_id(text: object) -> Any:
    """An ObjectId; `None` where the text is none."""
    if not is_object_id(text):
        return None
    return import_module("bson").ObjectId(str(text))


def new_object_id() -> Any:
    """A fresh ObjectId."""
    return import_module("bson").ObjectId()


def job_key(job_id: object) -> dict[str, Any] | None:
    """The filter for a job by its id, as text or as it is stored; `None` where there can be none."""
    key = object_id(job_id)
    if key is not None:
        return {"_id": key}
    if not isinstance(job_id, (str, int)) or job_id == "":
        return None
    text = str(job_id)
    # Some scripts gave their documents texts or numbers.
    return {"_id": {"$in": [text, int(text)]}} if text.isascii() and text.isdigit() else {"_id": text}


async def page(cursor: Any, limit: int) -> list[dict[str, Any]]:
    """At most so many documents of a cursor; of `aggregate`, Motor gives one and PyMongo a promise of it."""
    if inspect.isawaitable(cursor):
        cursor = await cursor
    found: list[dict[str, Any]] = await cursor.to_list(limit)
    return found


def has_types(value: Any) -> bool:
    """Whether a JSON value holds what may stand for a type that JSON does not have."""
    if isinstance(value, Mapping):
        return any(str(key).startswith("$") or has_types(item) for key, item in value.items())
    return isinstance(value, list) and any(has_types(item) for item in value)


async def parameters_of(db: Any, job_id: str) -> dict[str, Any] | None:
    """The parameters of a job exactly as they are stored."""
    key = job_key(job_id)
    if key is None:
        return None
    document = await db[JOBS].find_one(key, {"parameters": 1})
    parameters = (document or {}).get("parameters")
    return dict(parameters) if isinstance(parameters, Mapping) else None
