"""A message with an ETA comes at that time: not before, and oldest first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from machinery.errors import DelayTooLong
from machinery.testing._broker._suite import BrokerSuite, labels
from machinery.testing._expectations import Stopwatch, eventually, only_if, raises

if TYPE_CHECKING:
    from machinery.abc import Broker

NOT_EARLIER = timedelta(milliseconds=50)
"""What two clocks of one machine, or a service's rounding, may differ."""


class Delays(BrokerSuite):
    """`Message.eta`."""

    def test_a_delayed_message_comes_at_its_time_and_not_before(self, broker: Broker) -> None:
        _only_with_delays(broker)
        queue = self.new_queue()
        eta = datetime.now(UTC) + timedelta(seconds=0.8)
        self.publish(broker, queue, "later", eta=eta)
        with self.consuming(broker, queue) as consumer:
            (delivery,) = consumer.receive(1, 0) or self.receive(consumer, 1)
            assert datetime.now(UTC) >= eta - NOT_EARLIER
            assert labels([delivery]) == ["later"]
            assert delivery.redelivered is not True
            assert delivery.attempt in {1, None}
            assert consumer.ack([delivery]) == []

    def test_a_delayed_message_holds_up_nobody(self, broker: Broker) -> None:
        _only_with_delays(broker)
        assert eventually(lambda: self._come_in_order(broker, {"later": 0.8, "now": None}))

    def test_delayed_messages_come_in_the_order_of_their_times(self, broker: Broker) -> None:
        _only_with_delays(broker)
        assert eventually(lambda: self._come_in_order(broker, {"third": 1.2, "first": 0.4, "second": 0.8}))

    def test_many_messages_that_are_due_together_all_come(self, broker: Broker) -> None:
        _only_with_delays(broker)
        queue = self.new_queue()
        count = self.many // 2
        expected = {f"{number}" for number in range(count)}
        self.publish(broker, queue, *expected, eta=datetime.now(UTC) + timedelta(seconds=0.5))
        assert set(self.drain(broker, queue, count)) == expected

    def test_the_wait_for_a_message_ends_before_that_for_a_later_one(self, broker: Broker) -> None:
        _only_with_delays(broker)
        queue = self.new_queue()
        now = datetime.now(UTC)
        much = min(timedelta(hours=1), (broker.capabilities.max_delay or timedelta.max) / 2)
        self.publish(broker, queue, "much later", eta=now + much)
        self.publish(broker, queue, "later", eta=now + timedelta(seconds=0.5))
        assert self.drain(broker, queue, 1) == ["later"]

    def test_a_delay_beyond_the_limit_is_refused_by_position_and_the_others_are_sent(self, broker: Broker) -> None:
        longest = broker.capabilities.max_delay
        only_if(longest is not None, "any delay will do")
        queue = self.new_queue()
        eta = datetime.now(UTC) + (longest or timedelta(0)) + timedelta(hours=1)
        with raises(DelayTooLong) as caught:
            broker.publish([self.message(queue, "a"), self.message(queue, "b", eta=eta), self.message(queue, "c")])
        assert set(caught.value.failures) == {1}
        assert self.drain(broker, queue, 2) == ["a", "c"]

    def test_a_delay_on_a_queue_that_holds_nothing_back_is_refused_by_position(self, broker: Broker) -> None:
        queue = self.new_queue()
        only_if(not broker.has_delays(queue), "the queue holds messages back")
        eta = datetime.now(UTC) + timedelta(minutes=1)
        with raises(DelayTooLong) as caught:
            broker.publish([self.message(queue, "a"), self.message(queue, "b", eta=eta), self.message(queue, "c")])
        assert set(caught.value.failures) == {1}
        assert self.drain(broker, queue, 2) == ["a", "c"]

    def _come_in_order(self, broker: Broker, delays: dict[str, float | None]) -> bool:
        """Whether messages with these delays come the shortest first. False: a busy machine let two become due together."""
        queue = self.new_queue()
        watch = Stopwatch()
        now = datetime.now(UTC)
        etas = {label: None if delay is None else now + timedelta(seconds=delay) for label, delay in delays.items()}
        broker.publish([self.message(queue, label, eta=eta) for label, eta in etas.items()])
        received, is_late = [], False
        expected = sorted(delays, key=lambda label: delays[label] or 0.0)
        with self.consuming(broker, queue) as consumer:
            for following in [*expected[1:], None]:
                delivery = self.receive_one(consumer)
                is_late |= following is not None and watch.seconds >= (delays[following] or 0.0)
                received += labels([delivery])
                assert consumer.ack([delivery]) == []
        assert received == expected or is_late
        return received == expected


def _only_with_delays(broker: Broker) -> None:
    longest = broker.capabilities.max_delay
    only_if(longest is None or longest > timedelta(0), "the broker knows no delay")
