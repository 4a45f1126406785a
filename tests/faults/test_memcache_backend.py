"""Results in Memcached under load while its server is killed: it forgets all, yet every task runs and nobody waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from machinery import ChordResult, Config, Server, Signature, chord
from machinery.abc import State, TaskState
from machinery.errors import BackendUnavailable, StateNotFound, TaskFailed
from tests.faults.ledger import entries
from tests.faults.noting_tasks import add_tasks

pytestmark = pytest.mark.slow

COUNT = 2000
CHORDS = 200
MEMBERS = 10
CALLED_BACK = 20


@pytest.fixture
def server(redis_database: str, memcached_server: Any, tmp_path: Path) -> Iterator[Server]:
    pytest.importorskip("machinery_backend_memcache", reason="needs the plug-in")
    config = Config(broker=f"{redis_database}?lease=2", result_backend=memcached_server.url, connect_timeout=20)
    with Server.from_config(config) as made:
        add_tasks(made, tmp_path / "ledger")
        yield made


def _until(holds: Any, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _ran(ledger: Path, what: str) -> set[str]:
    return {entry.rpartition("/")[2] for entry in entries(ledger) if entry.startswith(f"ran/{what}/")}


def test_every_task_runs_while_the_server_is_killed_and_away(
    server: Server, memcached_server: Any, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    sent = server.send_tasks([Signature("part", [number]) for number in range(COUNT)])

    with _holding_up(server, COUNT // 2) as killed:
        _until(lambda: len(_ran(ledger, "part")) >= COUNT // 3)
        memcached_server.kill()
        killed.set()
        before = time.monotonic()
        with pytest.raises(BackendUnavailable, match=str(memcached_server.port)):
            sent[-1].get(timeout=30)
        assert time.monotonic() - before < 25
        threading.Event().wait(1)  # it is away for a while
        memcached_server.start()
        _until(lambda: len(_ran(ledger, "part")) == COUNT)
        _until(lambda: _is_known(server, sent[-1].uuid))

    assert server.pending_tasks() == []
    assert server.delayed_tasks() == []
    assert server.dead_tasks() == []
    found = server.backend.load([result.uuid for result in sent])
    lost = [result for result, state in zip(sent, found, strict=True) if state is None]
    assert 0 < len(lost) < COUNT
    assert {state.state for state in found if state is not None} == {State.SUCCESS}
    with pytest.raises(StateNotFound):
        lost[0].get()
    kept = [number for number, state in enumerate(found) if state is not None and state.is_success]
    assert [sent[number].get() for number in kept] == kept


@contextmanager
def _holding_up(server: Server, first: int) -> Iterator[threading.Event]:
    """A worker in which parts of that number and beyond wait for the event, so that they are there yet when it happens."""
    event = threading.Event()

    def wait(signature: Signature) -> None:
        if signature.name == "part" and signature.args[0].value >= first:
            event.wait(60)

    worker = server.new_worker("patient", 4)
    worker.set_pre_task_handler(wait)
    with worker:
        yield event


def _is_known(server: Server, uuid: str) -> bool:
    (state,) = server.backend.load([uuid])
    return state is not None and state.is_completed


def test_chords_whose_group_was_forgotten_fail_and_do_not_wait_for_ever(
    server: Server, memcached_server: Any, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"

    def send(number: int) -> ChordResult[Any]:
        return server.send_chord(chord([Signature("part", [number])] * MEMBERS, Signature("total")))

    sent = [send(number) for number in range(CHORDS // 2)]
    with _holding_up(server, CHORDS // 2) as restarted:
        _until(lambda: len(_ran(ledger, "total")) >= CALLED_BACK)
        sent += [send(number) for number in range(CHORDS // 2, CHORDS)]
        memcached_server.restart(kill=True)
        restarted.set()
        _until(lambda: len(_ran(ledger, "part")) == CHORDS * MEMBERS)
        _until(lambda: server.pending_tasks() == [])
        ended = [_end_of(server, each.uuid, ledger) for each in sent]

    assert set(ended) <= {"ran", "failed"}
    assert ended.count("ran") >= CALLED_BACK
    assert "failed" in ended
    failures = [each for each, how in zip(sent, ended, strict=True) if how == "failed"]
    for failure in failures:
        with pytest.raises(TaskFailed, match=r"group cannot be joined|the record of the member .* is gone"):
            server.result(failure.uuid).get(timeout=10)


def _end_of(server: Server, uuid: str, ledger: Path) -> str:
    """How a chord ended, once it has: its callback ran, or its record says why it did not."""
    ends: list[str] = []

    def has_ended() -> bool:
        state: TaskState | None
        (state,) = server.backend.load([uuid])
        if uuid in _ran(ledger, "total"):
            ends.append("ran")
        elif state is not None and state.is_failure:
            ends.append("failed")
        return bool(ends)

    _until(has_ended, 30)
    return ends[0]
