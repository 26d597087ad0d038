"""What a job does when things are late, overlap, fail or end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .schedules import Duration, seconds


@dataclass(frozen=True)
class Retry:
    """Whether and when an execution that went wrong is run again.

    >>> Retry(3, "10s", backoff="exponential").document()["retry_delay_seconds"]
    10.0
    """

    #: How many times after the first.
    times: int
    #: The wait before the first retry.
    delay: Duration = 300.0
    backoff: Literal["fixed", "exponential"] = "fixed"
    #: The longest wait.
    max_delay: Duration = 3600.0
    #: The part of each wait, from 0 to 1, that is drawn at random.
    jitter: float = 0.0
    on_failure: bool = True
    on_timeout: bool = True
    on_lost: bool = True

    def document(self) -> dict[str, Any]:
        """The policy as the engine reads it."""
        return {
            "max_retries": self.times,
            "retry_delay_seconds": seconds(self.delay, "delay"),
            "backoff": self.backoff,
            "max_delay_seconds": seconds(self.max_delay, "max_delay"),
            "jitter": self.jitter,
            "on_failure": self.on_failure,
            "on_timeout": self.on_timeout,
            "on_lost": self.on_lost,
            "explicit": True,
        }


@dataclass(frozen=True)
class Misfire:
    """What happens to occurrences that are found late."""

    policy: Literal["run_once", "skip", "run_all"] = "run_once"
    #: With `skip`: how late an occurrence may be and still run.
    grace: Duration | None = None
    #: With `run_all`: the largest number of missed occurrences that still run.
    limit: int | None = None

    def document(self) -> dict[str, Any]:
        """The policy as the engine reads it."""
        document: dict[str, Any] = {"policy": self.policy}
        if self.policy == "skip":
            document["grace_seconds"] = seconds(60 if self.grace is None else self.grace, "grace")
        if self.policy == "run_all":
            document["limit"] = 1000 if self.limit is None else self.limit
        return document


@dataclass(frozen=True)
class Overlap:
    """What happens to an occurrence that is due while the job still runs, on any node."""

    policy: Literal["skip", "queue_one", "allow", "cancel_running"] = "skip"
    #: With `allow`: the largest number of executions at once.
    max: int | None = None

    def document(self) -> dict[str, Any]:
        """The policy as the engine reads it."""
        document: dict[str, Any] = {"policy": self.policy}
        if self.policy == "allow":
            document["max"] = 2 if self.max is None else self.max
        return document


@dataclass(frozen=True)
class History:
    """What of a job's history is kept, and for how long."""

    keep: Literal["all", "failures", "none"] = "all"
    max_age: Duration | None = None
    max_count: int | None = None

    def document(self) -> dict[str, Any]:
        """The policy as the engine reads it."""
        document: dict[str, Any] = {"keep": self.keep}
        if self.max_age is not None:
            document["max_age_seconds"] = seconds(self.max_age, "max_age")
        if self.max_count is not None:
            document["max_count"] = self.max_count
        return document


@dataclass(frozen=True)
class Chain:
    """A job that runs when another has ended."""

    #: The id, or for a job of this program the name, of the job to run.
    job: str
    on: Literal["success", "failure", "any"] = "success"
