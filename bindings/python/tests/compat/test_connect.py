"""From a database handle to the engine's own connection: by its options, and proved on real servers."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pymongo
import pytest
import trustme
from mongod import Mongod
from unified_scheduler_engine.compat import TemplateRegistry, UnifiedScheduler
from unified_scheduler_engine.compat import _connect as connect
from waiting import PATIENCE, until

from .conftest import driver_names


def client_of(driver: str, *arguments: Any, **options: Any) -> Any:
    """A client of a driver."""
    if driver == "motor":
        from motor.motor_asyncio import AsyncIOMotorClient

        return AsyncIOMotorClient(*arguments, **options)
    return pymongo.AsyncMongoClient(*arguments, **options)


@asynccontextmanager
async def handle(driver: str, *arguments: Any, name: str = "app", **options: Any) -> AsyncIterator[Any]:
    """A database handle."""
    client = client_of(driver, *arguments, **options)
    try:
        yield client[name]
    finally:
        closed = client.close()
        if inspect.isawaitable(closed):
            await closed


@pytest.fixture(params=driver_names())
def driver(request: pytest.FixtureRequest) -> str:
    """Each driver that is installed."""
    return str(request.param)


@pytest.mark.parametrize(
    ("arguments", "options", "url"),
    [
        (("mongodb://h:1/",), {}, "mongodb://h:1/app"),
        (("h", 7), {}, "mongodb://h:7/app"),
        ((["a:1", "b:2"],), {"replicaSet": "rs"}, "mongodb://a:1,b:2/app?replicaSet=rs"),
        (("mongodb://[::1]:5/",), {}, "mongodb://[::1]:5/app"),
        (
            ("mongodb://u:p%40s%2Fs@h/other",),
            {},
            "mongodb://u:p%40s%2Fs@h:27017/app?authSource=other",
        ),
        (
            ("h",),
            {"username": "ü", "password": "a b", "authSource": "x", "authMechanism": "SCRAM-SHA-256"},
            "mongodb://%C3%BC:a%20b@h:27017/app?authMechanism=SCRAM-SHA-256&authSource=x",
        ),
        (("mongodb://h/?directConnection=true",), {}, "mongodb://h:27017/app?directConnection=true"),
    ],
)
async def test_a_url_follows_from_the_options_of_a_client(
    driver: str, arguments: Any, options: Any, url: str
) -> None:
    async with handle(driver, *arguments, **options) as db:
        assert connect.url_of(db) == url


async def test_the_name_of_a_database_is_escaped(driver: str) -> None:
    async with handle(driver, "h", name="ä+b") as db:
        assert connect.url_of(db) == "mongodb://h:27017/%C3%A4%2Bb"


@pytest.mark.parametrize("db", [object(), None, {}, "mongodb://h/db"])
async def test_what_is_no_handle_is_refused_with_what_to_pass(
    db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(connect.VARIABLE, raising=False)
    with pytest.raises(ValueError, match="store_url"):
        connect.candidates(db, None)


def test_the_variable_comes_after_the_handle(monkeypatch: pytest.MonkeyPatch) -> None:
    class Db:
        name = "app"

    monkeypatch.setenv(connect.VARIABLE, "mongodb://u:p@h/?w=1")
    found = connect.candidates(Db(), None)
    assert [candidate.source for candidate in found] == ["MONGODB_URL"]
    assert found[0].to_prove
    assert found[0].url == "mongodb://u:p@h/app?w=1&authSource=admin"
    assert "p@" not in repr(found[0])
    assert connect.candidates(Db(), "sqlite://x.db") == [
        connect.Candidate("sqlite://x.db", "store_url", False)
    ]


def test_a_handle_is_never_asked_for_its_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    class Db:
        name = "app"

        def __bool__(self) -> bool:
            raise NotImplementedError

    monkeypatch.setenv(connect.VARIABLE, "mongodb://h/")
    connect.candidates(Db(), None)
    UnifiedScheduler(Db())


# On real servers


async def runs_with(db: Any, templates: TemplateRegistry) -> None:
    """A static job runs through a scheduler that was given the handle alone."""
    ran = asyncio.Event()

    async def work() -> None:
        ran.set()

    scheduler = UnifiedScheduler(db, stop_grace=1.0)
    scheduler.add_job("work", 3600, work)
    await scheduler.start()
    try:
        await until(ran.is_set)
        await until(lambda: scheduler.trouble is None)
        # Nothing is left of the proof.
        assert await db.job_executions.count_documents({"job_id": "unified_scheduler.marker"}) == 0
    finally:
        await scheduler.stop()


async def test_the_handle_alone_is_enough(db: Any, templates: TemplateRegistry) -> None:
    await runs_with(db, templates)


async def test_the_wrong_database_is_noticed(
    db: Any, mongodb_url: str, monkeypatch: pytest.MonkeyPatch, templates: TemplateRegistry
) -> None:
    monkeypatch.setattr(connect, "url_of", lambda _: f"{mongodb_url}another_database_than_that")
    scheduler = UnifiedScheduler(db)
    with pytest.raises(ValueError, match=r"leads to another database.*store_url"):
        await scheduler.start()
    assert not scheduler.is_running


async def test_a_server_that_comes_late_is_waited_for(driver: str, templates: TemplateRegistry) -> None:
    server = Mongod()
    async with handle(driver, server.url, serverSelectionTimeoutMS=500) as db:
        ran = asyncio.Event()

        async def work() -> None:
            ran.set()

        scheduler = UnifiedScheduler(db, stop_grace=1.0)
        scheduler.add_job("work", 3600, work)
        await scheduler.start()
        assert scheduler.is_running
        assert scheduler.engine is None
        assert scheduler.trouble
        try:
            await asyncio.to_thread(server.start)
            await until(ran.is_set)
            # And stopping needs no database.
            server.kill()
            await asyncio.wait_for(scheduler.stop(), PATIENCE)
        finally:
            await scheduler.stop()
            server.stop()


@pytest.fixture(scope="module")
def locked() -> Iterator[Mongod]:
    """A server with passwords: one user of the usual database of users, and one of another."""
    with Mongod("--auth") as server:
        admin: dict[str, Any] = {"username": "ad:min", "password": "p@ss/w rd"}
        with pymongo.MongoClient[Any](server.url) as plain:
            plain.admin.command("createUser", admin["username"], pwd=admin["password"], roles=["root"])
        with pymongo.MongoClient[Any](server.url, **admin) as plain:
            roles = [{"role": "readWriteAnyDatabase", "db": "admin"}]
            plain.users.command("createUser", "app", pwd="ä%2F", roles=roles)
        yield server


@pytest.mark.parametrize(
    "options",
    [
        {"username": "ad:min", "password": "p@ss/w rd"},
        {"username": "ad:min", "password": "p@ss/w rd", "authMechanism": "SCRAM-SHA-1"},
        {"username": "app", "password": "ä%2F", "authSource": "users"},
        {"username": "app", "password": "ä%2F", "authSource": "users", "authMechanism": "SCRAM-SHA-256"},
    ],
)
async def test_with_authentication(
    driver: str, locked: Mongod, options: dict[str, str], templates: TemplateRegistry
) -> None:
    # A database of its own: in one that has run the job already, it is not due.
    async with handle(driver, locked.url, name=f"app_{uuid.uuid4().hex[:8]}", **options) as db:
        await runs_with(db, templates)


async def test_a_password_is_never_shown(
    locked: Mongod, caplog: pytest.LogCaptureFixture, templates: TemplateRegistry
) -> None:
    url = locked.url.replace("://", "://app:wrong-secret@") + "app?authSource=users"
    scheduler = UnifiedScheduler(None, store_url=url, stop_grace=0.5)
    with contextlib.suppress(Exception):
        await scheduler.start()
    trouble = str(scheduler.trouble)
    await scheduler.stop()
    assert "secret" not in caplog.text + trouble + repr(scheduler)


async def test_stopping_while_jobs_run_needs_no_database(driver: str, templates: TemplateRegistry) -> None:
    with Mongod() as server:
        async with handle(driver, server.url, serverSelectionTimeoutMS=500) as db:
            began, ended = asyncio.Event(), asyncio.Event()

            async def work() -> None:
                began.set()
                try:
                    await asyncio.sleep(3600)
                finally:
                    ended.set()

            scheduler = UnifiedScheduler(db, stop_grace=1.0)
            scheduler.add_job("work", 3600, work)
            await scheduler.start()
            await until(began.is_set)
            server.kill()
            await asyncio.wait_for(scheduler.stop(), PATIENCE)
            assert ended.is_set(), "it was cancelled"
            assert not scheduler.is_running


async def test_with_a_replica_set(driver: str, templates: TemplateRegistry) -> None:
    with Mongod(replica_set="rs") as server:
        async with handle(driver, server.url) as db:
            await runs_with(db, templates)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An authority, and a certificate for this machine."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(
        str(folder / "server.pem")
    )
    yield folder


async def test_with_tls(driver: str, certificates: Path, templates: TemplateRegistry) -> None:
    authority, server_file = str(certificates / "ca.pem"), str(certificates / "server.pem")
    arguments = ("--tlsMode", "requireTLS", "--tlsCertificateKeyFile", server_file, "--tlsCAFile", authority)
    tls: dict[str, Any] = {"tls": True, "tlsCAFile": authority}
    options = "--tlsAllowConnectionsWithoutCertificates"
    with Mongod(*arguments, options, client_options=tls) as server:
        async with handle(driver, server.url, **tls) as db:
            await runs_with(db, templates)
