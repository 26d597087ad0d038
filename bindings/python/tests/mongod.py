"""A private MongoDB server for tests, on a free port and in a folder of its own.

`TEST_MONGODB_URL` names one that runs already. Otherwise `mongod` is looked for in `MONGOD` and in the PATH.
It keeps its files in `MONGOD_FOLDER`; without that, where temporary files are.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import pymongo
from pymongo import errors


def binary() -> str | None:
    """Where the server is; `None` when there is none."""
    return os.environ.get("MONGOD") or shutil.which("mongod")


#: What keeps free ports free, until the end of this process.
_HELD: list[socket.socket] = []


def free_port() -> int:
    """A port that nobody listens on, and that is given to nobody else. Who asks for it by its number, and
    does not mind that its address is in use, as servers do, can listen there."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    _HELD.append(held)
    return int(held.getsockname()[1])


def without_database(url: str) -> str:
    """A connection string that names no database.

    >>> without_database("mongodb://h:1/app?replicaSet=rs"), without_database("mongodb://h:1")
    ('mongodb://h:1/?replicaSet=rs', 'mongodb://h:1/')
    """
    place, mark, options = url.partition("?")
    scheme, _, rest = place.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/{mark}{options}"


def provided(variable: str, replica_set: str | None = None) -> Iterator[str]:
    """The server that a variable names, else one of our own, for as long as the generator lives."""
    given = os.environ.get(variable)
    if given:
        yield without_database(given)
        return
    with Mongod(replica_set=replica_set) as server:
        yield without_database(server.url)


class Mongod:
    """A server that is stopped, and its folder removed, at the end."""

    def __init__(
        self,
        *arguments: str,
        replica_set: str | None = None,
        client_options: dict[str, Any] | None = None,
    ) -> None:
        self.port = free_port()
        self._address = f"127.0.0.1:{self.port}"
        self._replica_set = replica_set
        self._client_options = client_options or {}
        found = binary()
        if found is None:
            raise RuntimeError(
                "there is no MongoDB server: set TEST_MONGODB_URL, or MONGOD to where mongod is"
            )
        self._folder = tempfile.mkdtemp(prefix="mongod-", dir=os.environ.get("MONGOD_FOLDER"))
        self._command = [found, "--dbpath", self._folder, "--port", str(self.port), "--bind_ip", "127.0.0.1"]
        self._command += ["--nounixsocket", "--quiet", "--wiredTigerCacheSizeGB", "0.25"]
        self._command += ["--wiredTigerEngineConfigString", "log=(file_max=8MB,prealloc=false)"]
        if replica_set is not None:
            self._command += ["--replSet", replica_set, "--oplogSize", "16"]
        self._command += arguments
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is, without a database."""
        options = "" if self._replica_set is None else f"?replicaSet={self._replica_set}"
        return f"mongodb://{self._address}/{options}"

    def start(self) -> Mongod:
        """Starts it, and waits until it answers."""
        with open(os.path.join(self._folder, "log"), "ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        until = time.monotonic() + 60
        while True:
            try:
                self._greet(until)
                return self
            except errors.PyMongoError:
                if time.monotonic() > until or self.process.poll() is not None:
                    self.stop()
                    raise

    def _greet(self, until: float) -> None:
        client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(
            self._address, serverSelectionTimeoutMS=500, directConnection=True, **self._client_options
        )
        with client:
            client.admin.command("ping")
            if self._replica_set is None:
                return
            members = [{"_id": 0, "host": self._address}]
            try:
                client.admin.command("replSetInitiate", {"_id": self._replica_set, "members": members})
            except errors.OperationFailure as error:
                if error.code != 23:  # It is one already.
                    raise
            while not client.admin.command("hello").get("isWritablePrimary"):
                if time.monotonic() > until:
                    raise errors.ServerSelectionTimeoutError("it did not become primary")
                time.sleep(0.05)

    def kill(self) -> None:
        """Ends it at once; its data stay."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """Ends it, and removes its folder."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Mongod:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()
