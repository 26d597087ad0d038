"""The verbs that make, change, show and trigger jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from . import _options
from ._asking import Asking
from ._errors import InvalidError, NotFoundError
from ._handle import JobRef, key_of
from ._triggers import schedule_of
from .models import Execution, Job
from .schedules import Instant, Trigger, instant, zone_name

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._options import JobChanges, JobOptions, TriggerOptions


class JobVerbs(Asking):
    """Jobs: made, changed, shown, triggered."""

    async def create_job(
        self,
        name: str,
        template: str,
        trigger: Trigger = None,
        *,
        id: str | None = None,
        enabled: bool = True,
        actor: str | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Stores a job made at run time from a template, or from a handler by its name.

        Raises `InvalidError` when template, parameters or schedule are refused, with a fault for each field,
        and `ConflictError` when there is a job with this id."""
        given: dict[str, Any] = {**self._defaults, **options}
        next_run_time = given.pop("next_run_time", None)
        keywords, others = _options.split(given)
        schedule = schedule_of(trigger, keywords)
        checked = dict(others.pop("parameters", None) or {})
        self._check(template, checked)
        document: dict[str, Any] = {
            **_options.document(others),
            "name": name,
            "template_type": template,
            "parameters": checked,
            "schedule": schedule.document(self._zone),
            "enabled": enabled,
        }
        if id is not None:
            document["id"] = id
        due = _options.first_due(next_run_time, zone_name(schedule.timezone) or self._zone)
        return Job.read(await self._core.ask("create_job", job=document, first_due=due, actor=actor))

    def _check(self, template: str, parameters: dict[str, Any]) -> None:
        """Asks the template itself; while it runs, the engine does so."""
        target = self._core.target(template)
        if self.running or target is None or not getattr(target, "checks", False):
            return
        faults = target.check(parameters)
        if faults:
            raise InvalidError("; ".join(f"parameters.{field}: {message}" for field, message in faults))

    async def job_of(self, job: JobRef) -> Job:
        """The job with this id, else the one with this name. Raises `NotFoundError`."""
        return Job.read(await self._core.ask("find_job", id=key_of(job)))

    async def get_job(self, job: JobRef) -> Job | None:
        """The same; `None` when there is none."""
        try:
            return await self.job_of(job)
        except NotFoundError:
            return None

    async def jobs(
        self,
        *,
        search: str | None = None,
        templates: Iterable[str] = (),
        enabled: bool | None = None,
        tag: str | None = None,
        faulty: bool | None = None,
        sort: str = "name",
        descending: bool = False,
        offset: int = 0,
        limit: int = 1000,
    ) -> list[Job]:
        """A page of jobs; `sort` is `name`, `created_at`, `due_at` or `last_run_at`."""
        query = {
            "search": search,
            "handlers": list(templates),
            "enabled": enabled,
            "tag": tag,
            "faulty": faulty,
            "sort": sort,
            "descending": descending,
            "offset": offset,
            "limit": limit,
        }
        page = await self._core.ask("list_jobs", query=query)
        return [Job.read(item) for item in page["items"]]

    get_jobs = jobs

    async def pause(self, job: JobRef) -> Job:
        """Keeps its schedule from counting, on every node and over restarts. What runs goes on, and `trigger`
        works. Raises `NotFoundError`, as all these do, when there is no such job."""
        return Job.read(await self._core.ask("disable_job", id=await self._id(job), actor="api"))

    pause_job = pause

    async def resume(self, job: JobRef, *, missed: bool = False) -> Job:
        """Lets its schedule count again, from its next occurrence in the future; with `missed`, what was due
        meanwhile is treated as its misfire policy says."""
        return Job.read(await self._core.ask("enable_job", id=await self._id(job), missed=missed))

    resume_job = resume

    async def reschedule(
        self, job: JobRef, trigger: Trigger = None, **trigger_args: Unpack[TriggerOptions]
    ) -> Job:
        """Gives a job another schedule. The code of a static job wins again when it is registered next."""
        schedule = schedule_of(trigger, {**trigger_args}).document(self._zone)
        return Job.read(
            await self._core.ask("edit_job", id=await self._id(job), changes={"schedule": schedule})
        )

    reschedule_job = reschedule

    async def modify_job(self, job: JobRef, **changes: Unpack[JobChanges]) -> Job:
        """Changes options of a job. What runs goes on with the old ones. Raises `InvalidError` for what is no
        option, and says what does it."""
        fields = _options.document(changes)
        return Job.read(await self._core.ask("edit_job", id=await self._id(job), changes=fields))

    async def skip_next(self, job: JobRef, n: int = 1) -> Job:
        """Skips the next `n` occurrences, with a record each; 0 takes that back."""
        return Job.read(await self._core.ask("skip_next", id=await self._id(job), n=n))

    async def skip_date(self, job: JobRef, date: str) -> Job:
        """Skips every occurrence on a date, `2026-12-24`, or in a range, `2026-12-24/2026-12-31`."""
        return Job.read(await self._core.ask("skip_date", id=await self._id(job), date=date))

    async def remove(self, job: JobRef) -> None:
        """Removes a job. Running executions go on; its history stays."""
        job_id = await self._id(job)
        await self._core.ask("delete_job", id=job_id)
        if job_id.startswith("static:"):
            self._core.remove_target(job_id)

    remove_job = remove

    async def trigger(
        self,
        job: JobRef,
        parameters: Mapping[str, Any] | None = None,
        *,
        at: Instant | None = None,
        idempotency_key: str | None = None,
        unless_open: bool = False,
        actor: str = "api",
        triggered_by: str | None = None,
    ) -> Execution:
        """Runs a job now, or at an instant, whether or not it is paused, without moving its schedule. Returns
        once that is stored; `wait_for` waits for the end.

        `parameters` stand in place of the job's own. A repeated `idempotency_key` gives the first execution
        back. With `unless_open`, raises `ConflictError` while one is pending or running; otherwise the job's
        overlap policy makes it wait. The record says that it was triggered by `manual:` and the actor, or
        what is given as `triggered_by`."""
        answer = await self._core.ask(
            "run_job",
            id=await self._id(job),
            parameters=None if parameters is None else dict(parameters),
            at=None if at is None else instant(at, self._zone, "at"),
            idempotency_key=idempotency_key,
            unless_open=unless_open,
            actor=actor,
            triggered_by=triggered_by,
        )
        return Execution.read(answer)
