"""MongoDB is killed under load: workers wait, nothing hangs, every task runs, and no result that was stored is lost."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from machinery import Config, Server, Signature, chord
from tests.faults.ledger import entries
from tests.faults.test_kill import Workers, wait_until

pytestmark = pytest.mark.slow

TASKS = 2000


class Load:
    """One worker process on Redis and MongoDB, and a sender that sees what comes of its tasks."""

    def __init__(self, broker: str, backend: str, folder: Path) -> None:
        environment = {
            "BROKER": broker,
            "RESULT_BACKEND": backend,
            "LOCK": broker,
            "DEFAULT_QUEUE": f"queue-{uuid4().hex}",
            "REDIS_LEASE": "2",
        }
        self.workers = Workers("", folder, **environment)
        self.server = Server.from_config(Config.from_env(environment))
        self.ledger = folder / "ledger"
        self.workers.start()

    def has_run(self, count: int) -> bool:
        return len(entries(self.ledger)) >= count

    def close(self) -> None:
        self.workers.stop()
        self.server.close()


@pytest.fixture
def load(mongo_server: Any, redis_database: str, tmp_path: Path) -> Iterator[Load]:
    made = Load(redis_database, f"{mongo_server.url}/results", tmp_path)
    yield made
    made.close()


def test_every_task_runs_and_no_result_is_lost_when_mongodb_is_killed_under_load(load: Load, mongo_server: Any) -> None:
    # Given a worker in the middle of its load
    results = load.server.send_tasks([Signature("work", [number]) for number in range(TASKS)])
    wait_until(lambda: load.has_run(TASKS // 5), f"a fifth of the tasks ran; log: {load.workers.log()}")
    stored = load.server.backend.load([result.uuid for result in results[: TASKS // 5]])
    done = [state for state in stored if state is not None and state.is_completed]
    assert done

    # When MongoDB is killed, twice, and comes up again
    for share in (2, 3):
        mongo_server.restart(kill=True)
        # Then what was final is there as it was
        assert load.server.backend.load([state.task_uuid for state in done]) == done
        wait_until(partial(load.has_run, TASKS * share // 5), f"it goes on; log: {load.workers.log()}")

    # And every task runs and every result is there
    wait_until(lambda: load.has_run(TASKS), f"all ran; log: {load.workers.log()}")
    assert [result.get(timeout=30) for result in results] == list(range(TASKS))
    assert load.server.pending_tasks() == []
    assert load.server.dead_tasks() == []

    # And a task ran twice only where its worker could not know that it had run
    assert sum(entries(load.ledger).values()) <= TASKS + 100


def test_a_chord_ends_although_mongodb_is_killed_while_its_members_run(load: Load, mongo_server: Any) -> None:
    members = [Signature("work", [number]) for number in range(300)]
    sent = load.server.send_chord(chord(members, Signature("follow", [7, 0], immutable=True)))
    wait_until(lambda: load.has_run(60), f"a fifth of the members ran; log: {load.workers.log()}")

    mongo_server.restart(kill=True)

    wait_until(lambda: entries(load.ledger)["follow-7"] > 0, f"the chord ends; log: {load.workers.log()}", 60)
    assert entries(load.ledger)["follow-7"] == 1
    assert sent is not None
