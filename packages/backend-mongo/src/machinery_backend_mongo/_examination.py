"""What `machinery doctor` finds about a MongoDB: settings that lose results, or keep them for ever, without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymongo.errors import OperationFailure

from machinery.abc import Finding
from machinery_backend_mongo._indexes import doubts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pymongo.database import Database
    from pymongo.write_concern import WriteConcern

    from machinery_backend_mongo._client import Client
    from machinery_backend_mongo._collections import Collections

OLDEST = (4, 4)
"""Of what is used here, updates by pipelines came last (4.2); nobody maintains what is older than this."""


def examine(client: Client) -> list[Finding]:
    """The findings. Raises `BackendUnavailable` and `ConfigError`."""
    with client.calls() as collections:
        return list(_examine(collections))


def _examine(collections: Collections) -> Iterator[Finding]:
    database = collections.tasks.database
    admin = database.client.admin
    hello = admin.command("hello")
    yield from _version(admin, hello)
    yield from _replication(hello, database.write_concern)
    yield from _journal(admin, hello, database.write_concern)
    yield from _expiry(admin, collections)


def _version(admin: Database[Any], hello: Mapping[str, Any]) -> Iterator[Finding]:
    said = admin.command("buildInfo")
    kind = (
        f"the set {hello['setName']}" if "setName" in hello else "a cluster" if _is_router(hello) else "a single server"
    )
    if tuple(said.get("versionArray", ())[:2]) < OLDEST:
        yield Finding("error", f"MongoDB {said.get('version')} is too old; it must be 4.4 or newer")
    else:
        yield Finding("ok", f"MongoDB {said['version']}, {kind}")


def _is_router(hello: Mapping[str, Any]) -> bool:
    return hello.get("msg") == "isdbgrid"


def _replication(hello: Mapping[str, Any], concern: WriteConcern) -> Iterator[Finding]:
    members = len(hello.get("hosts", ()))
    wanted = concern.document.get("w", 1)
    if members > 1 and wanted == 1:
        yield Finding(
            "warning",
            "w is 1: when another member becomes the primary, results that it had not got yet are lost; leave w out of the URL",
        )
    if hello.get("arbiters") and members == 2:  # noqa: PLR2004 - with an arbiter, a majority is both of them
        yield Finding(
            "warning",
            "of this set two members hold data and one none: when one is away, no write counts as done and workers wait; "
            "let the third hold data too",
        )


def _journal(admin: Database[Any], hello: Mapping[str, Any], concern: WriteConcern) -> Iterator[Finding]:
    engine = _asked(admin, "serverStatus").get("storageEngine", {})
    if engine.get("persistent") is False:
        yield Finding(
            "error", f"the storage engine is {engine.get('name')}: a restart loses every result; use wiredTiger"
        )
    elif concern.document.get("j") is not True and (concern.document.get("w") != "majority" or "setName" not in hello):
        yield Finding(
            "warning",
            "writes count as done before they are in the journal: a crash may lose a tenth of a second of results; leave "
            "journal out of the URL, or say journal=true",
        )
    else:
        yield Finding("ok", "writes count as done when they are in the journal")


def _expiry(admin: Database[Any], collections: Collections) -> Iterator[Finding]:
    if _asked(admin, "getParameter", ttlMonitorEnabled=1).get("ttlMonitorEnabled") is False:
        yield Finding(
            "warning",
            "ttlMonitorEnabled is off: what has ended is never deleted; run "
            "db.adminCommand({setParameter: 1, ttlMonitorEnabled: true})",
        )
    for doubt in doubts(collections):
        yield Finding("warning", doubt)


def _asked(admin: Database[Any], command: str, **arguments: Any) -> Mapping[str, Any]:
    """What the server tells of itself; nothing where this user may not ask, as with hosted services."""
    try:
        return admin.command({command: 1, **arguments})
    except OperationFailure:
        return {}
