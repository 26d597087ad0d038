"""The page of jobs that a list shows: filtered and sorted by what fields mean, however they are spelled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import _documents as documents
from . import _mongo

#: By which fields a list can be sorted that have more than one spelling.
_SORTS: dict[str, tuple[str, ...]] = {
    "created_at": documents.CREATED,
    "createdAt": documents.CREATED,
    "updated_at": documents.UPDATED,
    "updatedAt": documents.UPDATED,
    "next_run_at": ("nextRunAt", f"{documents.OURS}.due", *documents.HINTS),
    "nextRunAt": ("nextRunAt", f"{documents.OURS}.due", *documents.HINTS),
    "last_run_at": documents.LAST_RUN,
    "lastRunAt": documents.LAST_RUN,
    "last_status": documents.LAST_STATUS,
    "last_run_status": documents.LAST_STATUS,
    "lastStatus": documents.LAST_STATUS,
    "template_type": documents.TEMPLATE,
    "enabled": documents.ENABLED,
}

_DATES = frozenset({documents.CREATED, documents.UPDATED, documents.LAST_RUN, _SORTS["next_run_at"]})


def _effective(names: tuple[str, ...]) -> Any:
    """The first field that is there and not null, as an expression."""
    expression: Any = None
    for name in reversed(names):
        expression = {"$ifNull": [f"${name}", expression]}
    return expression


def _sorted_by(name: str) -> Any:
    names = _SORTS.get(name)
    if names is None:
        # A path, and never an operator.
        return f"${name.lstrip('$')}" if name.strip("$. ") else "$_id"
    expression = _effective(names)
    if names in _DATES:
        return {"$convert": {"input": expression, "to": "date", "onError": None, "onNull": None}}
    return expression


def _matching(filters: Mapping[str, Any]) -> list[dict[str, Any]]:
    stages: list[dict[str, Any]] = []
    enabled = filters.get("enabled")
    if enabled is not None:
        is_enabled = {"$eq": [_effective(documents.ENABLED), True]}
        stages.append({"$match": {"$expr": is_enabled if enabled else {"$not": [is_enabled]}}})
    kinds = filters.get("template_types")
    if isinstance(kinds, str):
        kinds = kinds.split(",")
    kinds = [str(kind).strip() for kind in kinds or () if str(kind).strip()]
    if not kinds and filters.get("template_type"):
        kinds = [str(filters["template_type"])]
    if kinds:
        found = {"$in": [_effective(documents.TEMPLATE), [{"$literal": kind} for kind in kinds]]}
        stages.append({"$match": {"$expr": found}})
    return stages


async def job_page(
    collection: Any,
    filters: Mapping[str, Any],
    *,
    skip: int,
    limit: int,
    sort_by: str,
    sort_order: int,
) -> tuple[list[dict[str, Any]], int]:
    """A page, and how many jobs there are on all of them."""
    matching = _matching(filters)
    if matching:
        counted = await _mongo.page(collection.aggregate([*matching, {"$count": "n"}]), 1)
        total = int(counted[0]["n"]) if counted else 0
    else:
        total = int(await collection.count_documents({}))
    order = -1 if sort_order < 0 else 1
    pipeline = [
        *matching,
        {"$addFields": {"_order": _sorted_by(sort_by)}},
        {"$sort": {"_order": order, "_id": order}},
        {"$skip": skip},
        {"$limit": limit},
        {"$project": {"_order": 0}},
    ]
    return await _mongo.page(collection.aggregate(pipeline), limit), total
