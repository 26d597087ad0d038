"""From what a handler returned or raised to the record that is stored of it.

JSON can't carry everything that Python can. What it can't is converted, never refused: a finished job must
not fail because of what it says about itself.
"""

from __future__ import annotations

import dataclasses
import json
import math
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from enum import Enum
from types import TracebackType
from typing import Any

from ._errors import RetryLater

#: The most that is kept of one result, in characters.
MAX_RESULT = 1024 * 1024
#: The most that is kept of one traceback.
MAX_TRACE = 64 * 1024
#: How deep a result may be nested.
MAX_DEPTH = 50

_CUT = "… (cut: it was longer than is kept)"


@dataclass
class Result:
    """What a handler answers when it wants to say more than one line.

    >>> Result("all there", records_processed=3).status
    'success'
    """

    message: str = ""
    status: str = "success"
    details: Any = None
    records_processed: int = 0
    records_affected: int = 0
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    #: How long the work proper took; measured by the engine when not given.
    duration_seconds: float | None = None


class _Budget:
    """What is left of the characters that may be kept."""

    __slots__ = ("cut", "left")

    def __init__(self, left: int) -> None:
        self.left = left
        self.cut = False

    def text(self, value: str) -> str:
        value = to_text(value)
        if len(value) > self.left:
            value = value[: max(self.left, 0)] + _CUT
            self.cut = True
        self.left -= len(value) + 4
        return value


def to_text(value: object) -> str:
    """Text that UTF-8 can carry; never raises.

    >>> to_text("a\\ud800b")
    'a?b'
    """
    try:
        text = value if isinstance(value, str) else str(value)
    except Exception:
        text = f"<a {type(value).__name__} that can't be shown>"
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-8", "replace").decode()
    return text


def _plain(value: Any, budget: _Budget, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        budget.left -= 4
        return value
    if isinstance(value, Enum):
        return _plain(value.value, budget, depth)
    if isinstance(value, str):
        return budget.text(value)
    if isinstance(value, int):
        budget.left -= 8
        return int(value) if -(2**63) <= value < 2**64 else budget.text(str(value))
    if isinstance(value, float):
        budget.left -= 8
        return float(value) if math.isfinite(value) else None
    if isinstance(value, (datetime, date, time)):
        return budget.text(value.isoformat())
    if isinstance(value, timedelta):
        budget.left -= 8
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return budget.text(bytes(value).decode("utf-8", "backslashreplace"))
    if depth >= MAX_DEPTH:
        budget.cut = True
        return budget.text("…")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
    else:
        dump: Any = getattr(value, "model_dump", None)
        if callable(dump):
            value = dump()
    if isinstance(value, Mapping):
        return _plain_mapping(value, budget, depth)
    if isinstance(value, (list, tuple, set, frozenset)):
        return _plain_list(value, budget, depth)
    return budget.text(to_text(value))


def _plain_mapping(value: Mapping[Any, Any], budget: _Budget, depth: int) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, item in value.items():
        if budget.left <= 0:
            budget.cut = True
            break
        # The key first: a value may use up what is left.
        name = budget.text(key if isinstance(key, str) else to_text(key))
        plain[name] = _plain(item, budget, depth + 1)
    return plain


def _plain_list(value: Iterable[Any], budget: _Budget, depth: int) -> list[Any]:
    plain: list[Any] = []
    for item in value:
        if budget.left <= 0:
            budget.cut = True
            break
        plain.append(_plain(item, budget, depth + 1))
    return plain


def to_json(value: Any, limit: int = MAX_RESULT) -> str:
    """Any value as JSON, converted where it must be, cut where it is too long.

    >>> to_json({"a": {1}, "b": float("nan"), 3: b"x"})
    '{"a":[1],"b":null,"3":"x"}'
    """
    return json.dumps(_plain(value, _Budget(limit), 0), ensure_ascii=False, separators=(",", ":"))


def _texts(values: object) -> list[str]:
    if values is None:
        return []
    if isinstance(values, str) or not isinstance(values, Iterable):
        return [to_text(values)]
    return [to_text(value) for value in values]


def _count(value: object) -> int:
    if isinstance(value, (int, float)) and math.isfinite(value):
        return max(-(2**63), min(2**63 - 1, int(value)))
    return 0


def _record(get: Any, *, lenient: bool) -> str:
    """A record from whatever has the fields of one."""
    budget = _Budget(MAX_RESULT)
    status = get("status", "success")
    duration = get("duration_seconds", None)
    record: dict[str, Any] = {
        "status": to_text(status.value if isinstance(status, Enum) else status),
        "message": budget.text(to_text(get("message", "") or "")),
        "records_processed": _count(get("records_processed", 0)),
        "records_affected": _count(get("records_affected", 0)),
        "errors": [budget.text(text) for text in _texts(get("errors", None))[:1000]],
        "warnings": [budget.text(text) for text in _texts(get("warnings", None))[:1000]],
    }
    details = get("details", None)
    if details is not None:
        record["details"] = _plain(details, budget, 0)
    if isinstance(duration, (int, float)) and math.isfinite(duration) and duration >= 0 and not lenient:
        record["duration_seconds"] = duration
    if budget.cut:
        record["warnings"].append("the result was longer than is kept, and was cut")
    return json.dumps(record, ensure_ascii=False)


class Prepared(str):
    """A record that is one already."""

    __slots__ = ()


def record_of(value: Any) -> str | None:
    """The record of what a handler returned, as JSON; `None` for a success without a word.

    >>> record_of("3 sent")
    '{"message":"3 sent"}'
    """
    if value is None:
        return None
    if isinstance(value, Prepared):
        return value
    if isinstance(value, Result):
        return _record(lambda name, default: getattr(value, name, default), lenient=False)
    if isinstance(value, str):
        budget = _Budget(MAX_RESULT)
        return json.dumps({"message": budget.text(value)}, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, Mapping):
        if "status" in value and "message" in value:
            return _record(value.get, lenient=True)
        return _record({"details": value}.get, lenient=True)
    if hasattr(value, "status") and hasattr(value, "message"):
        return _record(lambda name, default: getattr(value, name, default), lenient=True)
    if isinstance(value, (bool, int, float)):
        return _record({"message": to_text(value)}.get, lenient=True)
    return _record({"details": value}.get, lenient=True)


def failure_of(error: BaseException, skip: int = 0) -> str:
    """The record of what a handler raised; `skip` frames of ours are left out."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    message = to_text(error)
    record: dict[str, Any] = {
        "error": {"kind": name, "message": message[:MAX_TRACE] or name, "trace": _trace(error, skip)},
    }
    if isinstance(error, RetryLater):
        record["retry_after"] = max(error.after.total_seconds(), 0.0)
    return json.dumps(record, ensure_ascii=False)


def _trace(error: BaseException, skip: int) -> str:
    tb: TracebackType | None = error.__traceback__
    for _ in range(skip):
        tb = tb.tb_next if tb is not None else None
    try:
        text = to_text("".join(traceback.format_exception(type(error), error, tb)))
    except Exception as also:
        text = f"the traceback can't be shown: {type(also).__name__}"
    # The end tells more than the beginning.
    return text if len(text) <= MAX_TRACE else "…\n" + text[-MAX_TRACE:]
