"""Both sides on one RabbitMQ, with names that nobody else uses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pika

from machinery import Server
from machinery.abc import Config
from machinery.wire import encode_signature
from tests.interop.application import Application
from tests.interop.gomachinery import GoMachinery, Wire
from tests.interop.matrix import Sides
from tests.interop.wire_types import TEXT

DATABASE = 1
"""Of Redis, for results."""
RESULTS_LIVE = timedelta(minutes=3)
"""The same on both sides, and not long: in RabbitMQ there is a queue for each result until then."""
GO_PREFETCH = 3
"""Messages that a Go worker may hold; Go's own default."""
HEADERS = {"tenant": "acme", "text": TEXT, "flag": True}
"""What Go can publish beside a message, and publish again after it was read (protocol §10.14)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What exchange, default queue and the default queue's routing key are called, and how queues are declared."""

    exchange: str
    queue: str
    binding_key: str
    declare_args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_orphan(self) -> bool:
        """Whether a Go sender declares another queue, called like the key, that nobody consumes (protocol §4.1)."""
        return self.binding_key != self.queue

    def python_section(self, **more: Any) -> dict[str, Any]:
        """The ``amqp`` section that says this to Python."""
        names = {"exchange": self.exchange, "binding_key": self.binding_key}
        return {**names, "queue_declare_args": dict(self.declare_args), **more}

    def go_flags(self, *more: str) -> tuple[str, ...]:
        """The flags that say this to Go."""
        names = ("-amqp-exchange", self.exchange, "-amqp-binding-key", self.binding_key)
        args = ("-amqp-queue-declare-args", json.dumps(self.declare_args))
        lifetime = ("-results-expire-in", f"{RESULTS_LIVE.total_seconds():.0f}")
        return (*names, *args, *lifetime, "-amqp-prefetch-count", str(GO_PREFETCH), *more)


def fresh_names(*, has_orphan: bool = False, **declare_args: Any) -> Names:
    """Names for one test. ``has_orphan``: the routing key is not called like the queue, as in Go's own defaults."""
    own = uuid4()
    queue = f"interop_{own}"
    key = f"interop_key_{own}" if has_orphan else queue
    return Names(exchange=f"interop_exchange_{own}", queue=queue, binding_key=key, declare_args=declare_args)


@dataclass(frozen=True, slots=True)
class AmqpSides(Sides):
    """Both sides, and what lies in RabbitMQ between them."""

    names: Names = field(kw_only=True)
    raw: Any = field(kw_only=True)
    """A channel of pika's, to look behind the scenes."""

    def delayed_by_python(self) -> list[Wire]:
        """As Python lists it: Go's broker lists nothing here."""
        return [json.loads(encode_signature(signature)) for signature in self.python.server.delayed_tasks()]

    def go_with(self, *flags: str) -> GoMachinery:
        """Go with further flags."""
        return replace(self.go, flags=(*self.go.flags, *flags))

    def go_alone_on(self, queue: str) -> GoMachinery:
        """Go with a configuration of its own for another queue, whose routing key is called like it."""
        return replace(self.go, queue=queue, flags=replace(self.names, binding_key=queue).go_flags())

    @contextmanager
    def another_python(self) -> Iterator[Application]:
        """Another application with the same configuration."""
        with Server.from_config(self.python.server.config) as server:
            yield Application(server)

    def has_queue(self, queue: str) -> bool:
        """Whether somebody has declared the queue."""
        probe = self.raw.connection.channel()
        try:
            probe.queue_declare(queue, passive=True)
        except pika.exceptions.ChannelClosedByBroker:
            return False
        probe.close()
        return True

    def depth(self, queue: str) -> int:
        """How many messages lie ready in the queue."""
        count: int = self.raw.queue_declare(queue, passive=True).method.message_count
        return count

    def declare(self) -> None:
        """Declare as the first worker does, whichever side's: what a Go sender sends before that is lost."""
        names = self.names
        self.raw.exchange_declare(names.exchange, "direct", durable=True)
        self.raw.queue_declare(names.queue, durable=True, arguments=dict(names.declare_args) or None)
        self.raw.queue_bind(names.queue, names.exchange, names.binding_key)


@contextmanager
def both_sides(
    go_program: Path, amqp_url: str, names: Names, results: str, *, flags: tuple[str, ...] = (), **config: Any
) -> Iterator[AmqpSides]:
    """Both sides on these names; ``results`` is the URL of Redis or RabbitMQ, ``flags`` are Go's, ``config`` Python's."""
    place = urlsplit(results)
    in_redis = place.scheme == "redis"
    go_results = place.netloc if in_redis else results
    go = GoMachinery(go_program, "goredis", amqp_url, go_results, DATABASE, names.queue, names.go_flags(*flags))
    section = names.python_section(**config.pop("amqp", {}))
    made = Config(
        broker=amqp_url,
        result_backend=f"redis://{place.netloc}/{DATABASE}" if in_redis else results,
        lock="memory://",
        default_queue=names.queue,
        results_expire_in=RESULTS_LIVE,
        sections={"amqp": section},
        **config,
    )
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    try:
        with Server.from_config(made) as server:
            raw = connection.channel()
            yield AmqpSides(go, Application(server), headers=HEADERS, names=names, raw=raw)
    finally:
        _clear_away(connection, names)


def _clear_away(connection: Any, names: Names) -> None:
    """Delete what would stay: the shared node outlives the test."""
    if connection.is_closed:  # it was silent for longer than RabbitMQ stands
        return
    channel = connection.channel()
    for queue in {names.queue, names.binding_key, f"machinery.dead.{names.queue}"}:
        channel.queue_delete(queue)
    channel.exchange_delete(names.exchange)
    connection.close()
