"""A worker that dies at any point of its work loses nothing: the next one ends what was begun, and sends no successor twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from machinery import Server, Signature, State
from tests.faults.doomed import add_tasks
from tests.faults.ledger import entries
from tests.interop.eventually import eventually

pytestmark = pytest.mark.slow

POINTS = {
    "when it has received the message": ("after", ["receive"]),
    "before the first record is written": ("before", ["save"]),
    "when the first record is written": ("after", ["save"]),
    "before anything is sent": ("before", ["publish", "submit_and_publish"]),
    "when the first message is sent": ("after", ["publish", "submit_and_publish"]),
    "before the message is acknowledged": ("before", ["ack"]),
    "when the message is acknowledged": ("after", ["ack"]),
}


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A service with a short lease, so that a dead worker is noticed soon."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'tasks.db'}?lease=0.5"
    return f"{request.getfixturevalue('redis_database')}?lease=1"


@pytest.mark.parametrize(
    "shaky", [pytest.param(False, id="plain"), pytest.param(True, id="retried", marks=pytest.mark.thorough)]
)
@pytest.mark.parametrize("point", POINTS)
def test_a_task_and_what_follows_it_end_whenever_their_worker_dies(
    url: str, ledger: Path, point: str, *, shaky: bool
) -> None:
    where, methods = POINTS[point]
    with Server.from_url(url) as server:
        # Given a task with a successor, and a worker that dies at that point
        add_tasks(server, ledger)
        result = server.send_task(Signature("first", [shaky], retry_count=1, on_success=[Signature("second")]))
        command = [sys.executable, "-m", "tests.faults.doomed", url, str(ledger), where, *methods]
        died = subprocess.run(command, timeout=30, check=False, capture_output=True)
        assert died.returncode == -signal.SIGKILL, died.stderr.decode()

        # When another worker comes
        with server.new_worker("next", 2):
            # Then both end
            assert result.get(timeout=20) == 1
            (follower,) = eventually(lambda: _uuids(ledger, "second"))
            assert server.result(follower).get(timeout=20) == 2
            eventually(lambda: not server.pending_tasks() and not server.delayed_tasks())

        # And nothing is left over; what ran twice ran as the same task
        assert result.state is State.SUCCESS
        assert server.dead_tasks() == []
        assert _uuids(ledger, "first") == {result.uuid}
        assert _uuids(ledger, "second") == {follower}
        # A retry whose copy was sent, and even begun, by a worker that then died exists twice: both run, each with its retry.
        assert entries(ledger)[f"first/{result.uuid}"] <= (5 if shaky else 2)
        assert entries(ledger)[f"second/{follower}"] <= 2


def _uuids(ledger: Path, name: str) -> set[str]:
    return {uuid for task, uuid in (entry.split("/") for entry in entries(ledger)) if task == name}
