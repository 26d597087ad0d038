"""From a database handle to the URL of the engine's own connection to the same database.

A driver has no public way to give back what it was made with, so this is read from the client's options, and
proved (`_proof`) before anything is done with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from .._errors import InvalidError

#: The variable that many deployments have their connection string in.
VARIABLE = "MONGODB_URL"

HELP = (
    "pass store_url='mongodb://user:password@host:27017/database' to UnifiedScheduler or"
    " initialize_unified_scheduler, or set the environment variable MONGODB_URL"
)

#: Options of the driver that the engine's connection needs as well, by the names that URLs have for them.
_TAKEN = {
    "replicaset": "replicaSet",
    "directconnection": "directConnection",
    "loadbalanced": "loadBalanced",
    "tlscafile": "tlsCAFile",
    "tlscertificatekeyfile": "tlsCertificateKeyFile",
    "tlsallowinvalidcertificates": "tlsAllowInvalidCertificates",
    "tlsinsecure": "tlsInsecure",
}

#: Those without which a connection would be another one, and which it can't have.
_IMPOSSIBLE = ("tlscertificatekeyfilepassword", "tlscrlfile", "auto_encryption_opts")


@dataclass(frozen=True)
class Candidate:
    """A URL that may lead to the database."""

    url: str
    #: Where it comes from, for messages.
    source: str
    #: Whether it must be shown to lead there.
    to_prove: bool

    def __repr__(self) -> str:
        # The URL holds a password.
        return f"<Candidate from {self.source}>"


def candidates(db: Any, store_url: str | None) -> list[Candidate]:
    """The URLs to try, in this order. Raises `InvalidError` when there is none."""
    if store_url is not None:
        return [Candidate(store_url, "store_url", False)]
    if db is None:
        raise InvalidError(f"there is no database: {HELP}")
    found: list[Candidate] = []
    why = ""
    try:
        found.append(Candidate(url_of(db), "the client of the database handle", True))
    except InvalidError as error:
        why = f": {error}"
    given = os.environ.get(VARIABLE)
    name = getattr(db, "name", None)
    if given and isinstance(name, str):
        found.append(Candidate(with_database(given, name), VARIABLE, True))
    if not found:
        raise InvalidError(f"the database handle {type(db).__name__} can't be followed{why}; {HELP}")
    return found


def with_options(url: str, options: Mapping[str, str]) -> str:
    """A URL of MongoDB with options of ours that it does not have yet; any other as it is.

    >>> with_options("mongodb://h/db?w=1", {"scan_interval_ms": "5000"})
    'mongodb://h/db?w=1&scan_interval_ms=5000'
    """
    if not url.startswith(("mongodb://", "mongodb+srv://")):
        return url
    missing = {key: value for key, value in options.items() if f"{key}=" not in url}
    if not missing:
        return url
    return f"{url}{'&' if '?' in url else '?'}{urlencode(missing)}"


def with_database(url: str, name: str) -> str:
    """A connection string that names this database. Who logs in is looked for where it was before.

    >>> with_database("mongodb://u:p@h:1/?w=1", "app"), with_database("mongodb://u:p@h/other", "app")
    ('mongodb://u:p@h:1/app?w=1&authSource=admin', 'mongodb://u:p@h/app?authSource=other')
    """
    scheme, _, rest = url.partition("://")
    place, mark, options = rest.partition("?")
    hosts, _, database = place.partition("/")
    if database == quote(name, safe=""):
        return url
    source = database or "admin"
    if "@" in hosts and "authsource=" not in options.lower() and scheme != "mongodb+srv":
        options = f"{options}&authSource={source}" if options else f"authSource={source}"
        mark = "?"
    return f"{scheme}://{hosts}/{quote(name, safe='')}{mark}{options}"


def url_of(db: Any) -> str:
    """The URL that leads where the client of a handle leads. Raises `InvalidError` when it can't be told."""
    name = getattr(db, "name", None)
    client = _client_of(db)
    if client is None or not isinstance(name, str):
        raise InvalidError("it has no client and name, as databases of Motor and PyMongo have")
    options = getattr(client, "options", None)
    pool = getattr(options, "pool_options", None)
    raw = getattr(options, "_options", None)
    if pool is None or not isinstance(raw, Mapping):
        raise InvalidError("its client does not tell its options")
    given = {str(key).lower(): value for key, value in raw.items()}
    for key in _IMPOSSIBLE:
        if given.get(key):
            raise InvalidError(f"its client uses {key}, which the engine's connection can't")
    query: dict[str, str] = {}
    for key, spelled in _TAKEN.items():
        if given.get(key) is not None:
            query[spelled] = _text(given[key])
    if getattr(pool, "_ssl_context", None) is not None:
        query["tls"] = "true"
        if given.get("tlsallowinvalidhostnames"):
            query["tlsInsecure"] = "true"
    user = _user(getattr(pool, "_credentials", None) or getattr(options, "_credentials", None), query)
    seeds = sorted(set(_seeds(client)))
    if not seeds:
        raise InvalidError("its client does not tell its hosts")
    return f"mongodb://{user}{','.join(seeds)}/{quote(name, safe='')}{'?' if query else ''}{urlencode(query)}"


def _client_of(db: Any) -> Any:
    """The PyMongo client below a handle. Only its own attributes count: any other name is a database."""
    try:
        client = db.client
    except AttributeError:
        return None
    own = getattr(client, "__dict__", {})
    return own.get("delegate", client)


def _seeds(client: Any) -> Iterator[str]:
    own = getattr(client, "__dict__", {})
    settings = own.get("_topology_settings")
    seeds = getattr(settings, "seeds", None) or own.get("_seeds") or getattr(client, "nodes", None) or ()
    for host, port in seeds:
        if str(host).endswith(".sock"):
            yield quote(str(host), safe="")
        else:
            yield f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def _user(credentials: Any, query: dict[str, str]) -> str:
    if credentials is None:
        return ""
    mechanism = getattr(credentials, "mechanism", "DEFAULT")
    if mechanism in ("GSSAPI", "MONGODB-AWS", "MONGODB-OIDC"):
        raise InvalidError(f"its client logs in by {mechanism}, which the handle does not tell all about")
    if mechanism != "DEFAULT":
        query["authMechanism"] = str(mechanism)
    if getattr(credentials, "source", None):
        query["authSource"] = str(credentials.source)
    username, password = getattr(credentials, "username", None), getattr(credentials, "password", None)
    if username is None:
        return ""
    if password is None:
        return f"{quote(str(username), safe='')}@"
    return f"{quote(str(username), safe='')}:{quote(str(password), safe='')}@"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
