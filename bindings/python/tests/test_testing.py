"""The scheduler for tests, as a copy of the program's."""

from __future__ import annotations

from unified_scheduler_engine import Context, Cron, Event, Manual, Scheduler
from unified_scheduler_engine.testing import TestScheduler


async def test_a_copy_has_jobs_templates_and_listeners_and_touches_no_store(database: str) -> None:
    program = Scheduler(database, timezone="Europe/Berlin", job_defaults={"timeout": "1m"})
    heard: list[str] = []

    @program.job(Cron("30 2 * * *"))
    async def nightly() -> None: ...

    @program.template("greet", parameters={"name": {"type": "string"}})
    def greet(ctx: Context) -> str:
        return f"hello {ctx.parameters['name']}"

    @program.on("execution_ended")
    def listen(event: Event) -> None:
        heard.append(str(event.job_id))

    async with TestScheduler.of(program, "2026-03-28T00:00:00Z") as test:
        await test.advance(days=2)
        runs = await test.executions("nightly")
        assert [f"{run.due_at:%d %H:%M}" for run in runs] == ["28 01:30", "29 01:30"]
        job = await test.create_job("hi", "greet", Manual(), parameters={"name": "you"})
        assert job.document["timeout_seconds"] == 60
        assert (await test.wait_for(await test.trigger(job))).message == "hello you"
        assert heard.count("static:nightly") == 2
    assert not program.running
    assert await program.jobs() == []
    await program.stop()
