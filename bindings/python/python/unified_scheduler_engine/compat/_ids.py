"""Ids of executions: the UUIDs of the engine, and the ObjectIds that their documents have.

The same rule as in the MongoDB store: of a UUID of ours follows an ObjectId that sorts alike; one that the
existing backend made is held whole in a UUID of version 8.
"""

from __future__ import annotations

import re
import uuid

_MARK = 0x02A5A5A5
_HEX = re.compile(r"[0-9a-f]{24}")


def object_id_of(execution_id: str) -> str:
    """The 24 hexadecimal digits of the document of an execution.

    >>> object_id_of(execution_id_of("64b0c0ffee64b0c0ffee64b0"))
    '64b0c0ffee64b0c0ffee64b0'
    """
    n = uuid.UUID(execution_id).int
    ours = (n >> 76) & 0xF == 8 and (n >> 62) & 0b11 == 0b10 and (n >> 36) & 0x03FFFFFF == _MARK
    if ours:
        value = ((n >> 80) << 48) | (((n >> 64) & 0x0FFF) << 36) | (n & 0xFFFFFFFFF)
    else:
        millis = n >> 80
        seconds = (millis // 1000) & 0xFFFFFFFF
        random = (n & ((1 << 62) - 1)) >> 20
        value = (seconds << 64) | ((millis % 1000) << 54) | (((n >> 64) & 0x0FFF) << 42) | random
    return f"{value:024x}"


def execution_id_of(object_id: str) -> str:
    """The id in the engine of an execution whose document the existing backend made."""
    n = int(object_id, 16)
    value = (
        ((n >> 48) << 80)
        | (8 << 76)
        | (((n >> 36) & 0x0FFF) << 64)
        | (0b10 << 62)
        | (_MARK << 36)
        | (n & 0xFFFFFFFFF)
    )
    return str(uuid.UUID(int=value))


def is_object_id(text: object) -> bool:
    """Whether it is an ObjectId as text, or one itself."""
    return _HEX.fullmatch(str(text).lower()) is not None
