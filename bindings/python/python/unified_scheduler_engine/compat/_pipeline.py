"""One execution of a template: its hooks, in their order.

`pre_execute` → `execute` → on an exception `on_error` → the measured time → `post_execute`. An exception of
a hook is its own: that of `post_execute` becomes a warning, and never turns a success into a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ._outcome import result_of
from .context import JobExecutionContext, JobResult

logger = logging.getLogger("unified_scheduler")

Execute = Callable[[Any], Awaitable[Any]]


class Pipeline:
    """One run of one template."""

    def __init__(
        self,
        template: Any,
        template_type: str,
        context: JobExecutionContext,
        *,
        stopping: Callable[[], bool] = lambda: False,
        measured: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._template = template
        self._type = template_type
        self._context = context
        #: Whether the engine has asked for the end. A cancellation that it has not is the template's own.
        self._stopping = stopping
        self._measured = measured
        #: The exception that ended the work.
        self.error: Exception | None = None

    async def run(self, execute: Execute | None = None) -> Any:
        """Runs it, and gives what is to be recorded."""
        began = time.perf_counter()
        called_off = False
        try:
            if await self._hook("pre_execute", True):
                began = time.perf_counter()
                answer = await (execute or self._execute)(self._context)
                result = result_of(answer, self._type)
            else:
                called_off = True
                result = JobResult("cancelled", "Job execution cancelled by pre_execute hook")
        except asyncio.CancelledError:
            if self._stopping():
                raise
            result = JobResult("cancelled", f"the template '{self._type}' raised CancelledError")
        except TimeLimit as limit:
            result = JobResult("timeout", str(limit), errors=[str(limit)])
        except Exception as error:
            self.error = error
            result = await self._on_error(error)
        duration = time.perf_counter() - began
        self._measured(duration)
        with contextlib.suppress(Exception):
            result.duration_seconds = duration
        if not called_off:
            await self._post_execute(result)
        return result

    async def _execute(self, context: Any) -> Any:
        execute = self._template.execute
        if inspect.iscoroutinefunction(execute):
            return await execute(context)
        answer = await asyncio.to_thread(execute, context)
        return await answer if inspect.isawaitable(answer) else answer

    async def _hook(self, name: str, default: Any, *arguments: Any) -> Any:
        hook = getattr(self._template, name, None)
        if not callable(hook):
            return default
        answer = hook(self._context, *arguments)
        return await answer if inspect.isawaitable(answer) else answer

    async def _on_error(self, error: Exception) -> Any:
        usual = JobResult("failed", f"Job execution failed: {error}", errors=[str(error)])
        try:
            answer = await self._hook("on_error", None, error)
        except Exception as also:
            logger.exception("on_error of the template '%s' failed", self._type)
            usual.warnings = [f"on_error failed: {also}"]
            return usual
        return usual if answer is None else result_of(answer, self._type)

    async def _post_execute(self, result: Any) -> None:
        try:
            await self._hook("post_execute", None, result)
        except Exception as error:
            logger.exception("post_execute of the template '%s' failed", self._type)
            with contextlib.suppress(Exception):
                result.warnings = [*(result.warnings or []), f"post_execute failed: {error}"]


class TimeLimit(Exception):
    """The work took longer than it may."""
