"""Every form of a job's document that scripts and old versions have left behind, and how it is to be read.

Each row is one cell of the contract's table of variants: the fields that make the form, and what must come of
it. `next` is the due time after the run: the length of an interval in seconds, or a cron expression and its
zone.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from croniter import croniter

from documents import now

#: Fields that nobody interprets, of every type that a database can hold.
EXTRA = {"tags": ["x"], "priority": 3, "runCount": 7, "odd": {"a": [1, {"b": None}], "$in": 2.5, "d.e": True}}

#: Where a due time may stand.
DUE = ("nextRunAt", "next_run_at", "nextRun", "next_run")

HOUR = {"type": "interval", "interval_seconds": 3600, "expression": None, "timezone": "UTC"}


@dataclass
class Variant:
    """One form of a document."""

    name: str
    fields: dict[str, Any]
    #: How often it begins to work while the test looks.
    runs: int = 1
    status: str | None = "success"
    next: Any = 3600
    #: What the services of level 2 add when they show it.
    shown: dict[str, Any] = field(default_factory=dict)
    #: Fields that are left out of what all have.
    without: tuple[str, ...] = ()

    def document(self, soon):
        """The document; it is due `soon`."""
        base = {
            "template_type": "work",
            "parameters": {"seconds": 0},
            "enabled": True,
            "schedule": HOUR,
            "nextRunAt": soon,
            **EXTRA,
        }
        kept = {key: value for key, value in base.items() if key not in self.without}
        return {"name": self.name, **kept, **self.fields}

    def next_due(self, document):
        """When it is due next, after it has run."""
        due = next(document[key] for key in DUE if key in document)
        if isinstance(due, str):
            due = datetime.fromisoformat(due.removesuffix("Z"))
        if isinstance(self.next, tuple):
            expression, zone = self.next
            local = due.replace(tzinfo=ZoneInfo("UTC")).astimezone(ZoneInfo(zone))
            found = croniter(expression, local).get_next(datetime)
            return found.astimezone(ZoneInfo("UTC")).replace(tzinfo=None)
        step = timedelta(seconds=self.next)
        return due + step * (max(now() - due, timedelta(0)) // step + 1)


def _run(name, without=(), *, next=3600, shown=None, status="success", runs=1, **fields):
    return Variant(name, fields, runs, status, next, shown or {}, tuple(without))


def _rest(name, without=(), *, status=None, shown=None, **fields):
    return Variant(name, fields, 0, status, None, shown or {}, tuple(without))


def all_variants(soon):
    """All of them; those that run are due `soon`."""
    # Not on the grid of `soon`: one that is overdue by hours runs once, and not again with the others.
    past, later = soon - timedelta(days=90, minutes=20), soon + timedelta(days=1)
    daily = "0 3 * * *"
    flat, template, due = ("schedule",), ("template_type",), ("nextRunAt",)
    cron = {"type": "cron", "expression": daily, "timezone": "America/New_York"}
    fail = {"template_type": "fail"}
    return [
        # Template: the first that is there and not null.
        _run("templateType", templateType="work", template_type="nothing", shown={"template_type": "work"}),
        _run("template_type", template="nothing"),
        _run("template", template, template="work", shown={"template_type": "work"}),
        _run("null templateType", templateType=None),
        _rest("no template", template, status="failed", nextRunAt=past),
        # Due time.
        _run("a due time as text", nextRunAt=soon.isoformat() + "Z"),
        _run("overdue", nextRunAt=past),
        _run("next_run_at to come", due, next_run_at=soon),
        _run("nextRun to come", due, nextRun=soon),
        _run("next_run to come", due, next_run=soon),
        _run("nextRunAt wins", next_run_at=later, nextRun=later),
        _rest("next_run_at of the past", due, next_run_at=past),
        _rest("nextRun of the past", due, nextRun=past),
        _rest("next_run of the past", due, next_run=past),
        _rest("no due time", due),
        # Enabled.
        _run("isEnabled", enabled=None, isEnabled=True),
        _rest("enabled wins", enabled=False, isEnabled=True, nextRunAt=past),
        _rest("off", enabled=False, nextRunAt=past),
        _rest("enabled is absent", ("enabled",), nextRunAt=past),
        # Schedule, as a document,
        _run("type is absent", schedule={"interval_seconds": 7200}, next=7200),
        _run("interval null", schedule={**HOUR, "interval_seconds": None}),
        _run("interval absent", schedule={"type": "interval"}),
        _run("interval beside an expression", schedule={**HOUR, "expression": "*/5 * * * *"}),
        _run("cron", schedule=cron, next=(daily, "America/New_York")),
        _run("cron by value", schedule={"type": "cron", "value": daily}, next=(daily, "UTC")),
        _run("cron without a zone", schedule={"type": "cron", "expression": daily}, next=(daily, "UTC")),
        _run("cron, seconds last", schedule={**cron, "expression": "0 3 * * * 30", "timezone": "UTC"},
             next=("0 3 * * * 30", "UTC")),
        # as text,
        _run("cron as text", schedule=daily, next=(daily, "UTC")),
        # and flat.
        _run("flat interval", flat, scheduleType="interval", intervalSeconds=7200, next=7200),
        _run("flat interval, snakes", flat, schedule_type="interval", interval_seconds=7200, next=7200),
        _run("flat interval, short", flat, interval=7200, next=7200),
        _run("flat, nothing said", flat),
        _run("flat, beside an empty document", schedule={}, intervalSeconds=7200, next=7200),
        _run("flat cron", flat, scheduleType="cron", cronExpression=daily, timezone="Asia/Kolkata",
             next=(daily, "Asia/Kolkata")),
        _run("flat cron, snakes", flat, schedule_type="cron", cron_expression=daily, next=(daily, "UTC")),
        _run("a schedule beats flat fields", intervalSeconds=7200, cronExpression=daily),
        # A schedule that can't be read.
        _rest("bad cron", schedule={"type": "cron", "expression": "x"}, status="failed", nextRunAt=past),
        _rest("bad cron as text", schedule="every day", status="failed", nextRunAt=past),
        _rest("bad zone", schedule={**cron, "timezone": "Mars/Base"}, status="failed", nextRunAt=past),
        _rest("bad type", schedule={"type": "fortnightly"}, status="failed", nextRunAt=past),
        _rest("interval of 0", schedule={**HOUR, "interval_seconds": 0}, status="failed", nextRunAt=past),
        _rest("negative interval", schedule={**HOUR, "interval_seconds": -5}, status="failed",
              nextRunAt=past),
        # Time-out.
        _run("timeout_seconds", parameters={"seconds": 40}, timeout_seconds=4, timeout=39, status="timeout"),
        _run("timeout", parameters={"seconds": 40}, timeout=4, status="timeout"),
        # Retries that nobody chose; and those of a template that says that they are safe.
        _run("retry_policy", **fail, status="failed",
             retry_policy={"max_retries": 3, "retry_delay_seconds": 1}),
        _run("retry_config", **fail, status="failed", retry_config={"max_retries": 3, "retry_delay": 1}),
        _run("retry_count", **fail, status="failed", retry_count=3, retry_delay=1),
        _run("safe retry_policy", template_type="fail_safe", status="failed", runs=3,
             retry_policy={"max_retries": 2, "retry_delay_seconds": 1}),
        _run("safe retry_config", template_type="fail_safe", status="failed", runs=2,
             retry_config={"max_retries": 1, "retry_delay": 1}),
        _run("safe retry_count", template_type="fail_safe", status="failed", runs=2, retry_count=1,
             retry_delay=1),
        # What was.
        _rest("last run, camels", nextRunAt=later, lastRunAt=past, lastStatus="success", createdAt=past,
              updatedAt=past, shown={"last_run_at": past, "last_status": "success", "created_at": past,
                                     "last_run_status": "success", "updated_at": past}, status="success"),
        _rest("last run, snakes", nextRunAt=later, last_run_at=past, last_status="partial", created_at=past,
              updated_at=past, shown={"last_run_at": past, "last_status": "partial", "created_at": past,
                                      "updated_at": past}),
        _rest("last run, short", nextRunAt=later, lastRun=past, createdBy="eve", shown={"last_run_at": past}),
        _rest("last run, shorter", nextRunAt=later, last_run=past, shown={"last_run_at": past}),
        _rest("dates as text", nextRunAt=later.isoformat() + "Z", lastRunAt=past.isoformat() + "Z"),
        # Parameters.
        _run("no parameters", ("parameters",)),
        _run("odd parameters", parameters={"seconds": 0, "$gt": 1, "a.b": {"$in": [1]}, "when": past}),
    ]  # fmt: skip
