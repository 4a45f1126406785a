"""The broker: Go's topics (protocol §5.2), a topic for what waits and one for dead letters beside each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from machinery.abc import Broker, BrokerCapabilities, Config, DeadLetter, Finding, Message, Section
from machinery.errors import Unsupported
from machinery_broker_gcp._client import Client
from machinery_broker_gcp._command import create_resources
from machinery_broker_gcp._consumer import PubsubConsumer
from machinery_broker_gcp._dead_letters import DeadLetters
from machinery_broker_gcp._delays import Delays
from machinery_broker_gcp._examination import examine
from machinery_broker_gcp._looking import purge
from machinery_broker_gcp._options import PUBSUB_SECTION, Service, service_of, to_service
from machinery_broker_gcp._publishing import LARGEST_MESSAGE, Publisher


class PubsubBroker(Broker):
    """Queues in Google Cloud Pub/Sub, shared with Go Machinery's workers and senders.

    ``PubsubBroker(project, subscription, publisher=…, subscriber=…)`` takes the application's own clients of google-cloud-pubsub,
    which stay its own; ``options`` are keys of the ``gcp_pub_sub`` section. `from_url` makes one from a URL. Nothing connects
    before it is used.
    """

    section: ClassVar[Section | None] = PUBSUB_SECTION
    commands: ClassVar[Mapping[str, Callable[[Sequence[str]], int]]] = {"create-resources": create_resources}

    def __init__(
        self,
        project: str,
        subscription: str,
        config: Config | None = None,
        *,
        publisher: Any = None,
        subscriber: Any = None,
        **options: Any,
    ) -> None:
        """``subscription`` serves `Config.default_queue`. Raises `ConfigError` for options or clients that are wrong."""
        self._set_up(service_of(project, subscription, config or Config(), options), publisher, subscriber)

    @classmethod
    def from_url(cls, url: str, config: Config) -> PubsubBroker:
        """A broker on the project that ``url`` names: ``gcppubsub://project/subscription``."""
        broker = cls.__new__(cls)
        broker._set_up(to_service(url, config))  # noqa: SLF001 - it is ours
        return broker

    def _set_up(self, service: Service, publisher: Any = None, subscriber: Any = None) -> None:
        self._client = Client(service, publisher, subscriber)
        self._publisher = Publisher(self._client)
        self._dead_letters = DeadLetters(self._client, self._publisher)
        self._consumers: set[PubsubConsumer] = set()
        self._capabilities = BrokerCapabilities(
            ordering_keys=service.options.ordering_keys,
            leases=service.options.ack_deadline,
            inspection=False,
            dead_letters=service.options.dead_letters,
            max_message_size=LARGEST_MESSAGE,
        )

    @property
    def capabilities(self) -> BrokerCapabilities:
        """Any delay; leases; nothing can be looked into."""
        return self._capabilities

    # -- publishing and consuming -------------------------------------------------------------------------------------------

    def publish(self, messages: Sequence[Message]) -> None:
        """Put messages on their topics, a thousand in one call."""
        self._client.check_open()
        self._publisher.publish(messages)

    def consumer(self, queue: str, name: str) -> PubsubConsumer:
        """A new consumer of ``queue``, with streams of its own."""
        self._client.check_open()
        consumer = PubsubConsumer(
            self._client,
            queue,
            name,
            publisher=self._publisher,
            dead_letters=self._dead_letters,
            delays=Delays(self._client, self._publisher, queue, name),
            on_close=self._consumers.discard,
        )
        self._consumers.add(consumer)
        return consumer

    # -- inspection ---------------------------------------------------------------------------------------------------------

    def pending(self, queue: str, limit: int) -> list[Message]:  # noqa: ARG002 - it cannot be done
        """Raises `Unsupported`."""
        raise Unsupported(_CANNOT_LOOK)

    def delayed(self, limit: int) -> list[Message]:  # noqa: ARG002 - likewise
        """Raises `Unsupported`."""
        raise Unsupported(_CANNOT_LOOK)

    def purge(self, queue: str) -> int:
        """Pull and acknowledge what waits: a *seek* would take what is on loan too, and not say how much there was."""
        self._client.check_open()
        names = self._client.names
        return purge(self._client, names.subscription(names.subscription_of(queue)))

    # -- dead letters -------------------------------------------------------------------------------------------------------

    def dead(self, queue: str, limit: int) -> list[DeadLetter]:
        """The queue's dead letters, oldest first."""
        return self._dead_letters.list(queue, limit)

    def requeue_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:
        """Dead letters back to their queue."""
        return self._dead_letters.send_again(queue, ids)

    def purge_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:
        """Dead letters away."""
        return self._dead_letters.delete(queue, ids)

    # -- service ------------------------------------------------------------------------------------------------------------

    def examine(self) -> list[Finding]:
        """What is dangerous about the topics and subscriptions of the default queue, and of those in ``subscriptions``."""
        return examine(self._client)

    def close(self) -> None:
        """End the consumers' streams, and let go of every connection of our own."""
        for consumer in list(self._consumers):
            consumer.close()
        self._client.close()


_CANNOT_LOOK = (
    "Pub/Sub cannot be looked into: what waits is seen only by taking it; how much waits is in Cloud Monitoring, as "
    "subscription/num_undelivered_messages"
)
