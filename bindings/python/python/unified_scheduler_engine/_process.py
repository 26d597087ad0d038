"""What this process has running: one scheduler a store, an orderly end, and a clean state after a fork."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from typing import TYPE_CHECKING

from ._errors import ConflictError, UnsupportedError

if TYPE_CHECKING:
    from ._core import Core

_running: dict[str, weakref.ref[Core]] = {}
_cores: weakref.WeakSet[Core] = weakref.WeakSet()
_lock = threading.Lock()
_prepared = False
#: The process that had SQLite files open when this one was forked from it.
_sqlite_parent: int | None = None


def enter(core: Core, store: str, name: str) -> None:
    """Notes that a scheduler runs on a store; refuses a second one in this process."""
    _prepare()
    with _lock:
        other = _running[store]() if store in _running else None
        if other is not None and other is not core and other.running:
            raise ConflictError(
                f"the scheduler `{other.name}` already runs on this store in this process, and one is enough:"
                f" add jobs to it in place of starting `{name}`"
            )
        if not store.startswith("memory"):
            _running[store] = weakref.ref(core)
        _cores.add(core)


def leave(core: Core) -> None:
    """Notes that it has stopped."""
    with _lock:
        for store in [store for store, ref in _running.items() if ref() in (core, None)]:
            del _running[store]


def watch(core: Core) -> None:
    """Notes that threads must be ended before the interpreter ends."""
    _prepare()
    with _lock:
        _cores.add(core)


def may_open(store: str) -> None:
    """Refuses what can't work in a forked child.

    SQLite keeps what it knows of locks in memory that a fork copies: a child that opens such a file again
    believes to hold locks that its parent holds, and harms the file.
    """
    if _sqlite_parent is not None and store.startswith("sqlite"):
        raise UnsupportedError(
            f"this process was forked from process {_sqlite_parent}, which had a SQLite store open, and"
            " SQLite does not survive that; fork before the scheduler is used, or spawn"
        )


def _prepare() -> None:
    global _prepared
    if _prepared:
        return
    _prepared = True
    atexit.register(_end)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget)


def _end() -> None:
    for core in list(_cores):
        with contextlib.suppress(Exception):
            core.end_with_interpreter()


def _forget() -> None:
    # The lock may be held by a thread that does not exist here.
    global _lock, _sqlite_parent
    _lock = threading.Lock()
    _running.clear()
    cores = list(_cores)
    if any(core.in_use and str(core.config.get("url")).startswith("sqlite") for core in cores):
        _sqlite_parent = os.getppid()
    for core in cores:
        core.forget_after_fork()
    _cores.clear()
