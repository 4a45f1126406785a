"""Workers, streams and Pub/Sub itself end under load; a ledger outside the system counts what ran. Results are in Redis."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing, redirect_stdout
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest

from machinery import AsyncResult, Config, Server
from machinery.wire import decode_signature
from machinery_broker_gcp import PubsubBroker
from tests.faults.ledger import entries
from tests.faults.test_kill import Workers, expected, signatures, wait_until
from tests.services.proxy import CuttingProxy
from tests.services.pubsub import PubsubServer, Stubs

pytestmark = pytest.mark.slow

DELAYED = 200
QUEUE = "queue-of-faults"
URL = "gcppubsub://machinery-faults/sub-of-faults"
LEASE = 3
"""Seconds after which what a dead worker held comes again."""
LONG_LEASE = 10
"""Seconds, where no worker dies: one that is held up on a busy machine still has what it holds."""


class Load:
    """Two workers and a sender of a mixture of tasks, some of which have an ETA, some a successor, some are tried again."""

    def __init__(self, host: str, backend: str, folder: Path, lease: int = LEASE) -> None:
        self.environment = {
            "BROKER": URL,
            "RESULT_BACKEND": backend,
            "LOCK": backend,
            "DEFAULT_QUEUE": QUEUE,
            "PUBSUB_EMULATOR_HOST": host,
            "GCP_PUB_SUB_ACK_DEADLINE": str(lease),
        }
        self.workers = Workers("", folder, **self.environment)
        self.server = Server.from_config(Config.from_env(self.environment))
        self.ledger = folder / "ledger"
        self.results: list[AsyncResult[object]] = []

    def begin(self) -> None:
        """Start a worker, send, wait until it has run a tenth, and start the other one."""
        self.victim = self.workers.start()
        soon = datetime.now(UTC) + timedelta(seconds=1)
        self.results = self.server.send_tasks(
            [
                each.with_(eta=soon + timedelta(milliseconds=20 * number)) if 0 < number <= DELAYED else each
                for number, each in enumerate(signatures())
            ]
        )
        self.wait_for(0.1)
        self.workers.start()

    def wait_for(self, share: float) -> None:
        """Until so much of it ran."""
        wait_until(
            lambda: len(entries(self.ledger)) > len(expected()) * share,
            f"{share} of the tasks ran; log: {self.workers.log()}",
        )

    def check(self, stubs: Stubs, *, may_repeat: bool = False) -> None:
        """All ran and all succeeded, and nothing is left over, unless it is what was run: then its acknowledgement was lost."""
        try:
            wait_until(lambda: expected() <= set(entries(self.ledger)), "all ran", 60)
        except AssertionError:
            missing = sorted(expected() - set(entries(self.ledger)))
            pytest.fail(f"{len(missing)} never ran: {missing[:10]}; log: {self.workers.log()}")
        for result in self.results:
            result.get(timeout=60)
        assert self.server.dead_tasks() == []
        self.workers.stop()
        for name in ("sub-of-faults", f"{QUEUE}-delay"):
            left = stubs.pull(f"projects/machinery-faults/subscriptions/{name}", 10, at_once=True)
            bodies = [each.message.data for each in left]
            assert [body for body in bodies if not (may_repeat and self._has_ended(body))] == []

    def _has_ended(self, body: bytes) -> bool:
        return self.server.result(decode_signature(body).uuid).task_state().is_completed

    def close(self) -> None:
        self.workers.stop()
        self.server.close()


@pytest.fixture(autouse=True)
def _queue(pubsub_server: PubsubServer) -> None:
    with redirect_stdout(StringIO()):
        create = PubsubBroker.commands["create-resources"]
        assert create([f"{URL}?emulator_host={pubsub_server.host}", "--default-queue", QUEUE]) == 0


@pytest.fixture
def stubs(pubsub_server: PubsubServer) -> Iterator[Stubs]:
    with closing(Stubs(pubsub_server.host)) as stubs:
        yield stubs


@pytest.fixture
def load(pubsub_server: PubsubServer, redis_database: str, tmp_path: Path) -> Iterator[Load]:
    with closing(Load(pubsub_server.host, redis_database, tmp_path)) as made:
        yield made


def test_nothing_is_lost_when_a_worker_is_killed(load: Load, stubs: Stubs) -> None:
    load.begin()

    load.victim.kill()
    load.victim.wait()

    load.check(stubs)
    twice = [entry for entry, count in entries(load.ledger).items() if count > 1]
    assert len(twice) <= 600, "more ran twice than one worker can hold"


def test_a_worker_that_is_told_to_stop_hands_everything_over_and_nothing_runs_twice(
    pubsub_server: PubsubServer, redis_database: str, tmp_path: Path, stubs: Stubs
) -> None:
    with closing(Load(pubsub_server.host, redis_database, tmp_path, LONG_LEASE)) as load:
        load.begin()

        load.victim.send_signal(signal.SIGTERM)
        assert load.victim.wait(60) == 0

        load.check(stubs)
        assert max(entries(load.ledger).values()) == 1


def test_nothing_is_lost_when_the_service_is_killed_and_comes_back_under_load(
    load: Load, pubsub_server: PubsubServer, stubs: Stubs
) -> None:
    load.begin()

    pubsub_server.restart(kill=True)

    load.check(stubs)


def test_nothing_is_lost_when_streams_and_calls_are_cut_again_and_again(
    pubsub_server: PubsubServer, redis_database: str, tmp_path: Path, stubs: Stubs
) -> None:
    with (
        CuttingProxy("127.0.0.1", pubsub_server.port) as proxy,
        closing(Load(f"127.0.0.1:{proxy.port}", redis_database, tmp_path)) as load,
    ):
        load.begin()
        for share in (0.2, 0.3, 0.5, 0.7):
            load.wait_for(share)
            proxy.cut()
        proxy.lose_next_reply()

        load.check(stubs, may_repeat=True)
