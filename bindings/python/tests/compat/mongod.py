"""A private MongoDB server for tests, on a free port and in a folder of its own.

`TEST_MONGODB_URL` names one that runs already. Otherwise `mongod` is looked for in `MONGOD` and in the PATH.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from types import TracebackType

import pymongo


def binary() -> str | None:
    """Where the server is; `None` when there is none."""
    return os.environ.get("MONGOD") or shutil.which("mongod")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Mongod:
    """A server that is stopped, and its folder removed, at the end."""

    def __init__(self, *arguments: str, client_options: dict[str, object] | None = None) -> None:
        self.port = free_port()
        self.url = f"mongodb://127.0.0.1:{self.port}"
        self._client_options = client_options or {}
        self._folder = tempfile.mkdtemp(prefix="mongod-")
        found = binary()
        if found is None:
            raise RuntimeError("there is no mongod: set TEST_MONGODB_URL or MONGOD")
        self._command = [found, "--dbpath", self._folder, "--port", str(self.port), "--bind_ip", "127.0.0.1"]
        self._command += ["--nounixsocket", "--quiet", "--wiredTigerCacheSizeGB", "0.25", *arguments]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Mongod:
        """Starts it, and waits until it answers."""
        with open(os.path.join(self._folder, "log"), "ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        until = time.monotonic() + 30
        while True:
            try:
                client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(
                    self.url, serverSelectionTimeoutMS=500, directConnection=True, **self._client_options
                )
                with client:
                    client.admin.command("ping")
                return self
            except pymongo.errors.PyMongoError:
                if time.monotonic() > until or self.process.poll() is not None:
                    self.stop()
                    raise

    def kill(self) -> None:
        """Ends it at once; its data stay."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """Ends it, and removes its folder."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Mongod:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()
