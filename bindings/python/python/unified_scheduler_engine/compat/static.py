"""Static jobs as programs hold them: `ScheduledJob`, and the mapping of them in which every write counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, MutableMapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from ._times import naive, utcnow

#: Where a static job runs: once per due time in the whole cluster, or in every process.
SCOPES = ("cluster", "process")


class Owner(Protocol):
    """Whoever is told that a job was changed."""

    def changed(self, job: ScheduledJob, what: str) -> None:
        """`enabled`, `interval`, `func` or `next_run` of a job has another value now."""


def _checked(interval_seconds: Any) -> float:
    if isinstance(interval_seconds, timedelta):
        interval_seconds = interval_seconds.total_seconds()
    if isinstance(interval_seconds, bool) or not isinstance(interval_seconds, (int, float)):
        raise ValueError(f"interval_seconds: {interval_seconds!r} is no number of seconds")
    if not math.isfinite(interval_seconds) or interval_seconds <= 0:
        raise ValueError(f"interval_seconds: {interval_seconds!r}; a job needs an interval above zero")
    return interval_seconds


class ScheduledJob:
    """A function that runs at an interval. All attributes can be written, with effect at once.

    >>> job = ScheduledJob("cleanup", 60, print, is_async=False)
    >>> job.enabled, job.last_run, job.should_run()
    (True, None, True)
    """

    def __init__(
        self,
        name: str,
        interval_seconds: float,
        func: Callable[[], Any],
        is_async: bool = True,
        *,
        timeout_seconds: float | None = None,
        scope: str | None = None,
    ) -> None:
        if not callable(func):
            raise ValueError(f"func: {func!r} can't be called")
        if scope not in (None, *SCOPES):
            raise ValueError(f"scope: {scope!r}; there are {' and '.join(SCOPES)}")
        self.name = name
        #: What the caller said of `func`; how it runs goes by what it is.
        self.is_async = is_async
        #: When it ran last, naive, in UTC.
        self.last_run: datetime | None = None
        #: How long one run may take.
        self.timeout_seconds = timeout_seconds
        self.scope = scope
        #: How often it ran, and failed, in this process.
        self.run_count = 0
        self.failure_count = 0
        self._interval = _checked(interval_seconds)
        self._func = func
        self._next_run = utcnow()
        self._enabled = True
        #: Whether somebody has said so, and it is not only the default.
        self._enabled_said = False
        self._owner: Owner | None = None
        #: Counts the changes made here, so that what was read before one does not undo it.
        self._changes = 0

    @property
    def interval_seconds(self) -> float:
        """The interval."""
        return self._interval

    @interval_seconds.setter
    def interval_seconds(self, value: float) -> None:
        self._interval = _checked(value)
        self._tell("interval")

    @property
    def func(self) -> Callable[[], Any]:
        """What runs."""
        return self._func

    @func.setter
    def func(self, value: Callable[[], Any]) -> None:
        if not callable(value):
            raise ValueError(f"func: {value!r} can't be called")
        self._func = value
        self._tell("func")

    @property
    def next_run(self) -> datetime:
        """When it is due next: naive, in UTC. A time that has passed runs it at once."""
        return self._next_run

    @next_run.setter
    def next_run(self, value: datetime) -> None:
        self._next_run = naive(value) or utcnow()
        self._tell("next_run")

    @property
    def enabled(self) -> bool:
        """Whether its schedule counts."""
        return self._enabled

    @enabled.setter
    def enabled(self, value: bool) -> None:
        self._enabled = bool(value)
        self._enabled_said = True
        self._tell("enabled")

    def should_run(self) -> bool:
        """Whether it is due."""
        return self._enabled and utcnow() >= self._next_run

    def update_next_run(self) -> None:
        """Notes that it ran now, and is due one interval from now."""
        self.last_run = utcnow()
        self.next_run = self.last_run + timedelta(seconds=self._interval)

    def status(self) -> dict[str, Any]:
        """What pages show of it."""
        return {
            "name": self.name,
            "enabled": self._enabled,
            "interval_seconds": self._interval,
            "last_run": None if self.last_run is None else self.last_run.isoformat(),
            "next_run": None if self._next_run is None else self._next_run.isoformat(),
            "run_count": self.run_count,
            "failure_count": self.failure_count,
        }

    def _tell(self, what: str) -> None:
        self._changes += 1
        if self._owner is not None:
            self._owner.changed(self, what)

    def _learn(
        self, enabled: bool, interval: float, last_run: datetime | None, next_run: datetime | None
    ) -> None:
        """Takes over what the store says."""
        self._enabled, self._interval = enabled, interval
        if last_run is not None and (self.last_run is None or last_run > self.last_run):
            self.last_run = last_run
        if next_run is not None:
            self._next_run = next_run

    def __repr__(self) -> str:
        return f"<ScheduledJob {self.name} every {self._interval} s{'' if self._enabled else ', disabled'}>"


def adopted(job: Any) -> ScheduledJob:
    """Whatever has the attributes of a `ScheduledJob`, as one whose writes count."""
    if isinstance(job, ScheduledJob):
        return job
    made = ScheduledJob(job.name, job.interval_seconds, job.func, getattr(job, "is_async", True))
    made._enabled = bool(getattr(job, "enabled", True))
    made.last_run = getattr(job, "last_run", None)
    return made


class Jobs(MutableMapping[str, ScheduledJob]):
    """The static jobs of a scheduler by name, in the order in which they were added."""

    def __init__(self, entered: Callable[[ScheduledJob], None], left: Callable[[ScheduledJob], None]) -> None:
        self._jobs: dict[str, ScheduledJob] = {}
        self._entered = entered
        self._left = left

    def __getitem__(self, name: str) -> ScheduledJob:
        return self._jobs[name]

    def __setitem__(self, name: str, job: ScheduledJob) -> None:
        job = adopted(job)
        job.name = name
        before = self._jobs.get(name)
        if before is job:
            return
        self._jobs[name] = job
        if before is not None and before.scope != job.scope:
            self._left(before)
        self._entered(job)

    def __delitem__(self, name: str) -> None:
        self._left(self._jobs.pop(name))

    def __iter__(self) -> Iterator[str]:
        # A copy: some walk through it and remove jobs.
        return iter(list(self._jobs))

    def __len__(self) -> int:
        return len(self._jobs)

    def _forget(self, name: str) -> None:
        """Another process has removed it."""
        self._jobs.pop(name, None)

    def __repr__(self) -> str:
        return repr(self._jobs)
