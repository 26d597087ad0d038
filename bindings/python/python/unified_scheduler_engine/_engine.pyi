"""The native part of the package."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, final

__version__: str
ERROR_KINDS: list[str]
STATUSES: list[str]
STORE_SCHEMES: list[str]
TZDB_VERSION: str

_Done = Callable[[str | None, str | None], None]

@final
class Context:
    """What a handler is given: which execution it runs, its parameters, its log, whether it is to stop."""

    @property
    def key(self) -> int: ...
    @property
    def target(self) -> Any: ...
    @property
    def kind(self) -> str: ...
    @property
    def job_id(self) -> str:
        """The id of the job."""

    @property
    def job_name(self) -> str:
        """Its name."""

    @property
    def handler(self) -> str:
        """The handler or template that runs it."""

    @property
    def execution_id(self) -> str:
        """The id of this attempt."""

    @property
    def attempt(self) -> int:
        """Which attempt at the occurrence this is, counted from 1."""

    @property
    def due_at(self) -> datetime:
        """The due time, in UTC."""

    @property
    def started_at(self) -> datetime | None:
        """When this attempt was claimed, in UTC."""

    @property
    def last_run_at(self) -> datetime | None:
        """When the job last ran before, in UTC."""

    @property
    def n_occurrences(self) -> int:
        """How many occurrences this execution stands for; `due_at` is the first."""

    @property
    def trigger(self) -> str:
        """`schedule`, `manual` or `chain`."""

    @property
    def triggered_by(self) -> str:
        """`scheduler`, `manual:USER`, `chain:EXECUTION`."""

    @property
    def timeout(self) -> float:
        """How long this attempt may take, in seconds."""

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at one occurrence, and for no other."""

    @property
    def fence(self) -> tuple[int, int]:
        """A pair (epoch, claim) that only grows: for systems that can refuse a late writer."""

    @property
    def now(self) -> datetime:
        """What time it is by the scheduler's clock, in UTC."""

    @property
    def cancelled(self) -> bool:
        """Whether it is to stop: for plain functions, which nothing can stop."""

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters, secrets resolved; a copy of this call's own."""

    def job_json(self) -> str: ...
    def execution_json(self) -> str: ...
    def log(self, level: str | int, message: object, /, **fields: Any) -> None:
        """Adds a line to its log, from any thread. `level` is a name or a number of `logging`."""

    def debug(self, message: object, /, **fields: Any) -> None: ...
    def info(self, message: object, /, **fields: Any) -> None: ...
    def warning(self, message: object, /, **fields: Any) -> None: ...
    def error(self, message: object, /, **fields: Any) -> None: ...
    def progress(self, done: int, total: int | None = None, message: str = "") -> None:
        """Says how far it is."""

    async def sleep(self, duration: float) -> None:
        """Waits so many seconds by the scheduler's clock; shorter when the execution is to stop."""

    def measured(self, duration: float) -> None:
        """Says how long the work proper took, in seconds, where that is not all of it."""

    def answer(self, record: str | None = None) -> bool: ...
    def sleep_then(self, duration: float, done: _Done) -> None: ...

@final
class Check:
    @property
    def target(self) -> Any: ...
    @property
    def parameters(self) -> str: ...
    def accept(self, parameters: str | None = None) -> None: ...
    def refuse(self, faults: list[tuple[str, str]]) -> None: ...

@final
class Lane:
    def fileno(self) -> int | None: ...
    def wait(self, timeout: float) -> bool: ...
    def drain(self, n: int) -> tuple[list[Context], list[int], list[Check], list[str], bool]: ...
    @property
    def n_abandoned(self) -> int: ...
    @property
    def n_waiting(self) -> int: ...
    @property
    def n_lost_events(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    def set_served(self, served: bool) -> None: ...
    def close(self) -> None: ...
    def reopen(self) -> None: ...

@final
class Engine:
    def __init__(self, config: str) -> None: ...
    @property
    def loop_lane(self) -> Lane: ...
    @property
    def thread_lane(self) -> Lane: ...
    @property
    def running(self) -> bool: ...
    @property
    def is_here(self) -> bool: ...
    @property
    def n_running(self) -> int: ...
    @property
    def node(self) -> str | None: ...
    def set_handler(self, name: str, target: object, kind: str) -> None: ...
    def set_template(self, metadata: str, target: object, kind: str, checks: bool) -> None: ...
    def remove_handler(self, name: str) -> bool: ...
    def add_static(self, job: str) -> None: ...
    def register(self, job: str, done: _Done) -> None: ...
    def start(self, done: _Done) -> None: ...
    def stop(self, grace: float, close: bool, done: _Done) -> None: ...
    def kill(self) -> None: ...
    def ask(self, op: str, done: _Done) -> None: ...
    def subscribe(self, executions: bool) -> None: ...
    def advance(self, duration: float, jump: bool, done: _Done) -> None: ...
    def shut_down(self, timeout: float) -> None: ...

def check_schedule(schedule: str) -> str: ...
def preview_schedule(schedule: str, n: int, since: str | None = None) -> str: ...
def timezone_names() -> list[str]: ...
def read_document(document: str) -> str: ...
def set_log_level(level: int) -> None: ...
def take_log() -> list[tuple[int, str, str]]: ...
