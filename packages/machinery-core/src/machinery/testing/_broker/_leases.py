"""A loan lasts for its lease, unless it is renewed. A consumer that dies is found out by its silence."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from machinery.testing._broker._suite import BrokerSuite, labels
from machinery.testing._expectations import Stopwatch, eventually, only_if

if TYPE_CHECKING:
    from collections.abc import Callable

    from machinery.abc import Broker

LONGEST_TRIED = timedelta(seconds=3)
"""A longer lease is not waited for."""


class Leases(BrokerSuite):
    """`Delivery.lease` and `Consumer.extend`; consumers that end without a word."""

    def test_what_a_silent_consumer_held_goes_to_others_when_its_lease_is_over(
        self, broker: Broker, make_broker: Callable[[], Broker]
    ) -> None:
        lease = _short_lease(broker)
        dying = make_broker()

        def goes_to_others() -> bool:
            queue = self.new_queue()
            self.publish(broker, queue, *"abc")
            watch = Stopwatch()
            self.receive(dying.consumer(queue, f"silent@here:1:{queue}"), 2)
            is_late = watch.seconds >= lease  # on a busy machine: then the first may have come twice
            with self.consuming(broker, queue) as consumer:
                received = self.receive(consumer, 3)
                assert watch.seconds >= lease * 0.5
                again = [delivery for delivery in received if labels([delivery]) != ["c"]]
                is_right = (
                    sorted(labels(received)) == ["a", "b", "c"]
                    and all(each.redelivered is not False and each.attempt in {2, None} for each in again)
                    and consumer.ack(received) == []
                )
                assert is_right or is_late or consumer.longest_silence >= lease, f"received: {received}"
            return is_right

        assert eventually(goes_to_others)

    def test_a_loan_that_is_renewed_lasts(self, broker: Broker, make_broker: Callable[[], Broker]) -> None:
        lease = _short_lease(broker)
        holding = make_broker()

        def lasts() -> bool:
            queue = self.new_queue()
            self.publish(broker, queue, "only")
            with self.consuming(holding, queue) as holder, self.consuming(broker, queue) as other:
                delivery = self.receive_one(holder)
                taken = other.receive(1, lease * 3)  # the holder's keeper renews it
                lost = holder.ack([delivery])
                assert taken == lost == [] or holder.longest_silence >= lease
            return taken == lost == []

        assert eventually(lasts)

    def test_a_loan_that_is_over_cannot_be_settled(self, broker: Broker, make_broker: Callable[[], Broker]) -> None:
        lease = _short_lease(broker)
        queue = self.new_queue()
        self.publish(broker, queue, "only")
        silent = make_broker().consumer(queue, "silent@here:1:0")
        late = self.receive_one(silent)
        watch = Stopwatch()
        with self.consuming(broker, queue) as consumer:
            delivery = self.receive_one(consumer)
            # A service may not say, and who received late on a busy machine takes the loan for as much longer.
            eventually(lambda: watch.seconds >= lease)
            assert silent.extend([late]) == [late]
            assert silent.nack([late]) == [late]
            assert silent.ack([late]) == [late]
            assert consumer.ack([delivery]) == [] or consumer.longest_silence >= lease

    def test_a_loan_without_a_lease_needs_no_renewal(self, broker: Broker) -> None:
        only_if(broker.capabilities.leases is None, "the broker has leases")
        queue = self.new_queue()
        self.publish(broker, queue, "only")
        with self.consuming(broker, queue) as consumer:
            delivery = self.receive_one(consumer)
            assert delivery.lease is None
            assert consumer.extend([delivery]) == []
            assert consumer.ack([delivery]) == []

    def test_what_a_closed_brokers_consumers_held_goes_to_others(
        self, broker: Broker, make_broker: Callable[[], Broker]
    ) -> None:
        only_if(broker.capabilities.redelivers_dead_consumers, "what a dead consumer held is lost on this broker")
        queue = self.new_queue()
        self.publish(broker, queue, *"ab")
        ending = make_broker()
        self.receive(ending.consumer(queue, "ending@here:1:0"), 2)
        ending.close()
        assert sorted(self.drain(broker, queue, 2)) == ["a", "b"]


def _short_lease(broker: Broker) -> float:
    lease = broker.capabilities.leases
    only_if(lease is not None, "the broker has no leases")
    only_if(
        lease is not None and lease <= LONGEST_TRIED, "the lease is too long to wait for; give the suite a shorter one"
    )
    return lease.total_seconds() if lease is not None else 0.0
