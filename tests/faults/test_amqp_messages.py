"""RabbitMQ's messages under fire: a stream that many send and one receives, while nodes and connections go down."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from machinery import Config
from machinery.abc import Message
from machinery.errors import BrokerUnavailable, PublishError
from tests.faults.test_kill import wait_until
from tests.services.proxy import CuttingProxy
from tests.services.rabbitmq import RabbitServer

pytestmark = pytest.mark.slow

MESSAGES = 5000
STOPPED_OR_KILLED = [pytest.param(False, id="stopped", marks=pytest.mark.thorough), pytest.param(True, id="killed")]


class Stream:
    """One broker that sends numbered messages, some of them with an ETA, and consumers that settle them in every way.

    A message that was ``sent`` was confirmed; those that may have arrived or not are sent again.
    """

    def __init__(self, broker: Any, queue: str, count: int, *, with_delays: bool) -> None:
        self.received: Counter[int] = Counter()
        self.sent = 0
        self._seen: set[int] = set()
        self._broker = broker
        self._queue = queue
        self._count = count
        self._with_delays = with_delays
        self._consumer = broker.consumer(queue, uuid4().hex)
        self._consumer.resize(100)

    def step(self) -> None:
        """Send some, and settle some."""
        if self.sent < self._count:
            self._send(range(self.sent, min(self.sent + 50, self._count)))
        self._settle()

    def is_done(self) -> bool:
        return len(self.received) == self._count

    def _send(self, numbers: range) -> None:
        now = datetime.now(UTC)
        messages = {
            number: Message(
                b"%d" % number,
                self._queue,
                now + timedelta(milliseconds=number % 1000) if self._with_delays and number % 5 == 0 else None,
            )
            for number in numbers
        }
        while messages:
            batch = list(messages)
            try:
                self._broker.publish(list(messages.values()))
            except PublishError as error:
                messages = {batch[position]: messages[batch[position]] for position in error.failures}
            except BrokerUnavailable:
                continue
            else:
                break
        self.sent = numbers.stop

    def _settle(self) -> None:
        """Of those that come for the first time some are handed back, now or for later; the others are done."""
        try:
            deliveries = self._consumer.receive(100, 0.05)
        except BrokerUnavailable:
            return
        back, later, done = [], [], []
        for delivery in deliveries:
            number = int(delivery.body)
            is_first = number not in self._seen
            self._seen.add(number)
            if is_first and number % 11 == 3:
                back.append(delivery)
            elif is_first and number % 97 == 5 and self._with_delays:
                later.append(delivery)
            else:
                done.append(delivery)
        self._holding_out(self._consumer.nack, back)
        self._holding_out(self._consumer.ack, done)
        self._holding_out(self._consumer.postpone, later, timedelta(milliseconds=200))
        self.received.update(int(delivery.body) for delivery in done)

    def _holding_out(self, settle: Callable[..., object], deliveries: list[Any], *arguments: object) -> None:
        """What raised is on loan still, and has to be settled again."""
        while deliveries:
            try:
                settle(deliveries, *arguments)
            except (BrokerUnavailable, PublishError):
                continue
            return


@pytest.fixture
def make_stream(rabbit_server: RabbitServer) -> Iterator[Callable[..., Stream]]:
    from machinery_broker_amqp import AmqpBroker  # noqa: PLC0415 - present where rabbit_server is

    made: list[Any] = []

    def make(port: int, *, with_delays: bool) -> Stream:
        config = Config(default_queue="load", sections={"amqp": {"connect_timeout": 20, "answer_timeout": 30}})
        made.append(AmqpBroker.from_url(f"amqp://127.0.0.1:{port}/", config))
        return Stream(made[-1], "load", MESSAGES, with_delays=with_delays)

    yield make
    for broker in made:
        broker.close()


def flow(stream: Stream, harms: Sequence[Callable[[], object]], timeout: float = 100) -> None:
    """Let it flow, with each harm done when its share of the messages was sent; all of them arrive."""
    deadline = time.monotonic() + timeout
    for number, harm in enumerate(harms, 1):
        while stream.sent < MESSAGES * number // (len(harms) + 1):
            stream.step()
        harm()
    while not stream.is_done():
        assert time.monotonic() < deadline, f"{MESSAGES - len(stream.received)} of {MESSAGES} never came"
        stream.step()


def test_nothing_is_lost_when_connections_are_cut_between_publish_and_confirm(
    rabbit_server: RabbitServer, make_stream: Callable[..., Stream]
) -> None:
    with CuttingProxy("127.0.0.1", rabbit_server.port) as proxy:
        flow(make_stream(proxy.port, with_delays=True), [proxy.lose_next_reply, proxy.cut] * 10)


@pytest.mark.thorough  # test_amqp_broker kills it under workers
def test_nothing_is_lost_when_the_node_is_killed_again_and_again(
    rabbit_server: RabbitServer, make_stream: Callable[..., Stream]
) -> None:
    flow(make_stream(rabbit_server.port, with_delays=False), [partial(rabbit_server.restart, kill=True)] * 2)


def test_nothing_is_lost_when_the_node_is_stopped_in_turn_with_its_connections(
    rabbit_server: RabbitServer, make_stream: Callable[..., Stream]
) -> None:
    cut = rabbit_server.close_all_connections

    flow(make_stream(rabbit_server.port, with_delays=False), [cut, rabbit_server.restart, cut])


@pytest.mark.parametrize("kill", STOPPED_OR_KILLED)
def test_what_comes_down_the_ladder_while_the_node_goes_down_is_not_lost(
    rabbit_server: RabbitServer, make_stream: Callable[..., Stream], *, kill: bool
) -> None:
    # Given thousands of messages, of which hundreds are due in every second and nobody takes any yet
    stream = make_stream(rabbit_server.port, with_delays=False)
    soon = datetime.now(UTC) + timedelta(seconds=3)
    stream._broker.publish(
        [Message(b"%d" % number, "load", soon + timedelta(milliseconds=2 * number)) for number in range(3000)]
    )
    wait_until(lambda: datetime.now(UTC) > soon + timedelta(seconds=2.5), "a third were due")

    # When the node goes down and comes up again
    rabbit_server.restart(kill=kill)

    # Then all come
    deadline = time.monotonic() + 60
    while len(stream.received) < 3000:
        assert time.monotonic() < deadline, f"{3000 - len(stream.received)} of 3000 never came"
        stream._settle()
