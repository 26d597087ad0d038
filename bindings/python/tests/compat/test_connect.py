"""From a database handle to the engine's own connection: by its options, and proved on real servers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pymongo
import pytest
from unified_scheduler_engine import STORE_SCHEMES
from unified_scheduler_engine.compat import TemplateRegistry, UnifiedScheduler
from unified_scheduler_engine.compat import _connect as connect

from .conftest import driver_names
from .mongod import Mongod

HAS_MONGO = any(scheme.startswith("mongodb") for scheme in STORE_SCHEMES)
needs_store = pytest.mark.skipif(not HAS_MONGO, reason="this build has no MongoDB store")


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
        await asyncio.wait_for(ran.wait(), 20)
        assert scheduler.trouble is None
        # Nothing is left of the proof.
        assert await db.job_executions.count_documents({"job_id": "unified_scheduler.marker"}) == 0
    finally:
        await scheduler.stop()


@needs_store
async def test_the_handle_alone_is_enough(db: Any, templates: TemplateRegistry) -> None:
    await runs_with(db, templates)


@needs_store
async def test_the_wrong_database_is_noticed(
    db: Any, mongodb_url: str, monkeypatch: pytest.MonkeyPatch, templates: TemplateRegistry
) -> None:
    monkeypatch.setattr(connect, "url_of", lambda _: f"{mongodb_url}/another_database_than_that")
    scheduler = UnifiedScheduler(db)
    with pytest.raises(ValueError, match=r"leads to another database.*store_url"):
        await scheduler.start()
    assert not scheduler.is_running


@needs_store
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
            await asyncio.wait_for(ran.wait(), 30)
            # And stopping needs no database.
            server.kill()
            await asyncio.wait_for(scheduler.stop(), 10)
        finally:
            await scheduler.stop()
            server.stop()


@needs_store
async def test_with_authentication(driver: str, templates: TemplateRegistry) -> None:
    with Mongod("--auth") as server:
        with pymongo.MongoClient(server.url) as plain:
            roles = ["root"]
            plain.admin.command("createUser", "ad:min", pwd="p@ss/w rd", roles=roles)
        options = {"username": "ad:min", "password": "p@ss/w rd"}
        async with handle(driver, server.url, **options) as db:
            await runs_with(db, templates)


@needs_store
async def test_with_a_replica_set(driver: str, templates: TemplateRegistry) -> None:
    with Mongod("--replSet", "rs") as server:
        with pymongo.MongoClient(server.url, directConnection=True) as plain:
            member = {"_id": 0, "host": f"127.0.0.1:{server.port}"}
            plain.admin.command("replSetInitiate", {"_id": "rs", "members": [member]})
        async with handle(driver, server.url, replicaSet="rs") as db:
            await runs_with(db, templates)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An authority, and a certificate for this machine."""
    trustme = pytest.importorskip("trustme")
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(
        str(folder / "server.pem")
    )
    yield folder


@needs_store
async def test_with_tls(driver: str, certificates: Path, templates: TemplateRegistry) -> None:
    authority, server_file = str(certificates / "ca.pem"), str(certificates / "server.pem")
    arguments = ("--tlsMode", "requireTLS", "--tlsCertificateKeyFile", server_file, "--tlsCAFile", authority)
    tls = {"tls": True, "tlsCAFile": authority}
    options = "--tlsAllowConnectionsWithoutCertificates"
    with Mongod(*arguments, options, client_options=tls) as server:
        async with handle(driver, server.url, **tls) as db:
            await runs_with(db, templates)
