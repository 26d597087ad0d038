"""Every store of the wheel, on real servers: a job's whole life, what a database must not choke on, and two
processes that share it."""

from __future__ import annotations

import textwrap
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from children import children
from unified_scheduler_engine import (
    STORE_SCHEMES,
    Context,
    Cron,
    Every,
    Execution,
    Manual,
    NotFoundError,
    Result,
    Retry,
    Scheduler,
)
from unified_scheduler_engine._results import MAX_RESULT
from waiting import ended, until


def test_all_of_them_are_in_the_wheel() -> None:
    schemes = {scheme.partition(":")[0].partition("+")[0] for scheme in STORE_SCHEMES}
    assert {"memory", "sqlite", "postgres", "mongodb", "redis"} <= schemes


async def test_a_job_lives_its_life(store_url: str) -> None:
    scheduler = Scheduler(store_url, stop_grace=0.5)
    heard: list[str] = []
    scheduler.add_listener(lambda event: heard.append(str(event.job_id)), "execution_ended")

    @scheduler.job(Every(milliseconds=300))
    async def tick(ctx: Context) -> Result:
        ctx.info("ticking", n=1)
        return Result("ticked", details={"due": ctx.due_at}, records_processed=2)

    @scheduler.job(Manual(), retry=Retry(2, 0.1))
    def flaky(ctx: Context) -> str:
        if ctx.attempt < 2:
            raise ValueError("not yet")
        return f"at attempt {ctx.attempt}"

    @scheduler.template("greet", parameters={"who": {"type": "string"}})
    async def greet(ctx: Context) -> str:
        return f"hello {ctx.parameters['who']}"

    async with scheduler:
        run = await ended(scheduler, await scheduler.trigger("flaky"))
        assert (run.status, run.error and run.error.kind) == ("failed", "ValueError")
        await until(lambda: scheduler.runs("flaky", status="success"))
        runs = await scheduler.runs("flaky", oldest_first=True)
        assert [(r.status, r.attempt) for r in runs] == [("failed", 1), ("success", 2)]
        job = await scheduler.create_job("made", "greet", Cron("0 3 * * *"), parameters={"who": "you"})
        assert (await ended(scheduler, await scheduler.trigger(job))).message == "hello you"
        due = (await scheduler.next_runs(job, 1))[0].due_at
        assert job.next_run_time == due
        paused = await scheduler.pause(job)
        assert not paused.enabled
        assert (await scheduler.resume(job)).next_run_time == due
        await scheduler.skip_next(job)
        later = await scheduler.reschedule(job, Every(hours=1))
        assert later.schedule["type"] == "interval"
        assert [found.name for found in await scheduler.jobs(templates=["greet"])] == ["made"]
        await scheduler.remove(job)
        with pytest.raises(NotFoundError):
            await scheduler.job_of(job)

        async def ticked() -> list[Execution] | None:
            found = await scheduler.runs("tick", status="success", oldest_first=True)
            return found if len(found) >= 2 else None

        ticks = await until(ticked)
        steps = {(run.due_at - ticks[0].due_at) % timedelta(milliseconds=300) for run in ticks}
        assert steps == {timedelta(0)}
        assert [line.message for line in await scheduler.logs(ticks[0])] == ["ticking"]
        assert ticks[0].details["due"].startswith(ticks[0].due_at.strftime("%Y-%m-%dT%H:%M:%S"))
        assert (await scheduler.explain("tick")).will_run
        assert [check for check in await scheduler.doctor() if check["level"] == "failed"] == []
        assert len(await scheduler.nodes()) == 1
        await until(lambda: "static:tick" in heard)
    assert (await scheduler.verify()).is_whole
    await scheduler.core.stop()


HARD = "lone \ud800, nul \x00, wide \U0001f600, quote ' \" \\ ; -- ${x}"


async def test_what_databases_choke_on_is_stored_all_the_same(store_url: str) -> None:
    scheduler = Scheduler(store_url, stop_grace=0.5)

    @scheduler.handler("hard")
    async def hard(ctx: Context) -> Result:
        ctx.log("info", HARD, field=HARD)
        return Result(HARD, details={HARD: [HARD, float("nan"), 2**70, datetime.now(timezone.utc)]})

    @scheduler.handler("fails")
    async def fails(ctx: Context) -> None:
        raise ValueError(HARD)

    @scheduler.handler("huge")
    async def huge(ctx: Context) -> dict[str, Any]:
        for n in range(5):
            ctx.info("y" * 1_000_000, n=n)
        return {"text": "x" * 10_000_000, "list": ["ü" * 1000] * 10_000}

    async with scheduler:
        name = HARD.replace("\ud800", "").replace("\x00", "")
        job = await scheduler.create_job(name, "hard", Manual())
        run = await ended(scheduler, await scheduler.trigger(job))
        assert run.status == "success"
        assert run.job_name == name
        assert "wide \U0001f600, quote ' \" \\ ; -- ${x}" in run.message
        (line,) = await scheduler.logs(run)
        assert "wide \U0001f600" in line.message
        run = await ended(scheduler, await scheduler.trigger(await scheduler.create_job("f", "fails")))
        assert run.error is not None
        assert run.error.kind == "ValueError"
        assert "wide \U0001f600" in run.error.message
        run = await ended(scheduler, await scheduler.trigger(await scheduler.create_job("h", "huge")))
        assert run.status == "success"
        assert "was cut" in run.warnings[0]
        assert len(run.details["text"]) <= MAX_RESULT + 100
        # A name with what no database keeps is stored without it, or refused: never half stored.
        try:
            odd = await scheduler.create_job("nul \x00 name", "hard", Manual())
        except ValueError as refused:
            assert "name" in str(refused)
        else:
            assert (await scheduler.job_of(odd.id)).name == odd.name
    await scheduler.core.stop()


CHILD = """
    import asyncio, os, sys
    from unified_scheduler_engine import Every, Scheduler
    scheduler = Scheduler(sys.argv[1], stop_grace=1)
    @scheduler.job(Every(milliseconds=200))
    async def tick(): return str(os.getpid())
    async def main():
        async with scheduler:
            await asyncio.to_thread(sys.stdin.read)
    asyncio.run(main())
"""


async def test_two_processes_share_it(store_url: str) -> None:
    if store_url == "memory:":
        return  # It is that of one process.
    looking = Scheduler(store_url)

    async def shared() -> bool:
        alive = [node for node in await looking.nodes() if not node["dead"]]
        return len(alive) == 2 and len(await looking.runs(status="success")) >= 10

    with children(*[["-W", "error", "-c", textwrap.dedent(CHILD), store_url]] * 2) as both:
        await until(shared)
        assert await both.end() == [0, 0]
    runs = await looking.runs("static:tick", limit=1000)
    report = await looking.verify()
    await looking.core.stop()
    assert report.is_whole, report.problems
    ran = [run for run in runs if run.ok]
    assert len({run.due_at for run in ran}) == len(ran)
