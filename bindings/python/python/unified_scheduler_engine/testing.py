"""A scheduler whose time is moved by hand, for tests of one's own jobs.

>>> import asyncio
>>> from unified_scheduler_engine import Cron
>>> from unified_scheduler_engine.testing import TestScheduler
>>> async def main():
...     async with TestScheduler("2026-03-28T00:00:00Z") as scheduler:
...         @scheduler.job(Cron("30 2 * * *", timezone="Europe/Berlin"))
...         async def backup(ctx):
...             await ctx.sleep(90)
...         await scheduler.advance(days=2)
...         return [f"{run.due_at:%d %H:%M}" for run in await scheduler.runs("backup", oldest_first=True)]
>>> asyncio.run(main())
['28 01:30', '29 01:30']

The clock stands still while a handler works, and moves when all of them wait in `ctx.sleep`. A handler that
waits for something real, in `asyncio.sleep` for one, keeps it standing until that is over.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from .models import Execution
from .scheduler import Scheduler
from .schedules import Duration, Instant, instant, parse_instant, seconds

if TYPE_CHECKING:
    from typing_extensions import Self

#: How long, in real seconds, a step of the clock may take before it is an error.
PATIENCE = 60.0


class TestScheduler(Scheduler):
    """A whole scheduler over a store in memory, on a clock that is moved by hand.

    It begins at `start`, an instant (UTC when it names no zone). `seed` is that of ids and random numbers:
    the same test runs the same. `patience` is how many real seconds a step of the clock may take.
    """

    # Not a test, whatever its name.
    __test__ = False

    def __init__(
        self,
        start: Instant = "2026-01-01T00:00:00Z",
        *,
        seed: int = 0,
        patience: Duration = PATIENCE,
        **options: Any,
    ) -> None:
        super().__init__("memory:", **options)
        begin = instant(start, "UTC", "start")
        self.core.config.update(manual_from=begin, seed=seed)
        self.core.config.pop("node_name", None)
        self._now = parse_instant(begin)
        self._patience = seconds(patience, "patience")

    @classmethod
    def of(cls, scheduler: Scheduler, start: Instant = "2026-01-01T00:00:00Z", **options: Any) -> Self:
        """One with the jobs, handlers, templates and listeners that a scheduler of the program has by now.

        Its store stays untouched. Jobs that were added with a `next_run_time` before the start are left out:
        that time is not the manual clock's.

        >>> from unified_scheduler_engine import Every
        >>> program = Scheduler("sqlite://jobs.db")
        >>> @program.job(Every(hours=6))
        ... def tidy_up(): ...
        >>> async def main():
        ...     async with TestScheduler.of(program) as test:
        ...         await test.advance(days=1)
        ...         return len(await test.executions("tidy_up"))
        >>> asyncio.run(main())
        5
        """
        made = cls(start, **options)
        made._zone = scheduler._zone if "timezone" not in options else made._zone
        made._defaults = {**scheduler._defaults, **made._defaults}
        scheduler._listeners.register_with(made._listeners)
        scheduler.core.register_with(made.core)
        return made

    @property
    def now(self) -> datetime:
        """What time it is, by the manual clock."""
        return self._now

    async def advance(self, duration: Duration | None = None, **parts: float) -> datetime:
        """Moves the clock, with everything that is due on the way, each at its instant. `parts` are those
        of `timedelta`: `hours=1`. Answers what time it is then. Raises `TimeoutError` when a handler waits
        for something other than `ctx.sleep` for longer than `patience`."""
        return await self._move(duration, parts, jump=False)

    async def advance_to(self, until: Instant) -> datetime:
        """The same up to an instant; nothing when that has passed."""
        goal = parse_instant(instant(until, "UTC", "until"))
        return await self.advance(max((goal - self._now).total_seconds(), 0.0))

    async def jump(self, duration: Duration | None = None, **parts: float) -> datetime:
        """Moves the clock in one step, with nothing running on the way: the machine slept."""
        return await self._move(duration, parts, jump=True)

    async def run_until_idle(self) -> datetime:
        """Lets everything run that can without time."""
        return await self.advance(0)

    async def _move(self, duration: Duration | None, parts: dict[str, float], *, jump: bool) -> datetime:
        length = timedelta(**parts).total_seconds()
        length += 0.0 if duration is None else seconds(duration)
        # What a handler does may still be on its way to the engine.
        for _ in range(3):
            await asyncio.sleep(0)
        try:
            now = await asyncio.wait_for(self.core.advance(length, jump=jump), self._patience)
        except asyncio.TimeoutError:
            raise TimeoutError(
                f"the clock stood still for {self._patience} real seconds: a handler waits for something"
                " other than ctx.sleep"
            ) from None
        self._now = parse_instant(now)
        return self._now

    async def stop(self, grace: Duration | None = None) -> None:
        """Stops; time passes for what still runs."""
        try:
            await asyncio.wait_for(super().stop(grace), self._patience)
        except asyncio.TimeoutError:
            with contextlib.suppress(Exception):
                self.core.engine.kill()
            raise

    async def wait_for(self, execution: str | Execution, timeout: Duration | None = None) -> Execution:
        """Lets everything run that can, then waits as usual."""
        await self.run_until_idle()
        return await super().wait_for(execution, timeout)

    async def executions(self, job: str | None = None) -> list[Execution]:
        """All executions of a job, or of all, the oldest first."""
        return await self.runs(job, oldest_first=True, limit=100_000)
