"""The pages about Python do what they say: their blocks of code run, in order, and print what they promise.

A page is a program. Blocks share their names, may use a bare `await`, and print exactly the lines that follow
`#>` in them. A block with `title="name.py"` is a file: it is written, imported by what comes after it, and
run by pytest when it is a test. One with `ignore` is only compiled: what it takes is not here.

`UNIFIED_SCHEDULER_PAGES` names the repository when the tests are run elsewhere.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib
import inspect
import io
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymongo
import pytest
import servers

BLOCK = re.compile(r"^```python([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'title="([\w.]+)"')
PROMISE = re.compile(r"^ *#> ?(.*)$", re.MULTILINE)


def repository() -> Path:
    """Where the pages are."""
    named = os.environ.get("UNIFIED_SCHEDULER_PAGES")
    place = Path(named) if named else Path(__file__).resolve().parents[3]
    if not (place / "docs/python").is_dir():
        pytest.fail(f"no pages in {place}: set UNIFIED_SCHEDULER_PAGES to where the repository is")
    return place


PAGES = (
    "README.md",
    "bindings/python/README.md",
    *(
        f"docs/python/{name}.md"
        for name in (
            "tutorial",
            "reference",
            "from-apscheduler",
            "from-celery-beat",
        )
    ),
)


@dataclass
class Block:
    """A piece of code in a page."""

    page: Path
    line: int
    info: str
    code: str

    @property
    def title(self) -> str | None:
        """The file that it is."""
        found = TITLE.search(self.info)
        return None if found is None else found[1]

    def compiled(self) -> Any:
        """Its code, with the lines of the page."""
        source = "\n" * self.line + self.code
        return compile(source, str(self.page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    text = page.read_text()
    for found in BLOCK.finditer(text):
        yield Block(page, text.count("\n", 0, found.start()) + 1, found[1], found[2])


class Page:
    """A page that runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "page"}
        self.loop = asyncio.new_event_loop()
        self.modules: list[str] = []

    def run(self, block: Block) -> None:
        """Runs a block."""
        code = block.compiled()
        if "ignore" in block.info.split():
            return
        if block.title is not None:
            self.write(block, block.title)
            return
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            waits = eval(code, self.names)
            if inspect.iscoroutine(waits):
                self.loop.run_until_complete(waits)
        promised = PROMISE.findall(block.code)
        printed = out.getvalue().splitlines()
        assert printed == promised, f"{block.page}:{block.line}\n{out.getvalue()}"

    def write(self, block: Block, title: str) -> None:
        """Makes the file that a block is."""
        (self.folder / title).write_text(block.code)
        module = title.removesuffix(".py")
        if not title.startswith("test_"):
            self.modules.append(module)
            importlib.import_module(module)
            return
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", title]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{block.page}:{block.line}\n{done.stdout}{done.stderr}"

    def close(self) -> None:
        """Forgets what it made."""
        self.loop.close()
        for module in self.modules:
            sys.modules.pop(module, None)


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """A page in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    page = Page(tmp_path)
    yield page
    page.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_does_what_it_says(name: str, running: Page) -> None:
    for block in blocks_of(repository() / name):
        running.run(block)


@pytest.mark.parametrize("name", ("existing-backend", "existing-backend-tutorial"))
def test_a_page_about_the_existing_backend_does_what_it_says(
    name: str, running: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unified_scheduler_engine.compat import registry

    monkeypatch.setattr(registry, "_registry", registry.TemplateRegistry())
    url = servers.url_of("mongodb", tmp_path)
    client: pymongo.AsyncMongoClient[dict[str, Any]] = pymongo.AsyncMongoClient(url)
    database = f"pages_{uuid.uuid4().hex[:12]}"
    # The handle that such a backend has.
    running.names["db"] = client[database]
    try:
        for block in blocks_of(repository() / f"docs/python/{name}.md"):
            running.run(block)
    finally:
        running.loop.run_until_complete(client.drop_database(database))
        running.loop.run_until_complete(client.close())


def test_the_page_about_the_existing_backend_names_every_option_and_defect() -> None:
    from unified_scheduler_engine import UnifiedScheduler, initialize_unified_scheduler

    text = (repository() / "docs/python/existing-backend.md").read_text()
    options = {*inspect.signature(UnifiedScheduler).parameters}
    options |= {*inspect.signature(initialize_unified_scheduler).parameters} - {"options"}
    assert [name for name in sorted(options) if not re.search(rf"\b{name}\b", text)] == []
    assert [n for n in range(1, 30) if not re.search(rf"\bD{n}\b", text)] == []


def public_names() -> Iterator[tuple[str, list[str]]]:
    """Every public name, and the parameters that it takes where it is a function."""
    import unified_scheduler_engine as package
    from unified_scheduler_engine import apscheduler, fastapi, testing

    for name in package.__all__:
        yield name, []
    for module, names in (
        (fastapi, fastapi.__all__),
        (apscheduler, ["import_jobs", "register", "resolve", "Imported"]),
    ):
        for name in names:
            found = getattr(module, name)
            yield name, list(inspect.signature(found).parameters) if inspect.isfunction(found) else []
    for kind in (
        package.Scheduler,
        package.SyncScheduler,
        package.JobHandle,
        package.Context,
        package.ProcessContext,
        testing.TestScheduler,
        *(package.Every, package.Cron, package.At, package.Manual),
        *(package.Retry, package.Misfire, package.Overlap, package.History, package.Chain, package.Result),
        *(package.Job, package.Execution, package.Failure, package.LogLine, package.Run, package.Reason),
        *(package.Explanation, package.Report, package.Event, package.Fault, package.RetryLater),
    ):
        yield from members(kind)


def members(kind: Any) -> Iterator[tuple[str, list[str]]]:
    """The public members of a class, with their parameters, and what makes one."""
    # A handle is made by others.
    if kind.__name__ != "JobHandle":
        with contextlib.suppress(TypeError, ValueError):
            yield kind.__name__, list(inspect.signature(kind).parameters)
    for name in [*dir(kind), *getattr(kind, "__annotations__", {})]:
        if name.startswith("_") or name == "read" or hasattr(BaseException, name):
            continue
        found = getattr(kind, name, None)
        takes = inspect.signature(found).parameters if inspect.isfunction(found) else {}
        yield name, list(takes)


def test_the_reference_names_everything_public() -> None:
    text = (repository() / "docs/python/reference.md").read_text()
    told = {
        word
        for code in re.findall(r"`+([^`]+)`+", text, re.DOTALL)
        for word in re.findall(r"[A-Za-z_]\w*", code)
    }
    told |= {"self", "cls", "common", "options", "P", "args", "kwargs"}
    missing = {
        f"{name}({word})" if word != name else name
        for name, parameters in public_names()
        for word in (name, *parameters)
        if word not in told and not word.startswith("_")
    }
    assert not missing, f"docs/python/reference.md says nothing of {sorted(missing)}"
