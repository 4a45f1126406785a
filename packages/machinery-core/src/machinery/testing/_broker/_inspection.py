"""Looking at what waits changes nothing; purging deletes what waits and no more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from machinery.errors import Unsupported
from machinery.testing._broker._suite import BrokerSuite, labels
from machinery.testing._expectations import Stopwatch, eventually, only_if, raises

if TYPE_CHECKING:
    from machinery.abc import Broker

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
ROUNDING = SECOND
"""By which a service may round the time that something comes."""


class Inspection(BrokerSuite):
    """`Broker.pending`, `Broker.delayed` and `Broker.purge`."""

    def test_pending_lists_what_waits_oldest_first_and_changes_nothing(self, broker: Broker) -> None:
        only_if(broker.capabilities.inspection, "the broker cannot be looked into")
        queue = self.new_queue()
        assert broker.pending(queue, 10) == []
        self.publish(broker, queue, *"abc")
        for _ in range(2):
            found = broker.pending(queue, 10)
            assert labels(found) == ["a", "b", "c"]
            assert {message.queue for message in found} == {queue}
        assert labels(broker.pending(queue, 2)) == ["a", "b"]
        assert self.drain(broker, queue, 3) == ["a", "b", "c"]

    def test_what_is_on_loan_is_not_pending(self, broker: Broker) -> None:
        only_if(broker.capabilities.inspection, "the broker cannot be looked into")
        queue = self.new_queue()
        self.publish(broker, queue, *"ab")
        with self.consuming(broker, queue) as consumer:
            consumer.resize(1)
            delivery = self.receive_one(consumer)
            assert labels(broker.pending(queue, 10)) == ["b"]
            consumer.ack([delivery])

    def test_delayed_lists_what_waits_for_its_time_earliest_first(self, broker: Broker) -> None:
        only_if(broker.capabilities.inspection and _holds_an_hour(broker), "no delays, or they cannot be looked into")
        queue = self.new_queue()
        now = datetime.now(UTC)
        etas = {"second": now + HOUR * 2, "first": now + HOUR, "third": now + HOUR * 3}
        broker.publish([self.message(queue, label, eta=eta) for label, eta in etas.items()])
        for _ in range(2):
            found = [message for message in broker.delayed(10_000) if message.queue == queue]
            assert labels(found) == ["first", "second", "third"]
            for message, label in zip(found, ("first", "second", "third"), strict=True):
                assert message.eta is not None
                assert abs(message.eta - etas[label]) <= ROUNDING
        assert len(broker.delayed(1)) == 1
        assert broker.pending(queue, 10) == []

    def test_delayed_lists_what_was_handed_back_for_later(self, broker: Broker) -> None:
        only_if(broker.capabilities.inspection, "the broker cannot be looked into")
        queue = self.new_queue()
        self.publish(broker, queue, "a")
        with self.consuming(broker, queue) as consumer:
            delivery = self.receive_one(consumer)
            before = datetime.now(UTC)
            assert consumer.postpone([delivery], MINUTE) == []
            after = datetime.now(UTC)
            (found,) = [message for message in broker.delayed(10_000) if message.queue == queue]
            assert labels([found]) == ["a"]
            assert found.eta is not None
            assert before + MINUTE - ROUNDING <= found.eta <= after + MINUTE + ROUNDING
            assert broker.pending(queue, 10) == []
            broker.purge(queue)

    def test_purging_deletes_what_waits(self, broker: Broker) -> None:
        queue, other = self.new_queue(), self.new_queue()
        assert broker.purge(queue) == 0
        self.publish(broker, queue, *"abc")
        self.publish(broker, other, "kept")
        assert broker.purge(queue) == 3
        assert broker.purge(queue) == 0
        self.publish(broker, queue, "new")
        assert self.drain(broker, queue, 1) == ["new"]
        assert self.drain(broker, other, 1) == ["kept"]

    def test_purging_deletes_what_was_handed_back_for_later(self, broker: Broker) -> None:
        only_if(broker.capabilities.inspection, "the broker cannot be looked into")

        def purge() -> bool:
            queue, other = self.new_queue(), self.new_queue()
            self._postpone(broker, other)
            watch = self._postpone(broker, queue)
            self.publish(broker, queue, "b")
            purged = broker.purge(queue)
            if purged == 1 and watch.seconds >= SECOND.total_seconds():
                return False  # on a busy machine it was on its way from what is postponed to what waits
            assert purged == 2
            assert not [message for message in broker.delayed(10_000) if message.queue == queue]
            assert broker.purge(queue) == 0
            assert self.drain(broker, other, 1) == ["a"]
            with self.consuming(broker, queue) as consumer:
                assert consumer.receive(10, 0) == []
            return True

        assert eventually(purge)

    def _postpone(self, broker: Broker, queue: str) -> Stopwatch:
        """Have ``a`` wait in ``queue`` for a second from the stopwatch's begin on."""
        self.publish(broker, queue, "a")
        with self.consuming(broker, queue) as consumer:
            delivery = self.receive_one(consumer)
            watch = Stopwatch()
            assert consumer.postpone([delivery], SECOND) == []
            return watch

    def test_purging_leaves_what_is_on_loan_or_delayed(self, broker: Broker) -> None:
        left = ["a", "later"] if _holds_an_hour(broker) else ["a"]

        def purge() -> bool:
            queue = self.new_queue()
            self.publish(broker, queue, *"ab")
            with self.consuming(broker, queue) as consumer:
                consumer.resize(1)
                delivery = self.receive_one(consumer)
                watch = Stopwatch()
                if "later" in left:
                    self.publish(broker, queue, "later", eta=datetime.now(UTC) + SECOND)
                purged = broker.purge(queue)
                if "later" in left and purged == 2 and watch.seconds >= SECOND.total_seconds():
                    return False  # on a busy machine it was due by then
                assert purged == 1
                assert consumer.nack([delivery]) == []
                consumer.resize(10)
                again = self.receive(consumer, len(left))
                assert labels(again) == left
                consumer.ack(again)
            return True

        assert eventually(purge)

    def test_what_cannot_be_looked_into_says_so(self, broker: Broker) -> None:
        only_if(not broker.capabilities.inspection, "the broker can be looked into")
        with raises(Unsupported):
            broker.pending(self.new_queue(), 10)
        with raises(Unsupported):
            broker.delayed(10)


def _holds_an_hour(broker: Broker) -> bool:
    longest = broker.capabilities.max_delay
    return longest is None or longest > HOUR * 3
