"""The broker: Go's exchange and queues (protocol §4), a ladder of queues for what has to wait, dead letters beside each queue."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

from machinery.abc import Broker, BrokerCapabilities, Config, DeadLetter, Message, Section
from machinery.errors import BrokerUnavailable, ConfigError, Unsupported
from machinery_broker_amqp._consumer import AmqpConsumer
from machinery_broker_amqp._dead_letters import DeadLetters
from machinery_broker_amqp._examination import examine
from machinery_broker_amqp._forwarding import Forwarding
from machinery_broker_amqp._ladder import BEYOND, DELAYED, ONWARDS, POSTPONED
from machinery_broker_amqp._link import Link
from machinery_broker_amqp._looking import look, purge, take
from machinery_broker_amqp._names import ETA, QUEUE, check_queue
from machinery_broker_amqp._options import AMQP_SECTION, service_of, to_service
from machinery_broker_amqp._publishing import LARGEST_MESSAGE, Publisher
from machinery_broker_amqp._topology import Topology

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import pika

    from machinery.abc import Finding
    from machinery_broker_amqp._options import Service
    from machinery_broker_amqp._session import Got, Session

_NEVER = datetime.max.replace(tzinfo=UTC)
_LONGEST_LOOK = 120.0
"""Seconds that a look at all that is delayed may take."""
_LARGEST_LOOK = 100_000
"""Messages of one ladder's rung that are looked at, at most."""


class AmqpBroker(Broker):
    """Queues in RabbitMQ, shared with Go Machinery's workers and senders.

    ``AmqpBroker(parameters)`` takes the application's own `pika.ConnectionParameters`, or a tuple of them to be tried in order;
    ``options`` are keys of the ``amqp`` section. `from_url` makes one from a URL. Nothing connects before it is used.
    """

    section: ClassVar[Section | None] = AMQP_SECTION

    def __init__(
        self,
        parameters: pika.ConnectionParameters | tuple[pika.ConnectionParameters, ...],
        config: Config | None = None,
        **options: Any,
    ) -> None:
        """Raises `ConfigError` for options that are wrong."""
        config = config or Config()
        self._set_up(service_of(parameters, config, options), config)

    @classmethod
    def from_url(cls, url: str, config: Config) -> AmqpBroker:
        """A broker on the RabbitMQ that ``url`` names: ``amqp://`` or ``amqps://``, several of them with a separator."""
        broker = cls.__new__(cls)
        broker._set_up(to_service(url, config), config)  # noqa: SLF001 - it is ours
        return broker

    def _set_up(self, service: Service, config: Config) -> None:
        self._service = service
        self._topology = Topology(service.options, check_queue(config.default_queue))
        self._link = Link(service, "broker", BrokerUnavailable)
        self._publisher = Publisher(self._link, self._topology)
        self._dead_letters = DeadLetters(self._link, self._publisher, self._topology)
        self._forwarding = Forwarding(self._link, self._publisher, self._dead_letters, config.default_queue)
        self._consumers: set[AmqpConsumer] = set()
        self._capabilities = BrokerCapabilities(
            priorities="x-max-priority" in service.options.queue_declare_args,
            default_routing_key=self._topology.default_key,
            headers_are_text=True,
            inspection=not service.options.is_quorum,
            max_message_size=LARGEST_MESSAGE,
        )

    @property
    def capabilities(self) -> BrokerCapabilities:
        """Any delay; priorities where the queues are declared with ``x-max-priority``; no leases."""
        return self._capabilities

    # -- publishing and consuming -------------------------------------------------------------------------------------------

    def publish(self, messages: Sequence[Message]) -> None:
        """Put messages on their queues, each confirmed by RabbitMQ."""
        self._publisher.publish(messages)

    def consumer(self, queue: str, name: str) -> AmqpConsumer:
        """A new consumer of ``queue``, with a connection of its own."""
        self._link.check_open()
        if queue == self._topology.default_key != self._topology.queue_of(queue):
            raise ConfigError(
                f"{queue!r} is the routing key of the queue {self._topology.queue_of(queue)!r} (amqp.binding_key), no queue of "
                "its own; what Go's senders have left in a queue of that name are copies"
            )
        consumer = AmqpConsumer(
            Link(self._service, f"consumer {name} of {queue}", BrokerUnavailable),
            check_queue(queue),
            topology=self._topology,
            publisher=self._publisher,
            dead_letters=self._dead_letters,
            forwarding=self._forwarding,
            prefetch_count=self._service.options.prefetch_count,
            on_close=self._consumers.discard,
        )
        self._consumers.add(consumer)
        return consumer

    # -- inspection ---------------------------------------------------------------------------------------------------------

    def pending(self, queue: str, limit: int) -> list[Message]:
        """What waits in the queue, oldest first. It is kept from workers for that moment, and marked as redelivered after it."""
        self._check_inspection()
        return [
            Message(got.body, queue, priority=got.properties.priority or 0)
            for got in self._link.call(lambda session: look(session, queue, limit))
        ]

    def delayed(self, limit: int) -> list[Message]:
        """What waits on the ladders, earliest first. All of it is looked at."""
        self._check_inspection()
        if limit <= 0:
            return []

        async def look_everywhere(session: Session) -> list[Got]:
            found: list[Got] = []
            rungs = [*await DELAYED.standing(session), *await POSTPONED.standing(session)]
            for name in (BEYOND, ONWARDS, *rungs):
                found += await look(session, name, _LARGEST_LOOK)
            return found

        messages = [_to_message(got) for got in self._link.call(look_everywhere, timeout=_LONGEST_LOOK)]
        return sorted(messages, key=lambda message: message.eta or _NEVER)[:limit]

    def _check_inspection(self) -> None:
        self._link.check_open()
        if not self._capabilities.inspection:
            raise Unsupported(
                "a quorum queue cannot be looked into without harm: RabbitMQ gives what was looked at a new place, and counts it "
                "as delivered; the management page and `rabbitmqctl list_queues` tell how much waits"
            )

    def purge(self, queue: str) -> int:
        """Empty the queue, and take off the ladder what was handed back for later."""

        async def purge_all(session: Session) -> int:
            # The ladder first: what comes down from it meanwhile is in the queue by the time that is emptied.
            taken = await take(session, await POSTPONED.standing(session), lambda got: got.routing_key == queue)
            return taken + await purge(session, queue)

        return self._link.call(purge_all, timeout=_LONGEST_LOOK)

    # -- dead letters -------------------------------------------------------------------------------------------------------

    def dead(self, queue: str, limit: int) -> list[DeadLetter]:
        """The queue's dead letters, oldest first."""
        return self._dead_letters.list(queue, limit)

    def requeue_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:
        """Dead letters back to the end of their queue."""
        return self._dead_letters.send_again(queue, ids)

    def purge_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:
        """Dead letters away."""
        return self._dead_letters.delete(queue, ids)

    # -- service ------------------------------------------------------------------------------------------------------------

    def examine(self) -> list[Finding]:
        """What is dangerous about the queues' and the server's settings."""
        return examine(self._link, self._topology)

    def close(self) -> None:
        """Let go of every connection, those of consumers too."""
        for consumer in list(self._consumers):
            consumer.close()
        self._link.close()


def _to_message(got: Got) -> Message:
    headers = got.properties.headers or {}
    try:
        eta: datetime | None = datetime.fromisoformat(str(headers.get(ETA, "")))
    except ValueError:  # somebody else put it there
        eta = None
    return Message(got.body, str(headers.get(QUEUE, got.routing_key)), eta, got.properties.priority or 0)
