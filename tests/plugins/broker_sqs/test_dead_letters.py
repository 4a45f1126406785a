"""Dead letters where the redrive policy says, and the error where it says nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import pytest

from machinery.abc import Message
from machinery.errors import Unsupported
from machinery_broker_sqs import SqsBroker
from machinery_broker_sqs._sweeping import Sweep

if TYPE_CHECKING:
    from tests.services.sqs import Queues


def bury(broker: SqsBroker, queue: str, *bodies: bytes, reason: str = "no", key: str = "") -> None:
    broker.publish([Message(body, queue, ordering_key=key) for body in bodies])
    with closing(broker.consumer(queue, "c")) as consumer:
        for _ in bodies:
            assert consumer.reject(consumer.receive(1, 10), reason) == []


def test_two_queues_may_share_a_place_for_dead_letters(broker: SqsBroker, sqs_queues: Queues) -> None:
    dead = sqs_queues.create()
    one, other = (sqs_queues.create(dead_letters=dead) for _ in range(2))
    bury(broker, one, b"1")
    bury(broker, other, b"2")
    assert [letter.body for letter in broker.dead(one, 10)] == [b"1"]
    assert broker.purge_dead(other) == 1
    assert broker.requeue_dead(one) == 1
    assert sqs_queues.counts(dead)[0] == 0


def test_looking_leaves_every_letter_where_it_was(broker: SqsBroker, sqs_queues: Queues, queue: str) -> None:
    bury(broker, queue, *[b"%d" % number for number in range(12)])
    assert len(broker.dead(queue, 5)) == 5
    assert len(broker.dead(queue, 100)) == 12
    assert broker.dead(queue, 0) == []
    assert sqs_queues.counts(f"{queue}-dead") == (12, 0, 0)


def test_a_passage_ends_with_what_was_there_though_more_is_sent_and_loans_end_meanwhile(
    broker: SqsBroker, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = broker._client.call
    numbers = count()

    def call(operation: str, queue: str = "", **parameters: Any) -> dict[str, Any]:
        """Each receive brings what is there, again, and what has just been sent."""
        if operation != "receive_message":
            return real(operation, queue, **parameters)
        number = next(numbers)
        return {
            "ResponseMetadata": {"HTTPHeaders": {"date": "Fri, 02 Jan 2026 03:04:05 GMT"}},
            "Messages": [
                {
                    "MessageId": each,
                    "ReceiptHandle": f"{each}-{number}",
                    "Attributes": {"SentTimestamp": f"{1_767_323_045_000 + later}"},
                }
                for each, later in (("old", -5000), ("within the second", 999), (f"new-{number}", 1001 + number))
            ],
        }

    monkeypatch.setattr(broker._client, "call", call)
    monkeypatch.setattr(broker._queues, "attributes", lambda *_: {"ApproximateNumberOfMessages": "3"})
    batches = list(islice(Sweep(broker._client, broker._queues, queue).batches(), 20))
    assert [[each["MessageId"] for each in batch] for batch in batches] == [["old", "within the second"]]


def test_a_letter_that_dies_again_while_others_are_sent_again_stays_dead(
    broker: SqsBroker, sqs_queues: Queues, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bury(broker, queue, b"poison")
    send = broker._publisher.send
    until = time.time()
    time.sleep(0.01)  # SQS's times are in milliseconds
    monkeypatch.setattr("machinery_broker_sqs._sweeping._answered_at", lambda _: until - 1)
    sent: list[int] = []

    def send_and_die(to: str, letters: Any) -> dict[int, Exception]:
        sent.append(len(letters))
        assert len(sent) < 20, "it goes round and round"
        return send(f"{queue}-dead", letters)

    monkeypatch.setattr(broker._publisher, "send", send_and_die)
    assert broker.requeue_dead(queue) == 1
    assert sqs_queues.counts(f"{queue}-dead") == (1, 0, 0)


def test_a_reason_may_be_anything(broker: SqsBroker, queue: str) -> None:
    bury(broker, queue, b"1", reason="a\0b\ud800 " + "x" * 100_000)
    (letter,) = broker.dead(queue, 1)
    assert letter.reason.startswith("a\ufffdb\ufffd xxx")


def test_a_letter_of_a_fifo_queue_goes_back_into_its_group(
    broker: SqsBroker, sqs_queues: Queues, fifo_queue: str
) -> None:
    bury(broker, fifo_queue, b"1", b"2", key="group")
    assert [letter.body for letter in broker.dead(fifo_queue, 10)] == [b"1", b"2"]
    assert broker.requeue_dead(fifo_queue) == 2
    assert {each["Attributes"]["MessageGroupId"] for each in sqs_queues.take(fifo_queue)} == {"group"}


@pytest.mark.parametrize(
    "ask",
    [
        lambda broker, queue: broker.dead(queue, 1),
        lambda broker, queue: broker.requeue_dead(queue),
        lambda broker, queue: broker.purge_dead(queue, ["x"]),
    ],
    ids=["dead", "requeue", "purge"],
)
def test_a_queue_without_a_place_for_them_says_what_to_configure(
    ask: Callable[[SqsBroker, str], object], broker: SqsBroker, sqs_queues: Queues
) -> None:
    with pytest.raises(Unsupported, match="RedrivePolicy"):
        ask(broker, sqs_queues.create())


def test_what_cannot_be_looked_into_is_a_named_error(broker: SqsBroker, queue: str) -> None:
    with pytest.raises(Unsupported, match="doctor"):
        broker.pending(queue, 1)
    with pytest.raises(Unsupported, match="doctor"):
        broker.delayed(1)
