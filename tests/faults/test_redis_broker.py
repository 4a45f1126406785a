"""The Redis broker under load while its server dies and its connections break: whatever was accepted is delivered."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from machinery.abc import Config, Message
from machinery.errors import BrokerUnavailable
from tests.services.proxy import CuttingProxy

pytestmark = pytest.mark.slow

LEASE = 0.5
COUNT = 4000
ROUNDS = 4


@pytest.fixture
def make_broker(redis_server: Any) -> Iterator[Callable[[int], Any]]:
    """Makes a broker on the server that listens, or seems to, on a port."""
    from machinery_broker_redis import RedisBroker  # noqa: PLC0415 - present where redis_server is

    made: list[Any] = []

    def make(port: int) -> Any:
        made.append(RedisBroker.from_url(f"redis://127.0.0.1:{port}", Config(sections={"redis": {"lease": LEASE}})))
        return made[-1]

    yield make
    for broker in made:
        broker.close()


class Load:
    """Senders, consumers with their keepers, and a count of what came, all of which hold out while Redis is away."""

    def __init__(self, broker: Any) -> None:
        self.sent = 0
        self.received: Counter[bytes] = Counter()
        self._broker = broker
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._send)]
        for number in range(3):
            consumer = broker.consumer("load", f"consumer{number}")
            self._threads.append(threading.Thread(target=self._consume, args=[consumer]))
            self._threads.append(threading.Thread(target=self._keep, args=[consumer]))
        for thread in self._threads:
            thread.start()

    def has_sent(self, count: int) -> bool:
        return self.sent >= count

    def is_done(self) -> bool:
        return len(self.received) == COUNT

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        for start in range(0, COUNT, 20):
            batch = [Message(b"%d" % number, "load") for number in range(start, start + 20)]
            self._holding_out(partial(self._broker.publish, batch))
            self.sent = start + 20
            self._ended.wait(0.01)

    def _consume(self, consumer: Any) -> None:
        while not self._ended.is_set():
            deliveries = self._holding_out(partial(consumer.receive, 10, 0.2)) or []
            self._ended.wait(0.001)
            self._holding_out(partial(consumer.ack, deliveries))
            self.received.update(delivery.body for delivery in deliveries)
        self._holding_out(consumer.close)

    def _keep(self, consumer: Any) -> None:
        while not self._ended.wait(LEASE / 5):
            for chore in (lambda: consumer.extend([]), consumer.maintain):
                try:
                    chore()
                except BrokerUnavailable:
                    break

    def _holding_out(self, call: Callable[[], Any]) -> Any:
        while not self._ended.is_set():
            try:
                return call()
            except BrokerUnavailable:
                self._ended.wait(0.05)
        return None


def run(load: Load, harm: Callable[[], None], is_over: Callable[[], bool] = lambda: True) -> None:
    try:
        for number in range(1, ROUNDS + 1):
            _until(partial(load.has_sent, COUNT * number // (ROUNDS + 1)))
            harm()
        _until(load.is_done)
        _until(is_over)
    finally:
        load.end()
    assert sorted(map(int, load.received)) == list(range(COUNT))


def _until(holds: Callable[[], bool], timeout: float = 40) -> None:
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_nothing_is_lost_when_the_server_is_killed_again_and_again(
    redis_server: Any, make_broker: Callable[[int], Any]
) -> None:
    broker = make_broker(redis_server.port)

    # While there are consumers: what one of them was too late with is delivered again.
    run(Load(broker), lambda: redis_server.restart(kill=True), lambda: broker.pending("load", 9) == [])


def test_nothing_is_lost_when_connections_and_answers_are_lost(
    redis_server: Any, make_broker: Callable[[int], Any]
) -> None:
    with CuttingProxy("127.0.0.1", redis_server.port) as proxy:
        harms = [proxy.cut, proxy.lose_next_reply] * ROUNDS

        def harm() -> None:
            for _ in range(10):
                harms[0]()
                harms.append(harms.pop(0))
                time.sleep(0.01)

        run(Load(make_broker(proxy.port)), harm)


def test_a_consumer_that_slept_through_its_lease_takes_nothing_with_it(
    redis_server: Any, make_broker: Callable[[int], Any]
) -> None:
    sleeper = make_broker(redis_server.port).consumer("load", "sleeper")
    broker = make_broker(redis_server.port)
    broker.publish([Message(b"%d" % number, "load") for number in range(100)])
    held = sleeper.receive(100, 1)
    other = broker.consumer("load", "other")

    def found() -> bool:
        other.extend([])
        other.maintain()
        return len(broker.pending("load", 999)) == 100

    _until(found)
    taken = other.receive(50, 1)
    assert sleeper.extend(held) == held
    assert sleeper.ack(held) == held
    rest = sleeper.receive(100, 1)
    assert sorted(int(delivery.body) for delivery in taken + rest) == list(range(100))
    assert {delivery.attempt for delivery in taken + rest} == {2}
    assert other.ack(taken) == sleeper.ack(rest) == []
