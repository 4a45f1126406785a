"""Everything but `Consumer.receive` may be called from any thread at any time, and each message goes to one consumer."""

from __future__ import annotations

import threading
from collections import Counter
from queue import SimpleQueue
from typing import TYPE_CHECKING

from machinery.testing._broker._suite import BrokerSuite, labels
from machinery.testing._expectations import PATIENCE, Stopwatch, in_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from machinery.abc import Broker, Delivery

PRODUCERS = 8
CONSUMERS = 4


class Concurrency(BrokerSuite):
    """Many threads, many consumers, several brokers on one store."""

    def test_many_threads_may_publish_at_once(self, broker: Broker) -> None:
        queue = self.new_queue()

        def publish(producer: int) -> None:
            for batch in range(10):
                self.publish(broker, queue, *[f"{producer}-{batch}-{number}" for number in range(5)])

        in_threads(PRODUCERS, publish)
        received = self.drain(broker, queue, PRODUCERS * 50)
        assert len(set(received)) == PRODUCERS * 50

    def test_no_two_consumers_get_the_same_message(self, broker: Broker, make_broker: Callable[[], Broker]) -> None:
        queue = self.new_queue()
        count = 400
        self.publish(broker, queue, *[f"{number}" for number in range(count)])
        brokers = [broker, *[make_broker() for _ in range(CONSUMERS - 1)]]
        received: SimpleQueue[str] = SimpleQueue()

        def consume(number: int) -> None:
            watch = Stopwatch()
            with self.consuming(brokers[number], queue) as consumer:
                while received.qsize() < count and watch.seconds < PATIENCE:
                    deliveries = consumer.receive(7, 0.2)
                    for label in labels(deliveries):
                        received.put(label)
                    assert consumer.ack(deliveries) == []

        in_threads(CONSUMERS, consume)
        counted = Counter(received.get() for _ in range(received.qsize()))
        assert len(counted) == count
        assert set(counted.values()) == {1}

    def test_nothing_is_lost_while_consumers_come_and_go(self, broker: Broker) -> None:
        queue = self.new_queue()
        count = 60
        self.publish(broker, queue, *[f"{number}" for number in range(count)])
        done: set[str] = set()
        watch = Stopwatch()
        while len(done) < count and watch.seconds < 2 * PATIENCE:
            with self.consuming(broker, queue) as consumer:
                deliveries = consumer.receive(10, 1)
                settled = deliveries[: max(1, len(deliveries) // 2)]
                consumer.ack(settled)
                done.update(labels(settled))
        assert len(done) == count

    def test_settling_and_receiving_may_happen_in_different_threads(self, broker: Broker) -> None:
        queue = self.new_queue()
        count = 200
        self.publish(broker, queue, *[f"{number}" for number in range(count)])
        handed: SimpleQueue[list[Delivery]] = SimpleQueue()
        lost: list[Delivery] = []
        with self.consuming(broker, queue) as consumer:

            def settle() -> None:
                while deliveries := handed.get(timeout=PATIENCE):
                    lost.extend(consumer.ack(deliveries))

            settlers = [threading.Thread(target=settle) for _ in range(4)]
            for settler in settlers:
                settler.start()
            received = 0
            watch = Stopwatch()
            while received < count and watch.seconds < 2 * PATIENCE:
                deliveries = consumer.receive(9, 1)
                received += len(deliveries)
                if deliveries:
                    handed.put(deliveries)
            for _ in settlers:
                handed.put([])
            for settler in settlers:
                settler.join(PATIENCE)
        assert received == count
        assert lost == []

    def test_a_message_passes_from_one_broker_to_another_on_the_same_store(
        self, broker: Broker, make_broker: Callable[[], Broker]
    ) -> None:
        queue = self.new_queue()
        self.publish(make_broker(), queue, "only")
        assert self.drain(broker, queue, 1) == ["only"]

    def test_a_consumer_that_waits_is_woken_by_another_broker(
        self, broker: Broker, make_broker: Callable[[], Broker]
    ) -> None:
        queue = self.new_queue()
        with self.consuming(broker, queue) as consumer:
            consumer.receive(1, 0)
            sender = threading.Thread(target=self.publish, args=(make_broker(), queue, "only"))
            sender.start()
            watch = Stopwatch()
            deliveries = consumer.receive(1, 30)
            sender.join(PATIENCE)
            assert watch.seconds < PATIENCE
            assert labels(deliveries) == ["only"]
            consumer.ack(deliveries)
