"""Plain functions in a process of their own, which can be killed.

The process is spawned, not forked: the function and its arguments must be importable and picklable, as
with `multiprocessing`. What it logs and how far it is comes back while it runs.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.connection import Connection
from typing import Any

from ._engine import Context
from ._results import Prepared, failure_of, record_of, to_json

#: How often the parent looks whether the execution is to stop, in seconds.
LOOK = 0.05
#: How long a process that was asked to end may take before it is killed.
GRACE = 1.0


class ProcessDiedError(Exception):
    """The process of a handler ended without an answer."""


@dataclass
class ProcessContext:
    """What a function in a process of its own is given."""

    job_id: str
    job_name: str
    execution_id: str
    attempt: int
    due_at: datetime
    triggered_by: str
    idempotency_key: str
    parameters: dict[str, Any]
    #: Always false: a process that is to stop is ended.
    cancelled: bool = False
    _pipe: Connection | None = field(default=None, repr=False)

    def log(self, level: str, message: object, /, **fields: Any) -> None:
        """Adds a line to the execution's log."""
        if self._pipe is not None:
            self._pipe.send(("log", (str(level), str(message), to_json(fields) if fields else None)))

    def debug(self, message: object, /, **fields: Any) -> None:
        """Adds a line to the log."""
        self.log("debug", message, **fields)

    def info(self, message: object, /, **fields: Any) -> None:
        """Adds a line to the log."""
        self.log("info", message, **fields)

    def warning(self, message: object, /, **fields: Any) -> None:
        """Adds a line to the log."""
        self.log("warning", message, **fields)

    def error(self, message: object, /, **fields: Any) -> None:
        """Adds a line to the log."""
        self.log("error", message, **fields)

    def progress(self, done: int, total: int | None = None, message: str = "") -> None:
        """Says how far it is."""
        if self._pipe is not None:
            self._pipe.send(("progress", (done, total, message)))


def run_in_process(invoke: Callable[[Any], Any], ctx: Context) -> Any:
    """Runs `invoke(context)` in a process of its own and waits for it; ends it when it is to stop."""
    given = ProcessContext(
        job_id=ctx.job_id,
        job_name=ctx.job_name,
        execution_id=ctx.execution_id,
        attempt=ctx.attempt,
        due_at=ctx.due_at,
        triggered_by=ctx.triggered_by,
        idempotency_key=ctx.idempotency_key,
        parameters=ctx.parameters,
    )
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_main, args=(theirs, pickle.dumps((invoke, given))), daemon=True)
    process.start()
    theirs.close()
    try:
        return _listen(ours, process, ctx)
    finally:
        ours.close()
        _end(process)


def _listen(pipe: Connection, process: Any, ctx: Context) -> Any:
    while True:
        try:
            word = pipe.recv() if pipe.poll(LOOK) else None
        except EOFError:
            process.join(GRACE)
            raise ProcessDiedError(f"the process ended with {process.exitcode} and no answer") from None
        if word is None:
            if ctx.cancelled:
                raise TimeoutError("it was asked to stop; its process was ended")
            continue
        kind, value = word
        if kind == "record":
            return Prepared(value) if value is not None else None
        if kind == "log":
            level, message, fields = value
            ctx.log(level, message, **(json.loads(fields) if fields else {}))
        elif kind == "progress":
            ctx.progress(*value)


def _end(process: Any) -> None:
    process.join(GRACE if not process.is_alive() else 0)
    if process.is_alive():
        process.terminate()
        process.join(GRACE)
    if process.is_alive():
        process.kill()
        process.join(GRACE)
    process.close()


def _main(pipe: Connection, work: bytes) -> None:
    try:
        invoke, ctx = pickle.loads(work)
        ctx._pipe = pipe
        record = record_of(invoke(ctx))
    except BaseException as error:
        record = failure_of(error, skip=1)
    pipe.send(("record", record))
    pipe.close()
    os._exit(0)
