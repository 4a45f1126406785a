"""Exchange, queues and bindings, declared as Go needs them (protocol §4.1) before anything is published or consumed.

The default queue is bound with Go's binding key, and with its own name too, so that what a Go worker sends to that name arrives;
every other queue is bound with its own name alone, so that its workers get no copies of the default queue's tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from machinery_broker_amqp._ladder import OUT
from machinery_broker_amqp._names import dead_queue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from machinery_broker_amqp._options import AmqpOptions
    from machinery_broker_amqp._session import Channel, Session


class Topology:
    """What is declared for queues of tasks."""

    def __init__(self, options: AmqpOptions, default_queue: str) -> None:
        self._options = options
        self.default_queue = default_queue

    @property
    def default_key(self) -> str:
        """The routing key that Go writes for the default queue (protocol §1.5)."""
        return (
            self._options.binding_key if self._options.is_direct and self._options.binding_key else self.default_queue
        )

    def queue_of(self, name: str) -> str:
        """The queue that is meant by ``name``, which may be Go's routing key for the default queue."""
        return self.default_queue if name == self.default_key else name

    def key_of(self, queue: str) -> str:
        """The routing key with which the exchange is told of ``queue``."""
        return self.default_key if queue == self.default_queue else queue

    async def declare(self, session: Session, queues: Iterable[str]) -> None:
        """Declare those queues that were not yet declared through this connection. Raises pika's errors."""
        missing = [queue for queue in queues if queue not in session.declared]
        if not missing:
            return
        channel = await session.channel()
        try:
            if OUT not in session.declared:
                await channel.ask(
                    channel.raw.exchange_declare, self._options.exchange, self._options.exchange_type, durable=True
                )
                await channel.ask(channel.raw.exchange_declare, OUT, "direct", durable=True)
                session.declared.add(OUT)
            for queue in missing:
                await self._declare_queue(channel, queue)
                session.declared.add(queue)
        finally:
            channel.close()

    async def _declare_queue(self, channel: Channel, queue: str) -> None:
        options, raw = self._options, channel.raw
        await channel.ask(raw.queue_declare, queue, durable=True, arguments=dict(options.queue_declare_args) or None)
        keys = {queue, options.binding_key} if queue == self.default_queue else {queue}
        for key in sorted(keys):
            await channel.ask(
                raw.queue_bind,
                queue,
                options.exchange,
                routing_key=key,
                arguments=dict(options.queue_binding_args) or None,
            )
        await channel.ask(raw.queue_bind, queue, OUT, routing_key=queue)

    async def declare_dead(self, session: Session, queue: str) -> str:
        """Declare the queue of the dead letters of ``queue``; returns its name."""
        name = dead_queue(queue)
        if name not in session.declared:
            channel = await session.channel()
            try:
                arguments = self._options.dead_queue_args or None
                await channel.ask(channel.raw.queue_declare, name, durable=True, arguments=arguments)
                session.declared.add(name)
            finally:
                channel.close()
        return name
