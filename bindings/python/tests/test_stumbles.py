"""What people who know APScheduler try first, and what they are told when it is spelled otherwise here."""

from __future__ import annotations

import pytest
from unified_scheduler_engine import Every, InvalidError, Scheduler


async def test_a_function_may_be_named_as_text(scheduler: Scheduler) -> None:
    async with scheduler:
        for _ in range(2):
            await scheduler.add_job("json:dumps", "interval", hours=1, args=[[1]], id="dump")
        run = await scheduler.wait_for(await scheduler.trigger("dump"))
        assert run.message == "[1]"
    with pytest.raises(InvalidError, match=r"such as `package\.module:function`"):
        scheduler.add_job("dumps", "interval", hours=1)


def test_an_event_that_never_comes_is_refused(scheduler: Scheduler) -> None:
    for event in ("job_error", 4096):
        with pytest.raises(InvalidError, match="there are execution_started, execution_ended") as caught:
            scheduler.add_listener(lambda _: None, event)  # type: ignore[arg-type]
        assert caught.value.faults[0].field == "events"


async def test_what_no_option_can_change_says_what_does(scheduler: Scheduler) -> None:
    scheduler.add_job(lambda: None, Every(hours=1), id="work")
    async with scheduler:
        for name, told in (("next_run_time", "`trigger` runs a job now"), ("args", "add the job again")):
            with pytest.raises(InvalidError, match=told):
                await scheduler.modify_job("work", **{name: None})  # type: ignore[arg-type]


def test_a_grace_without_coalescing_says_how_to_mend_it(scheduler: Scheduler) -> None:
    with pytest.raises(InvalidError, match="leave one of them out"):
        scheduler.add_job(lambda: None, Every(hours=1), misfire_grace_time=60, coalesce=False)


@pytest.mark.parametrize("trigger", ("now and then", "2026-13-01T00:00:00Z", "hourly"))
def test_a_text_that_says_no_time_is_refused_with_examples(scheduler: Scheduler, trigger: str) -> None:
    with pytest.raises(InvalidError, match="says no time; such as `0 3"):
        scheduler.add_job(lambda: None, trigger, id="work")


def test_a_time_without_a_zone_says_where_to_give_one(scheduler: Scheduler) -> None:
    with pytest.raises(InvalidError, match="the `timezone` of the schedule or scheduler"):
        scheduler.add_job(lambda: None, "date", run_date="2030-01-01 00:00:00", id="once")
