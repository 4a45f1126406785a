"""A replica set whose primary steps down or dies is waited for, and what it had acknowledged is there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from machinery.abc import Config, GroupMeta, Signature, State, TaskResult, TaskState
from machinery.errors import BackendUnavailable
from machinery.testing._expectations import eventually
from machinery_backend_mongo import MongoBackend
from tests.services.chain import Unobtainable, missing
from tests.services.mongo import MongoServer, connected

SENT = datetime(2024, 3, 1, 12, 30, 45, tzinfo=UTC)


@pytest.fixture
def replica_set(mongo_url: str, tmp_path: Path) -> Iterator[MongoServer]:
    try:
        server = MongoServer(tmp_path / "server", replica_set="rs0")
    except Unobtainable as reason:
        missing("mongo", str(reason))
    with server:
        yield server


class Writer:
    """Saves one record after the other through one backend, and goes on when MongoDB is away."""

    def __init__(self, backend: MongoBackend) -> None:
        self.acknowledged: list[str] = []
        self.errors = 0
        self._backend = backend
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _write(self) -> None:
        while not self._ended.is_set():
            uuid = f"u{len(self.acknowledged)}"
            try:
                self._backend.save(
                    [TaskState(uuid, "add", State.SUCCESS, (TaskResult("string", uuid),), created_at=SENT)]
                )
            except BackendUnavailable:
                self.errors += 1
            else:
                self.acknowledged.append(uuid)


def check(backend: MongoBackend, writer: Writer) -> None:
    count = len(writer.acknowledged)
    eventually(lambda: len(writer.acknowledged) > count + 20)
    writer.end()
    found = backend.load(writer.acknowledged)
    lost = [
        uuid for uuid, state in zip(writer.acknowledged, found, strict=True) if state is None or not state.is_success
    ]
    assert lost == []


def step_down(server: MongoServer) -> None:
    with connected(server._direct) as client, suppress(AutoReconnect):
        client.admin.command("replSetStepDown", 1, force=True)


def test_a_primary_that_steps_down_is_waited_for_without_an_error(replica_set: MongoServer) -> None:
    with closing(MongoBackend.from_url(replica_set.url, Config())) as backend:
        writer = Writer(backend)
        try:
            eventually(lambda: len(writer.acknowledged) > 20)
            step_down(replica_set)
            check(backend, writer)
        finally:
            writer.end()
        assert writer.errors == 0


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
def test_a_primary_that_is_restarted_is_waited_for(replica_set: MongoServer, kill: bool) -> None:
    with closing(MongoBackend.from_url(replica_set.url, Config())) as backend:
        writer = Writer(backend)
        try:
            eventually(lambda: len(writer.acknowledged) > 20)
            replica_set.restart(kill=kill)
            check(backend, writer)
        finally:
            writer.end()


def test_chords_go_on_over_a_change_of_the_primary(replica_set: MongoServer) -> None:
    with closing(MongoBackend.from_url(replica_set.url, Config())) as backend:
        members = tuple(f"u{number}" for number in range(150))
        backend.create_group(GroupMeta("g", members), Signature("sum"))
        counts: list[int] = []
        for number, uuid in enumerate(members):
            if number == 75:
                step_down(replica_set)
            counts += _patiently(backend, uuid)
        assert counts == list(range(1, 151))
        assert [backend.claim_chord("g", uuid) for uuid in members].count(True) == 1


def _patiently(backend: MongoBackend, uuid: str) -> list[int]:
    def finish() -> Any:
        with suppress(BackendUnavailable):
            return backend.finish_members([("g", uuid)])
        return None

    found: list[int] = eventually(finish)
    return found
