"""Whatever a handler raises or returns is its own end, and nobody else's."""

from __future__ import annotations

import asyncio
import decimal
import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest
from unified_scheduler_engine import Context, Execution, Manual, Overlap, Result, Scheduler
from unified_scheduler_engine._results import MAX_RESULT, record_of, to_json
from waiting import ended, until


async def run(scheduler: Scheduler, func: Any, **options: Any) -> Execution:
    job = await scheduler.add_job(func, Manual(), id=f"job{len(await scheduler.jobs())}", **options)
    return await ended(scheduler, await job.trigger())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, ValueError])
async def test_exceptions_of_every_kind_are_contained_with_their_trace(
    scheduler: Scheduler, kind: type[BaseException]
) -> None:
    async def on_loop() -> None:
        raise kind("on the loop")

    def in_thread() -> None:
        raise kind("in a thread")

    async with scheduler:
        for func, text in ((on_loop, "on the loop"), (in_thread, "in a thread")):
            failed = await run(scheduler, func)
            assert failed.status == "failed" and failed.error is not None
            assert failed.error.kind.rpartition(".")[2] == kind.__name__
            assert failed.error.message == text
            assert failed.error.trace is not None
            assert f'raise kind("{text}")' in failed.error.trace and "_bridge.py" not in failed.error.trace
            assert "_threads.py" not in failed.error.trace


async def test_an_exception_that_cannot_be_shown_is_recorded_all_the_same(scheduler: Scheduler) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even this")

    async def work() -> None:
        raise Odd

    async with scheduler:
        failed = await run(scheduler, work)
    assert failed.error is not None and "Odd" in failed.error.kind


class ObjectId:
    def __str__(self) -> str:
        return "64b0c0ffee64b0c0ffee64b0"


class Color(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: float


async def test_what_json_cannot_carry_is_converted(scheduler: Scheduler) -> None:
    async def work() -> dict[Any, Any]:
        return {
            "id": ObjectId(),
            "set": {1},
            "decimal": decimal.Decimal("1.10"),
            "nan": float("nan"),
            "big": 2**80,
            3: b"bytes\xff",
            "lone": "a\ud800b",
            "enum": Color.RED,
            "point": Point(1, float("inf")),
            ObjectId(): None,
        }

    async with scheduler:
        done = await run(scheduler, work)
    assert done.details == {
        "id": "64b0c0ffee64b0c0ffee64b0",
        "set": [1],
        "decimal": "1.10",
        "nan": None,
        "big": str(2**80),
        "3": "bytes\\xff",
        "lone": "a?b",
        "enum": "red",
        "point": {"x": 1, "y": None},
        "64b0c0ffee64b0c0ffee64b0": None,
    }


async def test_a_result_of_ten_megabytes_is_cut_with_a_note(scheduler: Scheduler) -> None:
    async def work() -> dict[str, str]:
        return {"text": "x" * 10_000_000}

    async with scheduler:
        done = await run(scheduler, work)
    assert done.status == "success" and len(json.dumps(done.details)) < MAX_RESULT + 1000
    assert "cut" in done.details["text"] and "was cut" in done.warnings[0]


def test_a_result_that_contains_itself_ends() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert len(to_json(loop)) < 1000
    wide: dict[str, Any] = {}
    wide.update({str(n): wide for n in range(100)})
    assert len(to_json(wide)) < 4 * MAX_RESULT


async def test_bad_unicode_in_logs_and_messages_is_replaced(scheduler: Scheduler) -> None:
    async def work(ctx: Context) -> str:
        ctx.log("WARNING", "a\udc80b", field="c\udc80d")
        ctx.log("odd level", 5)
        ctx.log(40, "number")
        return "m\udc80"

    async with scheduler:
        done = await run(scheduler, work)
        lines = await scheduler.logs(done)
    assert done.message == "m?"
    assert [(line.level, line.message) for line in lines] == [
        ("warning", "a?b"),
        ("info", "5"),
        ("error", "number"),
    ]
    assert lines[0].fields == {"field": "c?d"}


@pytest.mark.parametrize(
    "status", ["success", "completed", "partial", "partial_success", "skipped", "cancelled"]
)
async def test_a_status_is_stored_as_given(scheduler: Scheduler, status: str) -> None:
    class Theirs:
        def __init__(self) -> None:
            self.status = status
            self.message = "said so"
            self.details = {"a": 1}
            self.records_processed = 7
            self.records_affected = 3
            self.errors = None
            self.warnings = ["careful"]
            self.duration_seconds = 99.0

    async def work() -> Theirs:
        return Theirs()

    async with scheduler:
        done = await run(scheduler, work)
    assert (done.status, done.message, done.details, done.warnings) == (
        status,
        "said so",
        {"a": 1},
        ("careful",),
    )
    result = done.document["result"]
    assert (result["records_processed"], result["records_affected"]) == (7, 3)
    assert done.duration is not None and done.duration < 90


async def test_a_status_of_their_own_is_a_failure_that_says_so(scheduler: Scheduler) -> None:
    async def work() -> dict[str, str]:
        return {"status": "splendid", "message": "m"}

    async def failed() -> Result:
        return Result("went wrong", status="failed", errors=["e1"], duration_seconds=1.5)

    async with scheduler:
        odd = await run(scheduler, work)
        bad = await run(scheduler, failed)
    assert odd.status == "failed" and "splendid" in odd.warnings[0]
    assert bad.status == "failed" and bad.error is not None and bad.error.message == "e1"
    assert bad.duration == 1.5


def test_a_plain_success_costs_no_json() -> None:
    assert record_of(None) is None


async def test_a_failing_job_stays_scheduled_and_harms_no_other(scheduler: Scheduler) -> None:
    good = asyncio.Event()

    async def bad() -> None:
        raise SystemExit(3)

    async def fine() -> None:
        good.set()

    scheduler.add_job(bad, "interval", seconds=0.1, overlap=Overlap("allow", 5))
    scheduler.add_job(fine, "interval", hours=1)
    async with scheduler:
        await until(good.is_set)

        async def failed_often() -> bool:
            return len(await scheduler.runs("bad", status="failed")) >= 3

        await until(failed_often)
