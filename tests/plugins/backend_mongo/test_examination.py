"""What `machinery doctor` says about a MongoDB."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from pymongo.write_concern import WriteConcern

from machinery.abc import Config, Finding, TaskState
from machinery_backend_mongo import MongoBackend
from machinery_backend_mongo._examination import _expiry, _journal, _replication, _version
from tests.services.mongo import connected


def examine(url: str) -> list[Finding]:
    with closing(MongoBackend.from_url(url, Config())) as backend:
        return backend.examine()


def said(findings: list[Finding], level: str) -> str:
    return "\n".join(finding.text for finding in findings if finding.level == level)


def test_a_server_as_it_comes_is_fine(mongo_database: str) -> None:
    found = examine(mongo_database)

    assert {finding.level for finding in found} == {"ok"}
    assert "a single server" in said(found, "ok")
    assert "in the journal" in said(found, "ok")


def test_looking_changes_nothing(mongo_database: str, raw: Any) -> None:
    examine(mongo_database)

    assert raw.list_collection_names() == []


def test_a_store_that_is_in_use_is_fine_too(mongo_database: str, backend: MongoBackend) -> None:
    backend.submit([TaskState("u1", "add")])

    assert {finding.level for finding in examine(mongo_database)} == {"ok"}


def test_quick_writes_are_named(mongo_database: str) -> None:
    assert "a tenth of a second" in said(examine(f"{mongo_database}?journal=false"), "warning")


def test_what_keeps_records_for_ever_is_named(mongo_database: str, raw: Any) -> None:
    raw.tasks.create_index([("delete_at", 1)], expireAfterSeconds=3600)
    raw.group_metas.insert_one({"_id": "group_1"})

    found = said(examine(mongo_database), "warning")
    assert "tasks has an index 'delete_at_1' that keeps what has ended for 3600 s more" in found
    assert "group_metas has no index that deletes what has ended" in found


@pytest.fixture
def no_expiry(mongo_server: Any) -> str:
    with connected(mongo_server.url) as client:
        client.admin.command({"setParameter": 1, "ttlMonitorEnabled": False})
    return str(mongo_server.url)


def test_a_server_that_deletes_nothing_is_named(no_expiry: str) -> None:
    assert "ttlMonitorEnabled" in said(examine(no_expiry), "warning")


class Answering:
    """A server that tells this of itself."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def command(self, command: Any) -> Any:
        name = command if isinstance(command, str) else next(iter(command))
        return self.answers.get(name, {})


SET = {"setName": "rs0", "hosts": ["a", "b"], "arbiters": ["c"]}
SAFE = WriteConcern("majority", j=True)


def test_what_no_test_server_can_be_is_named_too() -> None:
    server: Any = Answering(
        buildInfo={"version": "4.2.1", "versionArray": [4, 2, 1, 0]},
        serverStatus={"storageEngine": {"name": "inMemory", "persistent": False}},
    )

    assert "too old" in said(list(_version(server, SET)), "error")
    assert "a restart loses every result" in said(list(_journal(server, SET, SAFE)), "error")
    assert "the third hold data too" in said(list(_replication(SET, SAFE)), "warning")
    assert "w is 1" in said(list(_replication(SET, WriteConcern(1))), "warning")
    assert list(_replication({}, WriteConcern(1))) == []
    assert list(_expiry(server, ())) == []  # type: ignore[arg-type]  # no collections, no doubts about them
    newer: Any = Answering(buildInfo={"version": "7.0.1", "versionArray": [7, 0, 1, 0]})
    assert "a cluster" in said(list(_version(newer, {"msg": "isdbgrid"})), "ok")
    assert "the set rs0" in said(list(_version(newer, SET)), "ok")
    assert "in the journal" in said(list(_journal(newer, SET, WriteConcern("majority"))), "ok")
