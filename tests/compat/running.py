"""Programs that the tests run: the sample backend under uvicorn, and the double of the old engine."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(condition, timeout=30.0, what="it"):
    """Waits until a condition holds, and gives what it gave."""
    end = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < end, f"{what} did not come about"
        time.sleep(0.05)


class Program:
    """A process of the backend's code at a level, stopped at the end."""

    def __init__(self, url, database, level, command, **env):
        path = [HERE / "backend" / "app", HERE / "backend" / level, HERE]
        if os.environ.get("PYTHONPATH"):
            path.append(os.environ["PYTHONPATH"])
        self.log = tempfile.NamedTemporaryFile("w+b", suffix=".log")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, *command],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(map(str, path)),
                "BACKEND_MONGO": url,
                "BACKEND_DB": database,
                **env,
            },
            stdout=self.log,
            stderr=self.log,
        )

    def output(self):
        """What it has printed."""
        return Path(self.log.name).read_text(errors="replace")

    def stop(self, timeout=20.0):
        """Asks it to end; the time that took."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"it did not end:\n{self.output()}") from None
        return time.monotonic() - began

    def kill(self):
        """Ends it and its workers at once."""
        for pid in [*self.workers(), self.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()

    def workers(self):
        """The processes below it."""
        try:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        except OSError:
            return []
        return [int(pid) for pid in children.split()]

    def __enter__(self):
        return self

    def __exit__(self, kind, error, tb):
        try:
            self.stop()
        finally:
            if kind is not None:
                print(self.output()[-8000:])


class Backend(Program):
    """The sample backend under uvicorn."""

    def __init__(self, url, database, level, workers=4, **env):
        self.port = free_port()
        command = ["-m", "uvicorn", "main:app", "--port", str(self.port), "--log-level", "warning"]
        super().__init__(url, database, level, [*command, "--workers", str(workers)], **env)

    def __enter__(self):
        try:
            wait_for(lambda: self.get("/health")["engine"], what="the backend")
        except BaseException:
            print(self.output()[-8000:])
            self.kill()
            raise
        return self

    def get(self, path):
        """The answer of a route, `{"engine": None}` while nobody answers."""
        return self.send("GET", path)

    def send(self, method, path, body=None):
        """The same with a body."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        address = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(address, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError) as error:
            if isinstance(error, urllib.error.HTTPError):
                raise
            assert self.process.poll() is None, self.output()
            return {"engine": None}


class OldEngine(Program):
    """The double of the engine that is replaced."""

    def __init__(self, url, database, **env):
        super().__init__(url, database, "l1", [str(HERE / "old_engine.py")], **env)

    def __enter__(self):
        wait_for(lambda: "polling" in self.output(), what="the old engine")
        return self
