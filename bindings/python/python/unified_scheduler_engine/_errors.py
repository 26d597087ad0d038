"""The exceptions of this package: one tree, one class for each kind of error of the engine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar


@dataclass(frozen=True)
class Fault:
    """One thing wrong with what was given: which field, where in its text, and how to mend it."""

    field: str
    message: str
    position: int | None = None
    help: str = ""


class SchedulerError(Exception):
    """What every error of this package is.

    >>> issubclass(NotFoundError, SchedulerError), issubclass(NotFoundError, LookupError)
    (True, True)
    """

    kind: ClassVar[str] = "internal"
    faults: tuple[Fault, ...]

    def __init__(self, message: str = "", faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(message)
        self.faults = faults


class InvalidError(SchedulerError, ValueError):
    """What was given is wrong; `faults` says what, where and how to mend it."""

    kind = "invalid"


class NotFoundError(SchedulerError, LookupError):
    """No such job, execution, calendar or node."""

    kind = "not_found"


class ConflictError(SchedulerError):
    """It exists already, or has changed since it was read."""

    kind = "conflict"


class UnavailableError(SchedulerError, ConnectionError):
    """The store can't be reached or can't answer now. The only kind worth repeating."""

    kind = "unavailable"


class CorruptError(SchedulerError):
    """What the store holds can't be read as what it should be."""

    kind = "corrupt"


class UnsupportedError(SchedulerError):
    """This store, build or configuration can't do that."""

    kind = "unsupported"


class StoppedError(SchedulerError):
    """The scheduler is stopping or stopped."""

    kind = "stopped"


class InternalError(SchedulerError):
    """A defect of ours."""

    kind = "internal"


BY_KIND: dict[str, type[SchedulerError]] = {
    error.kind: error
    for error in (
        InvalidError,
        NotFoundError,
        ConflictError,
        UnavailableError,
        CorruptError,
        UnsupportedError,
        StoppedError,
        InternalError,
    )
}


class RetryLater(Exception):
    """Raised by a handler that wants to be run again after a while, whatever the job's retry policy says.

    >>> RetryLater(30, "the disk is full").after
    datetime.timedelta(seconds=30)
    """

    after: timedelta

    def __init__(self, after: timedelta | float, message: str = "asked to be run again later") -> None:
        super().__init__(message)
        self.after = after if isinstance(after, timedelta) else timedelta(seconds=after)


def error_from_json(text: str) -> SchedulerError:
    """The exception for an error of the engine."""
    error = json.loads(text)
    faults = tuple(
        Fault(f["field"], f["message"], f.get("position"), f.get("help", "")) for f in error["faults"]
    )
    return BY_KIND.get(error["kind"], InternalError)(error["message"], faults)
