"""What a job does when things are late, overlap, fail or end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .schedules import Duration, seconds


@dataclass(frozen=True)
class Retry:
    """Whether and when an execution that went wrong is run again. Waits are lengths of time, or seconds.

    What is lost with its process, with `on_lost`, runs again at once, and uses none of `times`.

    >>> Retry(3, "10s", backoff="exponential").document()["retry_delay_seconds"]
    10.0
    """

    #: How many times after the first.
    times: int
    #: The wait before the first retry; with `exponential` each is twice the one before.
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
    """What happens to occurrences that are found late: after an outage, a restart, or a pause that was ended
    with what was missed.

    `run_once`: one execution for all of them, however late. `skip`: those later than `grace` are skipped, and
    what is left runs as one. `run_all`: each of the last `limit` runs, one after another.
    """

    policy: Literal["run_once", "skip", "run_all"] = "run_once"
    #: With `skip`: how late an occurrence may be and still run; at least a second, a minute when not given.
    grace: Duration | None = None
    #: With `run_all`: the largest number of missed occurrences that still run; 1 to 1000.
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
    """What happens to an occurrence that is due while the job still runs, on any node.

    `skip`: it is skipped, with a record. `queue_one`: it waits; those after it are skipped. `allow`: it runs
    beside the others, up to `max`. `cancel_running`: those are asked to stop, and it starts when they have.
    """

    policy: Literal["skip", "queue_one", "allow", "cancel_running"] = "skip"
    #: With `allow`: the largest number of executions at once; 2 when not given.
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
    #: A length of time, or seconds; the scheduler's `retention` when not given.
    max_age: Duration | None = None
    #: How many of the newest; no limit when not given.
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
