"""Workers, connections and SQS itself end under load; a ledger outside the system counts what ran. Results are in Redis."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from machinery import AsyncResult, Config, Server, Signature, State
from machinery.wire import decode_signature, encode_signature
from tests.faults.ledger import entries, note
from tests.faults.test_kill import TASKS, Workers, expected, signatures, wait_until
from tests.services.proxy import CuttingProxy
from tests.services.sqs import ACCOUNT, Queues, SqsServer

pytestmark = pytest.mark.slow

LEASE = 3
"""Seconds: what a killed worker held is delivered again soon."""
LONG_LEASE = 10
"""Seconds, where no worker is killed: one that is held up on a busy machine still has what it holds."""
SHORT_LEASE = 4
"""Seconds, of which two thirds are left when it is renewed: so long a busy machine does not stand still."""
DELAYED = 200
FEW = 500
"""Tasks, where fewer show the same."""


class Load:
    """Two workers and a sender of a mixture of tasks, some of which have an ETA, some a successor, some are tried again."""

    def __init__(self, broker: str, backend: str, queues: Queues, folder: Path, **variables: str) -> None:
        self.queues = queues
        self.queue = queues.with_dead_letters()
        self.environment = {
            "BROKER": broker,
            "RESULT_BACKEND": backend,
            "LOCK": backend,
            "DEFAULT_QUEUE": self.queue,
            "SQS_VISIBILITY_TIMEOUT": f"{LEASE}",
            "CONNECT_TIMEOUT": "20",
            **variables,
        }
        self.workers = Workers("", folder, **self.environment)
        self.server = Server.from_config(Config.from_env({**os.environ, **self.environment}))
        self.ledger = folder / "ledger"
        self.victim = self.workers.start()
        self.results: list[AsyncResult[object]] = []
        self.expected: set[str] = set()

    def send(self, count: int = TASKS) -> None:
        made = signatures()[:count]
        self.expected = expected(made)
        soon = datetime.now(UTC)
        self.results = self.server.send_tasks(
            [
                each.with_(eta=soon + timedelta(milliseconds=10 * number)) if 0 < number <= DELAYED else each
                for number, each in enumerate(made)
            ]
        )
        wait_until(lambda: bool(entries(self.ledger)), "the first worker is at work")
        self.workers.start()

    def wait_until_under_way(self, share: int = 10) -> None:
        wait_until(
            lambda: len(entries(self.ledger)) > len(self.expected) // share, f"it goes on; log: {self.workers.log()}"
        )

    def check(self) -> None:
        """All ran and all succeeded, and nothing is left over."""
        try:
            wait_until(lambda: self.expected <= set(entries(self.ledger)), "all ran", 60)
        except AssertionError:
            missing = sorted(self.expected - set(entries(self.ledger)))
            left = self.queues.counts(self.queue)
            pytest.fail(f"{len(missing)} never ran: {missing[:10]}; left {left}; log: {self.workers.log()}")
        for result in self.results:
            result.get(timeout=60)
        wait_until(lambda: self.queues.counts(self.queue) == (0, 0, 0), "the queue is empty", 30)
        assert self.server.dead_tasks() == []

    def close(self) -> None:
        self.workers.stop()
        self.server.close()


@pytest.fixture
def proxy(sqs_url: str) -> Iterator[CuttingProxy]:
    where = urlsplit(sqs_url)
    with CuttingProxy(where.hostname or "", where.port or 0) as made:
        yield made


@pytest.fixture
def load(sqs_queues: Queues, proxy: CuttingProxy, redis_database: str, tmp_path: Path) -> Iterator[Load]:
    """Under way through the proxy."""
    made = Load(f"sqs://127.0.0.1:{proxy.port}/{ACCOUNT}", redis_database, sqs_queues, tmp_path)
    yield made
    proxy.restore()
    made.close()


def test_nothing_is_lost_when_a_worker_is_killed(load: Load) -> None:
    load.send()
    load.wait_until_under_way()

    load.victim.kill()
    load.victim.wait()

    load.check()
    twice = [entry for entry, count in entries(load.ledger).items() if count > 1]
    assert len(twice) <= 600, "more ran twice than one worker can hold"


def test_a_worker_that_is_told_to_stop_hands_everything_over_and_nothing_runs_twice(
    sqs_url: str, sqs_queues: Queues, redis_database: str, tmp_path: Path
) -> None:
    with closing(Load(sqs_url, redis_database, sqs_queues, tmp_path, SQS_VISIBILITY_TIMEOUT=f"{LONG_LEASE}")) as load:
        load.send(FEW)
        load.wait_until_under_way()

        load.victim.send_signal(signal.SIGTERM)
        assert load.victim.wait(60) == 0

        load.check()
        assert max(entries(load.ledger).values()) == 1


def test_nothing_is_lost_when_connections_are_cut_and_answers_are_lost(load: Load, proxy: CuttingProxy) -> None:
    load.send()

    for share in (10, 5, 4, 3, 2):
        load.wait_until_under_way(share)
        proxy.lose_next_reply()
        proxy.cut()

    load.check()


def test_nothing_is_lost_when_sqs_is_out_of_reach_for_longer_than_a_lease(load: Load, proxy: CuttingProxy) -> None:
    load.send(FEW)
    load.wait_until_under_way()

    proxy.refuse()
    threading.Event().wait(LEASE + 1)  # the time that the leases take to run out, with nobody to renew them
    proxy.restore()

    load.check()


def test_nothing_is_lost_when_sqs_restarts_under_load(
    sqs_server: SqsServer, redis_database: str, tmp_path: Path
) -> None:
    queues = Queues(sqs_server.url)
    load = Load(sqs_server.url, redis_database, queues, tmp_path)
    try:
        load.send()
        load.wait_until_under_way()

        sqs_server.restart()

        load.check()
        more = load.server.send_tasks([Signature("work", [number]) for number in range(100)])
        assert [result.get(timeout=30) for result in more] == list(range(100))
    finally:
        load.close()
        queues.close()


# -- leases, and what no worker can run -----------------------------------------------------------------------------------------


@pytest.fixture
def server(sqs_url: str, sqs_queues: Queues, redis_database: str) -> Iterator[Server]:
    """With a short lease, and a queue with dead letters."""
    config = Config(
        broker=sqs_url,
        result_backend=redis_database,
        lock="memory://",
        default_queue=sqs_queues.with_dead_letters(),
        sections={"sqs": {"receive_visibility_timeout": SHORT_LEASE}},
    )
    with Server.from_config(config) as made:
        yield made


def test_a_task_that_takes_three_leases_runs_once(server: Server, sqs_queues: Queues, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"

    @server.task
    def long(number: int) -> int:
        note(ledger, f"long-{number}")
        time.sleep(3 * SHORT_LEASE + 0.5)
        return number

    with server.new_worker("one", 2), server.new_worker("another", 2):
        sent = [long.send(number) for number in range(3)]
        assert [result.get(timeout=60) for result in sent] == [0, 1, 2]
    assert entries(ledger) == {"long-0": 1, "long-1": 1, "long-2": 1}
    assert sqs_queues.counts(server.config.default_queue) == (0, 0, 0)


def test_what_nobody_can_read_or_knows_neither_spins_nor_holds_up_the_rest(
    server: Server, sqs_queues: Queues, tmp_path: Path
) -> None:
    queue = server.config.default_queue
    unknown = Signature("of_another_fleet", uuid="unknown")
    sqs_queues.send(queue, "no JSON", json.dumps([1, 2]), encode_signature(unknown).decode())

    @server.task
    def work(number: int) -> int:
        return number

    with server.new_worker("worker", 4):
        assert [result.get(timeout=30) for result in server.send_tasks([work.signature(n) for n in range(50)])]
        wait_until(lambda: len(server.dead_tasks()) == 2, "what cannot be read is a dead letter", 30)
        time.sleep(3)  # in which what spins would be received hundreds of times
    # What nobody knows here waits for somebody who does.
    found: list[dict[str, Any]] = []

    def is_handed_back() -> bool:
        found.extend(sqs_queues.take(queue))
        return bool(found)

    wait_until(is_handed_back, "it is handed back", 30)
    assert [json.loads(message["Body"])["UUID"] for message in found] == ["unknown"]
    assert int(found[0]["Attributes"]["ApproximateReceiveCount"]) <= 10
    state = server.backend.load(["unknown"])[0]
    assert state is None or state.state is State.PENDING


def test_a_task_that_kills_its_workers_becomes_a_dead_letter(
    sqs_url: str, sqs_queues: Queues, redis_database: str, tmp_path: Path
) -> None:
    load = Load(sqs_url, redis_database, sqs_queues, tmp_path, SQS_VISIBILITY_TIMEOUT="1", MACHINERY_MAX_CRASHES="1")
    try:
        [poison] = load.server.send_tasks([Signature("die", [], uuid="poison")])
        good = load.server.send_tasks([Signature("work", [number]) for number in range(20)])
        workers = [load.victim]

        def is_put_away() -> bool:
            if workers[-1].poll() is not None:
                workers.append(load.workers.start())
            return bool(load.server.dead_tasks())

        wait_until(is_put_away, f"it is a dead letter; log: {load.workers.log()}")
        [dead] = load.server.dead_tasks()
        assert decode_signature(dead.body).uuid == "poison"
        wait_until(lambda: poison.task_state().is_failure, "its record says so", 30)
        assert [result.get(timeout=30) for result in good] == list(range(20))
        # A first run that ends at once may not have been noted as begun, which is no crash then.
        assert entries(load.ledger)["die"] <= load.server.config.max_crashes + 2
    finally:
        load.close()
