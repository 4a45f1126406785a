"""What was given up is kept with its reason until somebody sends it again or deletes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from machinery.errors import Unsupported
from machinery.testing._broker._suite import BrokerSuite, label_of
from machinery.testing._expectations import QUIET, only_if, raises

if TYPE_CHECKING:
    from machinery.abc import Broker, DeadLetter


class DeadLetters(BrokerSuite):
    """`Consumer.reject`, `Broker.dead`, `Broker.requeue_dead` and `Broker.purge_dead`."""

    def test_what_was_given_up_is_a_dead_letter_with_its_reason(self, broker: Broker) -> None:
        queue = self.bury(broker, "bad", reason="it is broken, räally ✓")
        (letter,) = broker.dead(queue, 10)
        assert label_of(letter.body) == "bad"
        assert letter.queue == queue
        assert letter.reason == "it is broken, räally ✓"
        assert abs(datetime.now(UTC) - letter.died_at) < timedelta(minutes=1)

    def test_what_was_given_up_is_delivered_no_more(self, broker: Broker) -> None:
        queue = self.bury(broker, "bad")
        with self.consuming(broker, queue) as consumer:
            assert consumer.receive(1, QUIET) == []

    def test_dead_letters_are_listed_oldest_first_and_the_list_changes_nothing(self, broker: Broker) -> None:
        queue = self.new_queue()
        for label in "abc":
            self.bury(broker, label, queue=queue)
        for _ in range(2):
            assert names(broker.dead(queue, 10)) == ["a", "b", "c"]
        assert names(broker.dead(queue, 2)) == ["a", "b"]
        assert len({letter.id for letter in broker.dead(queue, 10)}) == 3

    def test_dead_letters_of_queues_do_not_mix(self, broker: Broker) -> None:
        one, other = self.bury(broker, "one"), self.bury(broker, "other")
        assert names(broker.dead(one, 10)) == ["one"]
        assert broker.purge_dead(one) == 1
        assert names(broker.dead(other, 10)) == ["other"]

    def test_a_dead_letter_that_is_sent_again_is_a_fresh_message(self, broker: Broker) -> None:
        queue = self.bury(broker, "a", "b")
        assert broker.requeue_dead(queue) == 2
        assert broker.dead(queue, 10) == []
        with self.consuming(broker, queue) as consumer:
            received = self.receive(consumer, 2)
            assert sorted(label_of(delivery.body) for delivery in received) == ["a", "b"]
            assert {delivery.attempt for delivery in received} <= {1, None}
            assert consumer.ack(received) == []

    def test_only_the_named_dead_letters_are_sent_again(self, broker: Broker) -> None:
        queue = self.bury(broker, "a", "b", "c")
        (chosen,) = (letter.id for letter in broker.dead(queue, 10) if label_of(letter.body) == "b")
        assert broker.requeue_dead(queue, [chosen]) == 1
        assert sorted(names(broker.dead(queue, 10))) == ["a", "c"]
        assert self.drain(broker, queue, 1) == ["b"]
        assert broker.requeue_dead(queue, [chosen]) == 0

    def test_only_the_named_dead_letters_are_deleted(self, broker: Broker) -> None:
        queue = self.bury(broker, "a", "b", "c")
        (chosen,) = (letter.id for letter in broker.dead(queue, 10) if label_of(letter.body) == "b")
        assert broker.purge_dead(queue, [chosen]) == 1
        assert sorted(names(broker.dead(queue, 10))) == ["a", "c"]
        assert broker.purge_dead(queue) == 2
        assert broker.dead(queue, 10) == []

    def test_no_names_means_no_dead_letters(self, broker: Broker) -> None:
        queue = self.bury(broker, "kept")
        assert broker.requeue_dead(queue, []) == 0
        assert broker.purge_dead(queue, []) == 0
        assert names(broker.dead(queue, 10)) == ["kept"]

    def test_a_queue_without_dead_letters_has_none(self, broker: Broker) -> None:
        only_if(broker.capabilities.dead_letters, "the broker keeps no dead letters")
        queue = self.new_queue()
        assert broker.dead(queue, 10) == []
        assert broker.requeue_dead(queue) == 0
        assert broker.purge_dead(queue) == 0

    def test_a_broker_that_keeps_no_dead_letters_says_so(self, broker: Broker) -> None:
        only_if(not broker.capabilities.dead_letters, "the broker keeps dead letters")
        queue = self.new_queue()
        with raises(Unsupported):
            broker.dead(queue, 10)
        with raises(Unsupported):
            broker.requeue_dead(queue)
        with raises(Unsupported):
            broker.purge_dead(queue)

    def bury(self, broker: Broker, *labels: str, queue: str = "", reason: str = "contract") -> str:
        """Make dead letters of messages with these labels; returns their queue."""
        only_if(broker.capabilities.dead_letters, "the broker keeps no dead letters")
        queue = queue or self.new_queue()
        self.publish(broker, queue, *labels)
        with self.consuming(broker, queue) as consumer:
            assert consumer.reject(self.receive(consumer, len(labels)), reason) == []
        return queue


def names(letters: list[DeadLetter]) -> list[str]:
    """By which label each letter is known."""
    return [label_of(letter.body) for letter in letters]
