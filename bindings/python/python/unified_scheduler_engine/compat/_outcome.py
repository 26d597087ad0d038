"""What a template answered, as something that can be stored.

An answer is whatever has the attributes of a `JobResult`, or a mapping with its keys. Anything else is a
failure that names the template. What JSON and BSON can't carry is converted; a finished execution never fails
over what it says of itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from typing import Any

from .._results import Prepared, failure_of, record_of, to_json, to_text
from .context import JobResult

OK = frozenset({"success", "completed"})
PART = frozenset({"partial", "partial_success"})
NEUTRAL = frozenset({"skipped", "cancelled"})
OPEN = frozenset({"running", "pending"})

_KEYS = tuple(JobResult("", "").to_dict())


def class_of(status: object) -> str:
    """`ok`, `part`, `neutral`, `open` or `bad`; what is unknown is bad.

    >>> class_of("completed"), class_of("skipped"), class_of("exploded")
    ('ok', 'neutral', 'bad')
    """
    for name, words in (("ok", OK), ("part", PART), ("neutral", NEUTRAL), ("open", OPEN)):
        if status in words:
            return name
    return "bad"


def result_of(value: Any, template_type: str) -> Any:
    """The answer as an object with the attributes of a `JobResult`."""
    if isinstance(value, Mapping) and "status" in value:
        known = {key: value[key] for key in _KEYS if key in value}
        return JobResult(**{"message": "", **known})
    if hasattr(value, "status") and hasattr(value, "message"):
        return value
    return JobResult(
        "failed",
        f"the template '{template_type}' answered {type(value).__name__}, which is no JobResult",
        errors=[f"the template '{template_type}' answered {type(value).__name__}"],
    )


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    try:
        return [to_text(item) for item in value]
    except TypeError:
        return [to_text(value)]


def _count(value: Any) -> int:
    try:
        return max(-(2**63), min(2**63 - 1, int(value)))
    except (TypeError, ValueError, OverflowError):
        return 0


def stored(result: Any) -> dict[str, Any]:
    """The eight fields, of types that every database and every page can take.

    >>> stored(JobResult("success", "done", {"seen": {1}}, errors=None))["details"]
    {'seen': [1]}
    """
    status = getattr(result, "status", "failed")
    message = getattr(result, "message", "")
    details = json.loads(to_json(getattr(result, "details", None)))
    if details is None:
        details = {}
    return {
        "status": to_text(status.value if isinstance(status, Enum) else status),
        "message": to_text(message if message is not None else ""),
        "details": details if isinstance(details, dict) else {"value": details},
        "records_processed": _count(getattr(result, "records_processed", 0)),
        "records_affected": _count(getattr(result, "records_affected", 0)),
        "errors": _texts(getattr(result, "errors", None)),
        "warnings": _texts(getattr(result, "warnings", None)),
        "duration_seconds": _seconds(getattr(result, "duration_seconds", 0.0)),
    }


def _seconds(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if 0.0 <= number < 1e12 else 0.0


def record(result: Any, error: BaseException | None) -> Prepared:
    """The answer as the engine takes it, with the exception behind it, if there was one."""
    told = json.loads(record_of(result) or "{}")
    if error is not None and class_of(told.get("status")) == "bad":
        told["error"] = json.loads(failure_of(error))["error"]
    return Prepared(json.dumps(told, ensure_ascii=False))
