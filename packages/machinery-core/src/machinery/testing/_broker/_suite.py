"""What the themes of the broker's contract share: messages with labels, consumers that are looked after, patient receiving."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

from machinery._signatures import Signature, new_task_uuid
from machinery.abc import Message
from machinery.testing._expectations import PATIENCE, Stopwatch
from machinery.testing._kept_consumer import KeptConsumer
from machinery.wire import decode_signature, encode_signature

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from machinery.abc import Broker, Consumer, Delivery


class BrokerSuite:
    """What a plug-in may set to suit its service."""

    odd_queue_names: ClassVar[tuple[str, ...]] = ("größe ✓ 队列", "a:b/c.d", "with space")
    """How names may begin that are more than letters, digits, ``-`` and ``_``, where the service allows it."""
    many: ClassVar[int] = 3000
    """Messages of the largest batches; fewer for a service that takes and gives a dozen at a time."""

    def new_queue(self, beginning: str = "contract-") -> str:
        """The name of a queue that nobody else uses, and that exists where the service demands it."""
        return f"{beginning}{uuid4().hex}"

    def message(self, queue: str, label: str, **fields: Any) -> Message:
        """A message as Machinery sends it: a signature. It is known by ``label`` again."""
        signature = Signature("contract", [label], uuid=new_task_uuid(), routing_key=queue, eta=fields.get("eta"))
        return Message(encode_signature(signature), queue, **fields)

    def publish(self, broker: Broker, queue: str, *labels: str, **fields: Any) -> None:
        """Publish one message for each label, in one batch."""
        broker.publish([self.message(queue, label, **fields) for label in labels])

    def consuming(self, broker: Broker, queue: str) -> KeptConsumer:
        """A consumer of ``queue`` for a ``with`` block: looked after, as a worker's keeper does, and closed at the end."""
        return KeptConsumer(broker.consumer(queue, f"contract@here:1:{uuid4().hex}"))

    def receive(self, consumer: Consumer, count: int) -> list[Delivery]:
        """Exactly ``count`` deliveries, in the order they came."""
        watch = Stopwatch()
        received: list[Delivery] = []
        while len(received) < count and watch.seconds < PATIENCE:
            if deliveries := consumer.receive(count - len(received), 1.0):
                received += deliveries
                watch = Stopwatch()
        assert len(received) == count, f"after {len(received)} of {count} messages none came for {PATIENCE} s"
        return received

    def receive_one(self, consumer: Consumer) -> Delivery:
        """The next delivery."""
        (delivery,) = self.receive(consumer, 1)
        return delivery

    def drain(self, broker: Broker, queue: str, count: int) -> list[str]:
        """Receive and acknowledge ``count`` messages; their labels, in the order they came."""
        with self.consuming(broker, queue) as consumer:
            received = self.receive(consumer, count)
            assert consumer.ack(received) == []
        return labels(received)


def labels(messages: Iterable[Delivery | Message]) -> list[str]:
    """By which label each message is known."""
    return [label_of(message.body) for message in messages]


def label_of(body: bytes) -> str:
    """By which label a message of this body is known."""
    return str(decode_signature(body).args[0].value)


def at_positions(messages: Sequence[Message], **changes: dict[int, Any]) -> list[Message]:
    """The messages, those at some positions with another value: ``at_positions(messages, body={3: b"…"})``."""
    changed = list(messages)
    for field, values in changes.items():
        for position, value in values.items():
            changed[position] = replace(changed[position], **{field: value})
    return changed
