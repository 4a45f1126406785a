"""The broker: Go's queues and bodies (protocol §5.1), and what Go lacks: loans that are renewed, retries that are not dropped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from machinery.abc import Broker, BrokerCapabilities, Config, DeadLetter, Message, Section, redact_url
from machinery.errors import Unsupported
from machinery_broker_sqs._client import Client
from machinery_broker_sqs._command import create_queues
from machinery_broker_sqs._consumer import SqsConsumer
from machinery_broker_sqs._content import LARGEST_MESSAGE
from machinery_broker_sqs._dead_letters import DeadLetters
from machinery_broker_sqs._driver import make_clients, require_client
from machinery_broker_sqs._examination import examine
from machinery_broker_sqs._options import SQS_SECTION, to_options, to_service, to_timeouts
from machinery_broker_sqs._publishing import LONGEST_DELAY, Publisher
from machinery_broker_sqs._queues import Queues, is_fifo
from machinery_broker_sqs._sweeping import Sweep

if TYPE_CHECKING:
    from machinery.abc import Finding


class SqsBroker(Broker):
    """Queues in Amazon SQS, shared with Go Machinery's workers and senders.

    ``SqsBroker(client)`` takes the application's own ``boto3.client("sqs")``; ``options`` are keys of the ``sqs`` section.
    `from_url` makes one from a URL. Nothing connects before it is used, and no queue is made.
    """

    section: ClassVar[Section | None] = SQS_SECTION
    commands: ClassVar[Mapping[str, Callable[[Sequence[str]], int]]] = {"create-queues": create_queues}

    def __init__(self, client: Any, config: Config | None = None, **options: Any) -> None:
        """On ``client``, which stays the application's. A receive waits for less than its read timeout. Raises `ConfigError`."""
        config = config or Config()
        made = require_client(client)
        opted = to_options(config, options)
        longest = timedelta(seconds=max(0, int(made.meta.config.read_timeout) - 1))
        opted = replace(
            opted,
            receive_wait_time_seconds=min(opted.receive_wait_time_seconds, longest),
            endpoint_url="",  # the client's holds, for the queues' addresses too
        )
        _, read = to_timeouts(opted, config)
        address = redact_url(made.meta.endpoint_url)
        self._set_up(
            Client(lambda: (made, made), opted, address=address, patience=read.total_seconds(), owned=False), config
        )

    @classmethod
    def from_url(cls, url: str, config: Config) -> SqsBroker:
        """A broker on the SQS that ``url`` names."""
        service = to_service(url, config)
        broker = cls.__new__(cls)
        patience = service.read_timeout.total_seconds()
        client = Client(partial(make_clients, service), service.options, address=service.address, patience=patience)
        broker._set_up(client, config)  # noqa: SLF001 - it is ours
        return broker

    def _set_up(self, client: Client, config: Config) -> None:
        self._client = client
        self._default_queue = config.default_queue
        self._queues = Queues(client)
        self._publisher = Publisher(client, self._queues)
        self._dead_letters = DeadLetters(client, self._queues, self._publisher)
        self._consumers: set[SqsConsumer] = set()
        ordered = is_fifo(config.default_queue)
        self._capabilities = BrokerCapabilities(
            max_delay=timedelta(0) if ordered else LONGEST_DELAY,
            ordering_keys=ordered,
            leases=client.options.receive_visibility_timeout,
            inspection=False,
            routing_key_in_body=False,
            max_message_size=LARGEST_MESSAGE,
        )

    @property
    def capabilities(self) -> BrokerCapabilities:
        """Those of the default queue: delays of 15 minutes at most and no order, or, where it is a FIFO queue, the reverse.

        Deliveries are not counted: SQS counts what was handed back like what was lost.
        """
        return self._capabilities

    def has_delays(self, queue: str) -> bool:
        """Not on FIFO queues: SQS holds no single message of them back."""
        return not is_fifo(queue)

    # -- publishing and consuming -------------------------------------------------------------------------------------------

    def publish(self, messages: Sequence[Message]) -> None:
        """Put messages on their queues, ten in a request; different queues side by side."""
        self._client.check_open()
        self._publisher.publish(messages)

    def consumer(self, queue: str, name: str) -> SqsConsumer:  # noqa: ARG002 - SQS knows no consumers
        """A new consumer of ``queue``."""
        self._client.check_open()
        consumer = SqsConsumer(
            self._client,
            self._queues,
            queue,
            publisher=self._publisher,
            dead_letters=self._dead_letters,
            on_close=self._consumers.discard,
        )
        self._consumers.add(consumer)
        return consumer

    # -- inspection ---------------------------------------------------------------------------------------------------------

    def pending(self, queue: str, limit: int) -> list[Message]:  # noqa: ARG002 - it cannot be done
        """Raises `Unsupported`."""
        self._refuse_inspection()

    def delayed(self, limit: int) -> list[Message]:  # noqa: ARG002 - it cannot be done
        """Raises `Unsupported`."""
        self._refuse_inspection()

    def _refuse_inspection(self) -> NoReturn:
        self._client.check_open()
        raise Unsupported(
            "SQS shows messages to those alone who receive them, which counts, and keeps them from workers; `machinery doctor` "
            "tells about how many wait, are on loan and wait for their time"
        )

    def purge(self, queue: str) -> int:
        """Receive and delete until there is no more. What is on loan or waits for its time stays."""
        self._client.check_open()
        purged = 0
        with Sweep(self._client, self._queues, queue) as sweep:
            for batch in sweep.batches():
                purged += sweep.delete(batch)
        return purged

    # -- dead letters -------------------------------------------------------------------------------------------------------

    def dead(self, queue: str, limit: int) -> list[DeadLetter]:
        """The queue's dead letters. They are received, given back at once, and counted by SQS as received."""
        self._client.check_open()
        return self._dead_letters.listed(queue, limit)

    def requeue_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:
        """Dead letters back to their queue."""
        self._client.check_open()
        return self._dead_letters.send_again(queue, ids)

    def purge_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:
        """Dead letters away."""
        self._client.check_open()
        return self._dead_letters.delete(queue, ids)

    # -- service ------------------------------------------------------------------------------------------------------------

    def examine(self) -> list[Finding]:
        """What is dangerous about the default queue's settings."""
        self._client.check_open()
        return examine(self._client, self._queues, self._default_queue)

    def close(self) -> None:
        """Let go of every connection, and give back what consumers still hold."""
        for consumer in list(self._consumers):
            consumer.close()
        self._client.close()
