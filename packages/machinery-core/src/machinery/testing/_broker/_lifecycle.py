"""Stopping and closing: a stopped consumer still settles, a closed thing says that it is closed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from machinery.errors import Closed
from machinery.testing._broker._suite import BrokerSuite, labels
from machinery.testing._expectations import PATIENCE, Stopwatch, in_background, raises

if TYPE_CHECKING:
    from collections.abc import Callable

    from machinery.abc import Broker

SOON = PATIENCE
"""Seconds within which what is stopped ends, on a busy machine; it would wait for twice as long."""


class Lifecycle(BrokerSuite):
    """`Consumer.stop`, `Consumer.close` and `Broker.close`."""

    def test_stop_ends_a_waiting_receive(self, broker: Broker) -> None:
        with self.consuming(broker, self.new_queue()) as consumer:
            consumer.receive(1, 0)
            with in_background(lambda: consumer.receive(1, 30)) as received:
                watch = Stopwatch()
                consumer.stop()
                assert received() == []
                assert watch.seconds < SOON

    def test_a_stopped_consumer_receives_nothing_more(self, broker: Broker) -> None:
        queue = self.new_queue()
        with self.consuming(broker, queue) as consumer:
            consumer.receive(1, 0)
            consumer.stop()
            consumer.stop()
            self.publish(broker, queue, "for others")
            watch = Stopwatch()
            assert consumer.receive(1, 30) == []
            assert watch.seconds < SOON
        assert self.drain(broker, queue, 1) == ["for others"]

    def test_a_stopped_consumer_still_settles(self, broker: Broker) -> None:
        queue = self.new_queue()
        self.publish(broker, queue, *"abc")
        with self.consuming(broker, queue) as consumer:
            received = self.receive(consumer, 3)
            consumer.stop()
            assert consumer.extend(received) == []
            assert consumer.ack(received[:1]) == []
            assert consumer.nack(received[1:2]) == []
            assert consumer.postpone(received[2:], timedelta(milliseconds=1)) == []
        assert sorted(self.drain(broker, queue, 2)) == ["b", "c"]

    def test_a_closed_consumer_says_so(self, broker: Broker) -> None:
        queue = self.new_queue()
        self.publish(broker, queue, "only")
        with self.consuming(broker, queue) as consumer:
            received = self.receive(consumer, 1)
            consumer.close()
            consumer.close()
            with raises(Closed):
                consumer.receive(1, 0)
            for settle in (consumer.ack, consumer.nack, consumer.extend):
                with raises(Closed):
                    settle(received)
            with raises(Closed):
                consumer.postpone(received, timedelta(0))
            with raises(Closed):
                consumer.reject(received, "contract")
        assert self.drain(broker, queue, 1) == ["only"]

    def test_a_closed_broker_says_so(self, make_broker: Callable[[], Broker]) -> None:
        broker = make_broker()
        queue = self.new_queue()
        self.publish(broker, queue, "only")
        broker.close()
        broker.close()
        with raises(Closed):
            self.publish(broker, queue, "too late")
        with raises(Closed):
            broker.purge(queue)
        if broker.capabilities.inspection:
            with raises(Closed):
                broker.pending(queue, 1)
            with raises(Closed):
                broker.delayed(1)
        if broker.capabilities.dead_letters:
            with raises(Closed):
                broker.dead(queue, 1)
            with raises(Closed):
                broker.requeue_dead(queue)
            with raises(Closed):
                broker.purge_dead(queue)

    def test_what_was_published_outlives_the_broker_that_published_it(
        self, broker: Broker, make_broker: Callable[[], Broker]
    ) -> None:
        queue = self.new_queue()
        sender = make_broker()
        self.publish(sender, queue, "only")
        sender.close()
        assert self.drain(broker, queue, 1) == ["only"]

    def test_capabilities_do_not_change(self, broker: Broker) -> None:
        before = broker.capabilities
        self.publish(broker, self.new_queue(), "only")
        assert broker.capabilities == before

    def test_resizing_takes_nothing_away(self, broker: Broker) -> None:
        queue = self.new_queue()
        self.publish(broker, queue, *"abcd")
        with self.consuming(broker, queue) as consumer:
            consumer.resize(2)
            received = self.receive(consumer, 2)
            consumer.resize(10)
            received += self.receive(consumer, 2)
            assert labels(received) == ["a", "b", "c", "d"]
            assert consumer.ack(received) == []
