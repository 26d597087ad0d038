"""For FastAPI, and everything else on Starlette: an app of ten lines that runs jobs.

```
from fastapi import FastAPI
from unified_scheduler import Every, Scheduler
from unified_scheduler.fastapi import SchedulerDep, lifespan

scheduler = Scheduler("sqlite://jobs.db")
app = FastAPI(lifespan=lifespan(scheduler))

@scheduler.job(Every(minutes=5))
async def refresh() -> None: ...

@app.post("/refresh")
async def refresh_now(scheduler: SchedulerDep) -> str:
    return (await scheduler.trigger("refresh")).id
```
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any, TypeVar

from fastapi import Depends
from starlette.requests import HTTPConnection

from .scheduler import Scheduler

__all__ = ["SchedulerDep", "get_scheduler", "lifespan"]

logger = logging.getLogger("unified_scheduler")

App = TypeVar("App")
Lifespan = Callable[[App], AbstractAsyncContextManager[Any]]


def lifespan(
    scheduler: Scheduler, inner: Lifespan[Any] | None = None, *, required: bool = True
) -> Callable[[Any], AbstractAsyncContextManager[Any]]:
    """A lifespan that starts the scheduler with the app and stops it after the last request.

    `inner` is a lifespan of the app's own, which runs around it: what it opens is there for every job.
    Without `required`, an app whose scheduler can't start starts all the same, and says so in its log.
    """

    @asynccontextmanager
    async def around(app: Any) -> AsyncIterator[Any]:
        if inner is None:
            async with _running(app, scheduler, required=required):
                yield None
            return
        async with inner(app) as state, _running(app, scheduler, required=required):
            yield state

    return around


@asynccontextmanager
async def _running(app: Any, scheduler: Scheduler, *, required: bool) -> AsyncIterator[None]:
    app.state.scheduler = scheduler
    try:
        await scheduler.start()
    except Exception:
        if required:
            raise
        logger.exception("the scheduler can't start; the app starts without it")
    try:
        yield
    finally:
        await scheduler.stop()


def get_scheduler(connection: HTTPConnection) -> Scheduler:
    """The scheduler of the app; for `Depends`."""
    scheduler = connection.app.state.scheduler
    if not isinstance(scheduler, Scheduler):
        raise RuntimeError("the app has no scheduler; give it `lifespan=lifespan(scheduler)`")
    return scheduler


#: A parameter of a route that gets the app's scheduler.
SchedulerDep = Annotated[Scheduler, Depends(get_scheduler)]
