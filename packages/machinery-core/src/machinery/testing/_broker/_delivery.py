"""Published messages are received: each, whole, in order, as many as asked for, and without waiting for more."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from machinery.abc import Message
from machinery.errors import MessageTooLarge
from machinery.testing._broker._suite import BrokerSuite, at_positions, labels
from machinery.testing._expectations import PATIENCE, QUIET, Stopwatch, in_background, only_if, raises

if TYPE_CHECKING:
    from machinery.abc import Broker

SOON = PATIENCE
"""Seconds within which what is there is given, on a busy machine; they all would wait for twice as long."""

LARGEST_TRIED = 64 * 1024 * 1024
"""Bytes: a larger limit is not tried."""


class DeliveryOfMessages(BrokerSuite):
    """`Broker.publish` and `Consumer.receive`."""

    def test_a_published_message_is_received(self, broker: Broker) -> None:
        queue = self.new_queue()
        message = self.message(queue, "only")
        broker.publish([message])
        with self.consuming(broker, queue) as consumer:
            delivery = self.receive_one(consumer)
            assert delivery.body == message.body
            assert delivery.queue == queue
            assert delivery.redelivered is not True
            assert delivery.attempt == (1 if broker.capabilities.counts_deliveries else None)
            assert delivery.lease == broker.capabilities.leases
            assert consumer.ack([delivery]) == []

    def test_messages_of_a_queue_come_in_the_order_of_publishing(self, broker: Broker) -> None:
        queue = self.new_queue()
        expected = [f"{number}" for number in range(60)]
        for begin in (0, 20, 40):
            self.publish(broker, queue, *expected[begin : begin + 20])
        assert self.drain(broker, queue, 60) == expected

    def test_any_bytes_survive(self, broker: Broker) -> None:
        queue = self.new_queue()
        bodies = [bytes(range(256)), b"\0", "naïve ✓ 字".encode(), b"\xff\xfe\xfd", os.urandom(200_000)]
        broker.publish([Message(body, queue) for body in bodies])
        with self.consuming(broker, queue) as consumer:
            received = self.receive(consumer, len(bodies))
            consumer.ack(received)
        assert [delivery.body for delivery in received] == bodies

    def test_queues_do_not_mix(self, broker: Broker) -> None:
        one, other = self.new_queue(), self.new_queue()
        broker.publish(
            [self.message(queue, label) for queue, label in [(one, "1"), (other, "2"), (one, "3"), (other, "4")]]
        )
        assert self.drain(broker, one, 2) == ["1", "3"]
        assert self.drain(broker, other, 2) == ["2", "4"]

    def test_a_queues_name_may_be_any_text(self, broker: Broker) -> None:
        for name in self.odd_queue_names:
            queue = self.new_queue(name)
            self.publish(broker, queue, "only")
            assert self.drain(broker, queue, 1) == ["only"]

    def test_an_empty_batch_is_published_without_effect(self, broker: Broker) -> None:
        broker.publish([])

    def test_a_batch_of_thousands_arrives_whole(self, broker: Broker) -> None:
        queue = self.new_queue()
        expected = [f"{number}" for number in range(self.many)]
        self.publish(broker, queue, *expected)
        assert self.drain(broker, queue, self.many) == expected

    def test_a_message_may_carry_headers_and_a_dedup_id(self, broker: Broker) -> None:
        queue = self.new_queue()
        self.publish(broker, queue, "only", headers={"trace": "1", "yes": True}, dedup_id="task_1")
        assert self.drain(broker, queue, 1) == ["only"]

    def test_receive_gives_no_more_than_its_limit(self, broker: Broker) -> None:
        queue = self.new_queue()
        self.publish(broker, queue, *"abcde")
        with self.consuming(broker, queue) as consumer:
            first = consumer.receive(2, PATIENCE)
            assert 1 <= len(first) <= 2
            rest = self.receive(consumer, 5 - len(first))
            assert labels([*first, *rest]) == list("abcde")
            consumer.ack([*first, *rest])

    def test_receive_does_not_wait_until_its_limit_is_reached(self, broker: Broker) -> None:
        queue = self.new_queue()
        with self.consuming(broker, queue) as consumer:
            consumer.receive(1, 0)  # connected from here on
            self.publish(broker, queue, "only")
            watch = Stopwatch()
            received = consumer.receive(100, 30)
            assert watch.seconds < SOON
            assert labels(received) == ["only"]
            consumer.ack(received)

    def test_receive_is_empty_when_its_time_is_over(self, broker: Broker) -> None:
        with self.consuming(broker, self.new_queue()) as consumer:
            consumer.receive(1, 0)
            watch = Stopwatch()
            assert consumer.receive(1, QUIET) == []
            assert QUIET * 0.9 <= watch.seconds < QUIET + SOON

    def test_receive_with_no_time_looks_once(self, broker: Broker) -> None:
        queue = self.new_queue()
        with self.consuming(broker, queue) as consumer:
            consumer.receive(1, 0)
            watch = Stopwatch()
            assert consumer.receive(1, 0) == []
            assert watch.seconds < SOON

    def test_a_waiting_receive_is_woken_by_a_message(self, broker: Broker) -> None:
        queue = self.new_queue()
        with self.consuming(broker, queue) as consumer:
            consumer.receive(1, 0)
            with in_background(lambda: consumer.receive(1, 30)) as received:
                watch = Stopwatch()
                self.publish(broker, queue, "only")
                deliveries = received()
                assert watch.seconds < SOON
            assert labels(deliveries) == ["only"]
            consumer.ack(deliveries)

    def test_higher_priorities_come_first(self, broker: Broker) -> None:
        only_if(broker.capabilities.priorities, "the broker has no priorities")
        queue = self.new_queue()
        broker.publish([self.message(queue, f"{priority}", priority=priority) for priority in (0, 9, 3, 9, 0)])
        assert self.drain(broker, queue, 5) == ["9", "9", "3", "0", "0"]

    def test_a_priority_that_means_nothing_here_does_no_harm(self, broker: Broker) -> None:
        # Go's messages carry one whatever the broker; core refuses it where a Python program asks for it.
        only_if(not broker.capabilities.priorities, "the broker has priorities")
        queue = self.new_queue()
        broker.publish([self.message(queue, f"{priority}", priority=priority) for priority in (0, 255)])
        assert sorted(self.drain(broker, queue, 2)) == ["0", "255"]

    def test_messages_of_one_ordering_key_stay_in_order(self, broker: Broker) -> None:
        only_if(broker.capabilities.ordering_keys, "the broker has no ordering keys")
        queue = self.new_queue()
        self.publish(broker, queue, *"abcdefgh", ordering_key="key")
        received: list[str] = []
        with self.consuming(broker, queue) as consumer:
            while len(received) < 8:
                batch = self.receive(consumer, 1)  # the next may not come before this one is settled
                received += labels(batch)
                assert consumer.ack(batch) == []
        assert received == list("abcdefgh")

    def test_a_message_whose_time_has_passed_comes_at_once(self, broker: Broker) -> None:
        queue = self.new_queue()
        self.publish(broker, queue, "late", eta=datetime.now(UTC) - timedelta(days=1))
        assert self.drain(broker, queue, 1) == ["late"]

    def test_a_message_that_is_too_large_is_refused_by_position_and_the_others_are_sent(self, broker: Broker) -> None:
        limit = broker.capabilities.max_message_size
        only_if(limit is not None and limit <= LARGEST_TRIED, "no limit, or none that a test should reach for")
        queue = self.new_queue()
        messages = [self.message(queue, label) for label in "abc"]
        with raises(MessageTooLarge) as caught:
            broker.publish(at_positions(messages, body={1: b"x" * ((limit or 0) + 1)}))
        assert set(caught.value.failures) == {1}
        assert self.drain(broker, queue, 2) == ["a", "c"]
