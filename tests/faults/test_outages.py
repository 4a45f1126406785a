"""A service that is away for a while, or whose answers are lost, makes no difference to what comes out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from machinery import Config, Server, Signature
from machinery.abc import Backend, Broker
from machinery.memory import MemoryBackend, MemoryBroker
from machinery.sqlite import SqliteBackend, SqliteBroker, SqliteOptions
from machinery.testing import FaultPlan, FaultyBackend, FaultyBroker
from tests.faults.doomed import add_tasks
from tests.faults.ledger import entries
from tests.interop.eventually import eventually

METHODS = ["receive", "load", "save", "publish", "submit", "submit_and_publish", "ack", "extend", "maintain"]
TASKS = 20


@pytest.fixture(params=["memory", "sqlite"])
def services(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Broker, Backend]]:
    options = SqliteOptions(path=str(tmp_path / "tasks.db"))
    broker = MemoryBroker() if request.param == "memory" else SqliteBroker(options)
    backend = MemoryBackend() if request.param == "memory" else SqliteBackend(options)
    yield broker, backend
    broker.close()
    backend.close()


@pytest.mark.parametrize("lost", [False, True], ids=["refused", "answer lost"])
@pytest.mark.parametrize("method", METHODS)
def test_an_outage_is_sat_out(services: tuple[Broker, Backend], tmp_path: Path, method: str, *, lost: bool) -> None:
    plan = FaultPlan()
    broker, backend = services
    server = Server(Config(), FaultyBroker(broker, plan), FaultyBackend(backend, plan))
    ledger = tmp_path / "ledger"
    add_tasks(server, ledger)
    results = server.send_tasks(
        [
            Signature("first", [number % 3 == 0], retry_count=1, on_success=[Signature("second")])
            for number in range(TASKS)
        ]
    )

    (plan.lose_reply if lost else plan.fail)(method, times=3)
    with server.new_worker("patient", 4):
        assert [result.get(timeout=20) for result in results] == [1] * TASKS
        followers = eventually(lambda: _complete({e for e in entries(ledger) if e.startswith("second/")}))
        for follower in followers:
            assert server.result(follower.removeprefix("second/")).get(timeout=20) == 2

    assert server.pending_tasks() == []
    assert server.delayed_tasks() == []
    assert server.dead_tasks() == []


def _complete(found: set[str]) -> set[str]:
    return found if len(found) == TASKS else set()
