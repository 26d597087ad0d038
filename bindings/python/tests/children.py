"""Processes that tests start, which end when they are told to: when there is no more to read for them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from waiting import PATIENCE


class Children:
    """Some processes."""

    def __init__(self, processes: list[subprocess.Popen[bytes]]) -> None:
        self._processes = processes

    def tell(self, line: str) -> None:
        """Gives all of them a line to read."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.write(line.encode())
                process.stdin.flush()

    async def end(self) -> list[int]:
        """Tells all that it is over, and gives how they ended."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
        return [await asyncio.to_thread(process.wait, PATIENCE) for process in self._processes]

    def kill(self) -> None:
        """Ends them at once."""
        for process in self._processes:
            process.kill()
            process.wait()


@contextmanager
def children(*commands: Sequence[str]) -> Iterator[Children]:
    """Python with each of these arguments, ended at the latest with the block."""
    processes: list[subprocess.Popen[bytes]] = []
    started = Children(processes)
    try:
        processes.extend(
            subprocess.Popen([sys.executable, *command], stdin=subprocess.PIPE) for command in commands
        )
        yield started
    finally:
        started.kill()
        for process in processes:
            if process.stdin is not None:
                process.stdin.close()
