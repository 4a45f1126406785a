"""Workers, connections and RabbitMQ itself end under load; a ledger outside the system counts what ran. Results are in Redis."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from machinery import AsyncResult, Config, Server, Signature
from machinery.abc import Message
from tests.faults.ledger import entries
from tests.faults.test_kill import Workers, expected, signatures, wait_until
from tests.services.rabbitmq import RabbitServer

pytestmark = pytest.mark.slow

DELAYED = 500


class Load:
    """Two workers and a sender of a mixture of tasks, some of which have an ETA, some a successor, some are tried again."""

    def __init__(self, broker: str, backend: str, folder: Path) -> None:
        own = uuid4().hex
        names = {"BROKER": broker, "RESULT_BACKEND": backend, "LOCK": backend, "DEFAULT_QUEUE": f"queue-{own}"}
        self.environment = {
            **names,
            "AMQP_EXCHANGE": f"exchange-{own}",
            "AMQP_BINDING_KEY": f"key-{own}",
            "AMQP_CONNECT_TIMEOUT": "20",
            "AMQP_ANSWER_TIMEOUT": "60",  # what is not answered in time is sent twice; a node that died is noticed at once
        }
        self.workers = Workers("", folder, **self.environment)
        self.server = Server.from_config(Config.from_env(self.environment))
        self.ledger = folder / "ledger"
        self.victim = self.workers.start()
        self.results: list[AsyncResult[object]] = []

    def send(self, *, with_delays: bool = True) -> None:
        made = signatures() if with_delays else [each for each in signatures() if each.name != "work_twice"]
        if with_delays:
            soon = datetime.now(UTC)
            made = [
                each.with_(eta=soon + timedelta(milliseconds=20 * number)) if 0 < number <= DELAYED else each
                for number, each in enumerate(made)
            ]
        self.results = self.server.send_tasks(made)
        self.expected = expected()
        if not with_delays:
            self.expected = {each for each in self.expected if not each.startswith("twice-")}
        wait_until(lambda: bool(entries(self.ledger)), "the first worker is at work")
        self.workers.start()

    def wait_until_under_way(self) -> None:
        wait_until(
            lambda: len(entries(self.ledger)) > len(self.expected) // 10, f"a tenth ran; log: {self.workers.log()}"
        )

    def check(self) -> None:
        """All ran and all succeeded, and nothing is left over."""
        try:
            wait_until(lambda: self.expected <= set(entries(self.ledger)), "all ran", 60)
        except AssertionError:
            missing = sorted(self.expected - set(entries(self.ledger)))
            waiting = self.server.pending_tasks("", 10)
            pytest.fail(f"{len(missing)} never ran: {missing[:10]}; {waiting} wait; log: {self.workers.log()}")
        for result in self.results:
            result.get(timeout=60)
        assert self.server.dead_tasks() == []

    def close(self) -> None:
        self.workers.stop()
        self.server.close()


@pytest.fixture
def load(rabbit_server: RabbitServer, redis_database: str, tmp_path: Path) -> Iterator[Load]:
    made = Load(rabbit_server.url, redis_database, tmp_path)
    yield made
    made.close()


def test_nothing_is_lost_when_a_worker_is_killed(load: Load) -> None:
    load.send()
    load.wait_until_under_way()

    load.victim.kill()
    load.victim.wait()

    load.check()
    twice = [entry for entry, count in entries(load.ledger).items() if count > 1]
    assert len(twice) <= 600, "more ran twice than one worker can hold"


def test_a_worker_that_is_told_to_stop_hands_everything_over_and_nothing_runs_twice(load: Load) -> None:
    load.send()
    load.wait_until_under_way()

    load.victim.send_signal(signal.SIGTERM)
    assert load.victim.wait(60) == 0

    load.check()
    assert max(entries(load.ledger).values()) == 1


def test_nothing_is_lost_when_all_connections_are_closed_again_and_again(
    load: Load, rabbit_server: RabbitServer
) -> None:
    load.send()

    for share in (10, 5, 3):
        wait_until(lambda share=share: len(entries(load.ledger)) > len(load.expected) // share, "it goes on")  # type: ignore[misc]
        rabbit_server.close_all_connections()

    load.check()


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_nothing_is_lost_when_the_node_restarts_under_load(
    load: Load, rabbit_server: RabbitServer, *, kill: bool
) -> None:
    load.send(with_delays=False)
    load.wait_until_under_way()

    rabbit_server.restart(kill=kill)

    load.check()
    more = load.server.send_tasks([Signature("work", [number]) for number in range(200)])
    assert [result.get(timeout=30) for result in more] == list(range(200))


@pytest.mark.parametrize(
    "kill", [pytest.param(False, id="stopped", marks=pytest.mark.thorough), pytest.param(True, id="killed")]
)
def test_nothing_that_waits_for_its_time_is_lost_when_the_node_restarts(
    load: Load, rabbit_server: RabbitServer, *, kill: bool
) -> None:
    # Given a ladder that has been there for a while: RabbitMQ 3.10 notes a new quorum queue's place on the disk within minutes
    load.server.broker.publish([Message(b"{}", "another", datetime.now(UTC) + timedelta(seconds=20))])
    rabbit_server.restart()
    load.send()
    load.wait_until_under_way()

    # When the node goes down and comes up again
    rabbit_server.restart(kill=kill)

    # Then all comes down
    load.check()
