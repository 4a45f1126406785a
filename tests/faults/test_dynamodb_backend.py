"""DynamoDB killed under load: workers wait, nothing hangs, every task runs, and what was acknowledged is there afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from machinery import Config, Server, Signature, chord
from machinery.abc import TaskResult
from machinery.errors import BackendUnavailable
from machinery.testing._expectations import eventually
from tests.faults.ledger import entries, note

pytestmark = pytest.mark.slow

COUNT = 2000
BATCH = 100


@pytest.fixture
def server(redis_database: str, dynamodb_server: Any) -> Server:
    from machinery_backend_dynamodb._command import create_tables  # noqa: PLC0415 - present where dynamodb_server is

    assert create_tables([dynamodb_server.url]) == 0
    return Server.from_config(
        Config(
            broker=f"{redis_database}?lease=2",
            result_backend=dynamodb_server.url,
            lock=redis_database,
            connect_timeout=20,
        )
    )


def test_every_task_runs_and_its_result_is_there_though_the_store_is_killed(
    server: Server, dynamodb_server: Any, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"

    @server.task
    def work(number: int) -> int:
        note(ledger, f"work-{number}")
        return number

    with server:
        sent = _holding_out(lambda: server.send_tasks([work.signature(number) for number in range(BATCH)]))
        with server.new_worker("patient", 200):
            harmed = False
            for start in range(BATCH, COUNT, BATCH):
                signatures = [work.signature(number) for number in range(start, start + BATCH)]
                sent += _holding_out(partial(server.send_tasks, signatures))
                if not harmed and start >= COUNT // 2:
                    acknowledged = server.backend.load([result.uuid for result in sent])
                    dynamodb_server.restart(kill=True)
                    after = _holding_out(partial(server.backend.load, [result.uuid for result in sent]))
                    _require_no_step_back(acknowledged, after)
                    harmed = True
            # All at once: a look at each alone would take longer than the work.
            ended = server.backend.wait([result.uuid for result in sent], timeout=90)
    assert [state and state.results for state in ended] == [(TaskResult("int64", number),) for number in range(COUNT)]
    assert set(entries(ledger)) == {f"work-{number}" for number in range(COUNT)}


def test_a_chord_is_called_back_once_though_the_store_is_killed(
    server: Server, dynamodb_server: Any, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"

    @server.task
    def part(number: int) -> int:
        note(ledger, f"part-{number}")
        time.sleep(0.005)
        return number

    @server.task
    def total(*numbers: int) -> int:
        note(ledger, "total")
        return sum(numbers)

    with server:
        sent = server.send_chord(chord([part.signature(number) for number in range(200)], Signature("total")))
        with server.new_worker("patient", 50):
            deadline = time.monotonic() + 60
            while len(entries(ledger)) < 60:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            dynamodb_server.restart(kill=True)
            assert sent.get(timeout=60) == sum(range(200))
            eventually(lambda: not _waiting(server))
        # What ran as the queue emptied has ended too, or was handed back.
        assert _waiting(server) == []
    assert entries(ledger)["total"] == 1


def _waiting(server: Server) -> list[Signature]:
    return server.pending_tasks() + server.delayed_tasks()


def _holding_out(call: Callable[[], list[Any]]) -> list[Any]:
    """What a sender does while the store is away."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return call()
        except BackendUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _require_no_step_back(before: list[Any], after: list[Any]) -> None:
    for earlier, later in zip(before, after, strict=True):
        assert later is not None
        if earlier.is_completed:
            assert later == earlier
