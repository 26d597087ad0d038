"""Times as the documents of the existing backend have them: naive datetimes in UTC, of whole milliseconds."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any


def utcnow() -> datetime:
    """Now, naive, in UTC."""
    return datetime.now(timezone.utc).replace(tzinfo=None)


def naive(value: Any) -> datetime | None:
    """An instant as a naive datetime in UTC; `None` for what is none. A text without a zone is in UTC.

    >>> naive("2026-01-02T05:04:05+02:00").isoformat()
    '2026-01-02T03:04:05'
    >>> naive("yesterday") is None
    True
    """
    if isinstance(value, str):
        text = value.strip()
        try:
            value = datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in ("z", "Z") else text)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    if value.tzinfo is None:
        return value
    return value.astimezone(timezone.utc).replace(tzinfo=None)


def aware(value: datetime) -> datetime:
    """The same instant with its zone; a naive one is in UTC."""
    return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value


def to_millis(value: datetime) -> datetime:
    """What a document keeps of an instant."""
    return value.replace(microsecond=value.microsecond // 1000 * 1000)
