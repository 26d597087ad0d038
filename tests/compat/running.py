"""Programs that the tests run: the sample backend under a server, and the double of the old engine."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from shared import mongod

HERE = Path(__file__).parent


#: How long something may take that does come about: four workers come up beside each other, on a machine that
#: has a lot to do.
PATIENCE = 120.0


def wait_for(condition, timeout=PATIENCE, what="it"):
    """Waits until a condition holds, and gives what it gave."""
    end = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < end, f"{what} did not come about"
        time.sleep(0.05)


def is_alive(pid):
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Program:
    """A process of the backend's code at a level, stopped at the end."""

    def __init__(self, place, command, app=HERE / "backend" / "app", **env):
        path = [app, HERE / "backend" / place.level, HERE]
        if os.environ.get("PYTHONPATH"):
            path.append(os.environ["PYTHONPATH"])
        self.log = tempfile.NamedTemporaryFile("w+b", suffix=".log")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, *command],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(map(str, path)),
                "BACKEND_MONGO": place.url,
                "BACKEND_DB": place.db.name,
                **env,
            },
            stdout=self.log,
            stderr=self.log,
        )

    def output(self):
        """What it has printed."""
        return Path(self.log.name).read_text(errors="replace")

    def stop(self):
        """Asks it to end, and waits until it has."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"it did not end:\n{self.output()}") from None

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

    def wait_until_up(self):
        """Returns when it does its work."""

    def __enter__(self):
        try:
            self.wait_until_up()
        except BaseException:
            print(self.output()[-8000:])
            self.kill()
            self.log.close()
            raise
        return self

    def __exit__(self, kind, error, tb):
        try:
            self.stop()
        finally:
            if kind is not None:
                print(self.output()[-8000:])
            self.log.close()


class Backend(Program):
    """The sample backend under a server."""

    def __init__(self, place, *arguments, workers=4, server="uvicorn", app=HERE / "backend" / "app", **env):
        self.port = mongod.free_port()
        self.n_workers = workers
        if server == "uvicorn":
            command = ["-m", "uvicorn", "main:app", "--port", str(self.port), "--log-level", "warning"]
            if "--reload" not in arguments:
                command += ["--workers", str(workers)]
                # One that is slow to come up is not put to death.
                command += ["--timeout-worker-healthcheck", "20"]
        else:
            command = ["-m", "gunicorn", "main:app", "--bind", f"127.0.0.1:{self.port}"]
            command += ["--workers", str(workers), "--worker-class", "uvicorn_worker.UvicornWorker"]
        super().__init__(place, [*command, *arguments], app, **env)

    def wait_until_up(self):
        """Each worker has its engine when each has said so."""
        wait_for(lambda: self.get("/health")["engine"], what="the backend")
        wait_for(lambda: self.n_nodes() >= self.n_workers, what="an engine in each worker")

    def n_nodes(self):
        """How many engines share the database, as the backend sees it."""
        return self.get("/nodes").get("alive", 0)

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
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            if isinstance(error, urllib.error.HTTPError):
                raise
            assert self.process.poll() is None, self.output()
            return {"engine": None}


class OldEngine(Program):
    """The double of the engine that is replaced."""

    def __init__(self, place, **env):
        old = type(place)("l1", place.kind, place.url, place.db)
        super().__init__(old, [str(HERE / "old_engine.py")], **env)

    def wait_until_up(self):
        """It says so."""
        wait_for(lambda: "polling" in self.output(), what="the old engine")
