"""What is received is on loan until it is settled once: done, given back now or later, or given up."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from machinery.testing._broker._suite import BrokerSuite, labels
from machinery.testing._expectations import QUIET, Stopwatch, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from machinery.abc import Broker, Consumer, Delivery

DELAY = timedelta(seconds=0.5)


class Settling(BrokerSuite):
    """`Consumer.ack`, `Consumer.nack` and `Consumer.postpone`; what is left unsettled."""

    def test_what_was_acknowledged_never_comes_again(self, broker: Broker) -> None:
        queue = self.new_queue()
        self.publish(broker, queue, *"abc")
        assert self.drain(broker, queue, 3) == ["a", "b", "c"]
        with self.consuming(broker, queue) as consumer:
            assert consumer.receive(10, QUIET) == []

    def test_what_is_on_loan_is_not_delivered_to_others(self, broker: Broker) -> None:
        queue = self.new_queue()
        self.publish(broker, queue, "only")
        with self.consuming(broker, queue) as one, self.consuming(broker, queue) as other:
            delivery = self.receive_one(one)
            assert other.receive(1, QUIET) == []
            assert one.ack([delivery]) == []

    def test_what_was_given_back_comes_again_first(self, broker: Broker) -> None:
        queue = self.new_queue()
        self.publish(broker, queue, *"abc")
        with self.consuming(broker, queue) as consumer:
            delivery = self.receive_one(consumer)
            assert consumer.nack([delivery]) == []
            again = self.receive(consumer, 3)
            assert labels(again) == ["a", "b", "c"]
            consumer.ack(again)

    def test_a_batch_that_was_given_back_keeps_its_order(self, broker: Broker) -> None:
        queue = self.new_queue()
        self.publish(broker, queue, *"abcd")
        with self.consuming(broker, queue) as consumer:
            received = self.receive(consumer, 3)
            assert consumer.nack(received) == []
            again = self.receive(consumer, 4)
            assert labels(again) == ["a", "b", "c", "d"]
            consumer.ack(again)

    def test_what_was_given_back_may_go_to_another_consumer(self, broker: Broker) -> None:
        queue = self.new_queue()
        self.publish(broker, queue, "only")
        with self.consuming(broker, queue) as one, self.consuming(broker, queue) as other:
            one.nack([self.receive_one(one)])
            delivery = self.receive_one(other)
            assert labels([delivery]) == ["only"]
            assert other.ack([delivery]) == []

    def test_giving_back_is_no_attempt(self, broker: Broker) -> None:
        queue = self.new_queue()
        self.publish(broker, queue, "only")
        with self.consuming(broker, queue) as consumer:
            for _ in range(3):
                delivery = self.receive_one(consumer)
                assert delivery.attempt in {1, None}
                consumer.nack([delivery])
            delivery = self.receive_one(consumer)
            consumer.postpone([delivery], timedelta(milliseconds=1))
            delivery = self.receive_one(consumer)
            assert delivery.attempt in {1, None}
            consumer.ack([delivery])

    def test_what_was_postponed_comes_when_its_delay_is_over_and_not_before(self, broker: Broker) -> None:
        queue = self.new_queue()
        self.publish(broker, queue, "only")
        with self.consuming(broker, queue) as consumer:
            delivery = self.receive_one(consumer)
            watch = Stopwatch()
            assert consumer.postpone([delivery], DELAY) == []
            again = self.receive_one(consumer)
            assert watch.seconds >= DELAY.total_seconds() * 0.9
            assert labels([again]) == ["only"]
            assert consumer.ack([again]) == []

    def test_what_was_postponed_holds_up_nobody(self, broker: Broker) -> None:

        def other_comes_meanwhile() -> bool:
            queue = self.new_queue()
            self.publish(broker, queue, *"ab")
            with self.consuming(broker, queue) as consumer:
                delivery = self.receive_one(consumer)
                watch = Stopwatch()
                consumer.postpone([delivery], DELAY)
                received = [self.receive_one(consumer)]
                is_late = watch.seconds >= DELAY.total_seconds()  # on a busy machine: then both may be due
                received.append(self.receive_one(consumer))
                consumer.ack(received)
            assert sorted(labels(received)) == ["a", "b"]
            assert is_late or labels(received) == ["b", "a"]
            return labels(received) == ["b", "a"]

        assert eventually(other_comes_meanwhile)

    def test_what_was_left_unsettled_comes_again_and_counts(self, broker: Broker) -> None:
        queue = self.new_queue()
        self.publish(broker, queue, *"abc")
        with self.consuming(broker, queue) as consumer:
            received = self.receive(consumer, 2)
            consumer.ack(received[:1])
        with self.consuming(broker, queue) as consumer:
            again = self.receive(consumer, 2)
            assert sorted(labels(again)) == ["b", "c"]
            (left,) = (delivery for delivery in again if labels([delivery]) == ["b"])
            assert left.redelivered is not False
            assert left.attempt in {2, None}
            consumer.ack(again)

    def test_a_batch_may_be_settled_in_parts(self, broker: Broker) -> None:
        queue = self.new_queue()
        self.publish(broker, queue, *"abcd")
        with self.consuming(broker, queue) as consumer:
            received = self.receive(consumer, 4)
            assert consumer.ack([received[0], received[2]]) == []
            assert consumer.nack([received[1], received[3]]) == []
            again = self.receive(consumer, 2)
            assert labels(again) == ["b", "d"]
            assert consumer.ack(again) == []

    def test_an_empty_batch_is_settled_without_effect(self, broker: Broker) -> None:
        with self.consuming(broker, self.new_queue()) as consumer:
            for settle in self.ways_to_settle(broker, consumer):
                assert settle([]) == []
            assert consumer.extend([]) == []

    def test_what_was_settled_is_ours_no_more(self, broker: Broker) -> None:
        queue = self.new_queue()
        with self.consuming(broker, queue) as consumer:
            ways = self.ways_to_settle(broker, consumer)
            for settle in ways:
                for settle_again in ways:
                    self.publish(broker, queue, "settled", "fresh")
                    settled, fresh = self.receive(consumer, 2)
                    assert consumer.ack([settled]) == []
                    assert settle([settled]) == [settled]
                    assert settle_again([settled, fresh]) == [settled]
                    assert consumer.ack([fresh]) == [fresh]
                    broker.purge(queue)

    def test_settling_twice_in_one_batch_counts_once(self, broker: Broker) -> None:
        queue = self.new_queue()
        self.publish(broker, queue, "only")
        with self.consuming(broker, queue) as consumer:
            delivery = self.receive_one(consumer)
            assert consumer.ack([delivery, delivery]) == [delivery]

    def test_an_old_delivery_cannot_settle_a_new_one(self, broker: Broker) -> None:
        queue = self.new_queue()
        self.publish(broker, queue, "only")
        with self.consuming(broker, queue) as consumer:
            old = self.receive_one(consumer)
            consumer.nack([old])
            new = self.receive_one(consumer)
            assert consumer.ack([old]) == [old]
            assert consumer.ack([new]) == []

    def test_where_messages_have_ids_each_keeps_its_own(self, broker: Broker) -> None:
        queue = self.new_queue()
        message = self.message(queue, "twice")
        broker.publish([message, message])
        with self.consuming(broker, queue) as consumer:
            first, second = self.receive(consumer, 2)
            assert (first.message_id == second.message_id) is (first.message_id == "")
            assert consumer.nack([first]) == []
            again = self.receive_one(consumer)
            assert again.message_id == first.message_id
            consumer.ack([again, second])

    def ways_to_settle(
        self, broker: Broker, consumer: Consumer
    ) -> list[Callable[[Sequence[Delivery]], list[Delivery]]]:
        """The calls that end a loan, as this broker has them."""
        ways = [consumer.ack, consumer.nack, lambda deliveries: consumer.postpone(deliveries, timedelta(hours=1))]
        if broker.capabilities.dead_letters:
            ways.append(lambda deliveries: consumer.reject(deliveries, "contract"))
        return ways
