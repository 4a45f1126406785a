"""Publishing with confirms: from any thread, many messages in flight, each confirm credited to its own message."""

from __future__ import annotations

import json
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pika

from machinery.errors import BrokerUnavailable, ConfigError, MessageTooLarge, PublishError, Unavailable
from machinery_broker_amqp._errors import DRIVER_ERRORS, NOT_FOUND, Lost, code_of, largest_message
from machinery_broker_amqp._frames import Frames
from machinery_broker_amqp._ladder import DELAYED, POSTPONED
from machinery_broker_amqp._names import ETA, HEADER, LONGEST_NAME, QUEUE, check_queue

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from machinery.abc import Message
    from machinery_broker_amqp._ladder import Ladder
    from machinery_broker_amqp._link import Link
    from machinery_broker_amqp._session import Channel, Session
    from machinery_broker_amqp._topology import Topology

_PERSISTENT = 2
_JSON = "application/json"
_LARGEST_HEADERS = 64 * 1024
"""Bytes: a message's properties must fit into one frame, with what we add."""
_AT_ONCE = 500
"""Messages written before the loop gets to look at what RabbitMQ has confirmed meanwhile,"""
_MOST_BYTES = 1024 * 1024
"""and bytes of bodies after which one does not begin another."""


LARGEST_MESSAGE = 128 * 1024 * 1024
"""Bytes of a body: what RabbitMQ takes unless it is told otherwise (``max_message_size``)."""


class Needs(NamedTuple):
    """What must be declared before something is published."""

    names: tuple[str, ...]
    """What `Session.declared` holds then."""
    declare: Callable[[Session], Awaitable[object]]
    """Declares it."""


class Parcel(NamedTuple):
    """One message as it goes to RabbitMQ."""

    exchange: str
    routing_key: str
    properties: pika.BasicProperties
    body: bytes


Content = tuple[bytes, pika.BasicProperties]
"""A body, and what goes with it."""


class Batch:
    """Parcels that somebody waits for."""

    __slots__ = ("done", "error", "failures", "parcels", "progress", "returned", "unconfirmed")

    def __init__(self, parcels: Mapping[int, Parcel]) -> None:
        self.parcels = parcels
        """By their position in the caller's list."""
        self.unconfirmed = dict.fromkeys(parcels)
        self.failures: dict[int, Exception] = {}
        self.returned: set[int] = set()
        """Which have arrived in no queue."""
        self.error: BaseException | None = None
        """Why the rest will never be confirmed."""
        self.progress = 0
        self.done = threading.Lock()
        """Held until all is known."""
        self.done.acquire()

    def note(self, position: int, failure: Exception | None) -> None:
        """RabbitMQ has spoken about one."""
        if self.error is not None or position not in self.unconfirmed:
            return
        del self.unconfirmed[position]
        self.progress += 1
        if failure is not None and position not in self.returned:
            self.failures[position] = failure
        if not self.unconfirmed:
            self.done.release()

    def give_up(self, error: BaseException) -> None:
        """It will say no more."""
        if self.unconfirmed and self.error is None:
            self.error = error
            self.done.release()


class Confirms:
    """One channel on which messages are published and confirmed. Lives on the loop."""

    def __init__(self, session: Session, channel: Channel) -> None:
        self.session = session
        self.channel = channel
        self._raw = channel.raw
        self._frames = Frames(channel.raw)
        self._sent: dict[int, tuple[Batch, int]] = {}
        self._tag = 0

    async def start(self) -> None:
        """Switch confirms on."""
        self.channel.on_closed.append(self._on_closed)
        self._raw.add_on_return_callback(self._on_return)
        await self.channel.ask(self._raw.confirm_delivery, self._on_confirm)

    def send(self, batch: Batch) -> None:
        """Publish all of a batch, piece by piece."""
        self._send(batch, list(batch.parcels), 0)

    def _send(self, batch: Batch, positions: Sequence[int], start: int) -> None:
        if (reason := self.channel.reason) is not None:
            batch.give_up(reason)
            return
        sent, size = self._sent, 0
        written: list[Parcel] = []
        for position in positions[start : start + _AT_ONCE]:
            parcel = batch.parcels[position]
            self._tag += 1
            sent[self._tag] = (batch, position)
            written.append(parcel)
            size += len(parcel.body)
            if size > _MOST_BYTES:
                break
        try:
            self._frames.write(written)
        except DRIVER_ERRORS as error:
            batch.give_up(self.channel.reason or error)
            return
        if start + len(written) < len(positions):
            self.channel.loop.call_soon(self._send, batch, positions, start + len(written))

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        refusal = None if type(method) is pika.spec.Basic.Ack else _nacked()
        if not method.multiple:
            known = self._sent.pop(method.delivery_tag, None)
            if known is not None:
                known[0].note(known[1], refusal)
            return
        done = []
        for tag in self._sent:  # in the order of sending
            if tag > method.delivery_tag:
                break
            done.append(tag)
        for tag in done:
            batch, position = self._sent.pop(tag)
            batch.note(position, refusal)

    def _on_return(self, _: Any, method: Any, __: Any, body: bytes) -> None:
        # It comes before its confirm, and carries no tag: it is the oldest such message that was not returned yet.
        for batch, position in self._sent.values():
            parcel = batch.parcels[position]
            if (
                position not in batch.returned
                and parcel.routing_key == method.routing_key
                and parcel.exchange == method.exchange
                and parcel.body == body
            ):
                batch.returned.add(position)
                return

    def _on_closed(self, reason: BaseException) -> None:
        batches = {id(batch): batch for batch, _ in self._sent.values()}
        self._sent.clear()
        for batch in batches.values():
            batch.give_up(reason)


class Publisher:
    """Publishes for one broker, through one connection."""

    def __init__(self, link: Link, topology: Topology) -> None:
        self._link = link
        self._topology = topology
        self._exchange = link.service.options.exchange
        self._confirms: Confirms | None = None
        self._largest = LARGEST_MESSAGE
        self._plain: dict[int, pika.BasicProperties] = {}

    # -- what is asked of it ------------------------------------------------------------------------------------------------

    def publish(self, messages: Sequence[Message]) -> None:
        """Put messages on their queues through the exchange, or on the ladder. Raises as `Broker.publish`."""
        self._link.check_open()
        queue_of, key_of = self._topology.queue_of, self._topology.key_of
        parcels: dict[int, Parcel] = {}
        refused: dict[int, Exception] = {}
        queues: dict[str, None] = {}
        longest = 0
        now: datetime | None = None
        for position, message in enumerate(messages):
            queue = queue_of(message.queue)
            try:
                if queue not in queues:
                    queues[check_queue(queue)] = None
                properties = self._properties(message)
            except ConfigError as error:
                refused[position] = error
                continue
            if message.eta is not None:
                now = now or datetime.now(UTC)
                delay = to_milliseconds(message.eta - now)
                if delay > 0:
                    longest = max(longest, delay)
                    parcels[position] = _on_ladder(DELAYED, delay, message.eta, queue, properties, message.body)
                    continue
            parcels[position] = Parcel(self._exchange, key_of(queue), properties, message.body)
        self._send_all(parcels, refused, self._needs(queues, DELAYED, longest))
        _raise_refused(refused, len(messages))

    def postpone(self, queue: str, contents: Sequence[Content], delay: timedelta) -> None:
        """Put copies of what was received on the ladder, to come back to ``queue`` alone. Raises as `put`."""
        milliseconds = max(1, to_milliseconds(delay))
        eta = datetime.now(UTC) + delay
        parcels = {
            position: _on_ladder(POSTPONED, milliseconds, eta, queue, copied(properties), body)
            for position, (body, properties) in enumerate(contents)
        }
        self._send_exactly(parcels, self._needs([queue], POSTPONED, milliseconds))

    def put(self, queue: str, contents: Sequence[Content], needs: Needs | None = None) -> None:
        """Put messages straight into ``queue``, past the exchange. Raises `BrokerUnavailable`, `PublishError`."""
        parcels = {
            position: Parcel("", queue, properties, body) for position, (body, properties) in enumerate(contents)
        }
        self._send_exactly(parcels, needs or self._needs([queue], DELAYED, 0))

    # -- how ----------------------------------------------------------------------------------------------------------------

    def _needs(self, queues: Iterable[str], ladder: Ladder, longest: int) -> Needs:
        wanted = tuple(queues)
        rungs = ladder.names(longest) if longest else ()

        async def declare(session: Session) -> None:
            await self._topology.declare(session, wanted)
            if longest:
                await ladder.declare(session, longest)

        return Needs((*wanted, *rungs), declare)

    def _send_exactly(self, parcels: Mapping[int, Parcel], needs: Needs) -> None:
        refused: dict[int, Exception] = {}
        self._send_all(parcels, refused, needs)
        for reason in refused.values():
            if isinstance(reason, Unavailable):
                raise reason
        _raise_refused(refused, len(parcels))

    def _send_all(self, parcels: Mapping[int, Parcel], refused: dict[int, Exception], needs: Needs) -> None:
        """Send parcels; what is not accepted gets into ``refused``. Raises `BrokerUnavailable` when it is not known of any."""
        known = 0
        for is_last in (False, True):
            parcels = self._fitting(parcels, refused)
            if not parcels:
                return
            batch = self._send(parcels, needs)
            refused |= batch.failures
            known += batch.progress
            limit = None if batch.error is None else largest_message(batch.error)
            again = {position: parcels[position] for position in (*batch.unconfirmed, *batch.returned)}
            if limit is not None and not is_last:
                # RabbitMQ gave up the channel for one that is too large: the others go again, without it.
                self._largest = min(self._largest, limit)
                parcels = again
                continue
            if batch.error is not None and not is_last and code_of(batch.error) == NOT_FOUND:
                # Somebody has deleted an exchange: all that is not known to have arrived goes again, once it is declared anew.
                self._link.call(_forget_declared)
                parcels = again
                continue
            if batch.error is not None:
                error = self._link.translated(batch.error)
                if not known:
                    raise error from None
                refused |= dict.fromkeys(batch.unconfirmed, error)
            parcels = {position: parcels[position] for position in batch.returned}
            if not is_last and parcels:  # somebody has deleted what we declared
                self._link.call(_forget_declared)
        refused |= {position: _unroutable(parcel) for position, parcel in parcels.items()}

    def _send(self, parcels: Mapping[int, Parcel], needs: Needs) -> Batch:
        session, confirms = self._link.session, self._confirms
        if (
            session is None
            or session.reason is not None
            or confirms is None
            or confirms.channel.reason is not None
            or not session.declared.issuperset(needs.names)
        ):
            confirms = self._link.call(lambda session: self._ready(session, needs))
        batch = Batch(parcels)
        patience = self._link.service.answer_timeout
        progress = -1
        if not self._link.post(confirms.send, batch):
            raise self._link.translated(Lost("it was closed"))
        while not batch.done.acquire(timeout=patience):
            if batch.progress == progress:
                silence = TimeoutError(f"no confirm within {patience:g} s")
                if not self._link.post(batch.give_up, silence) or not batch.done.acquire(timeout=1):
                    batch.give_up(silence)
                break
            progress = batch.progress
        return batch

    async def _ready(self, session: Session, needs: Needs) -> Confirms:
        """All is declared, and there is a channel that confirms."""
        await needs.declare(session)
        confirms = self._confirms
        if confirms is None or confirms.channel.reason is not None or confirms.session is not session:
            confirms = Confirms(session, await session.channel())
            await confirms.start()
            self._confirms = confirms
        return confirms

    def _fitting(self, parcels: Mapping[int, Parcel], refused: dict[int, Exception]) -> Mapping[int, Parcel]:
        largest = self._largest
        too_large = [position for position, parcel in parcels.items() if len(parcel.body) > largest]
        if not too_large:
            return parcels
        for position in too_large:
            refused[position] = MessageTooLarge(
                f"a message of {len(parcels[position].body)} bytes is too large: {largest} is RabbitMQ's limit (max_message_size)"
            )
        return {position: parcel for position, parcel in parcels.items() if position not in refused}

    def _properties(self, message: Message) -> pika.BasicProperties:
        if message.headers:
            headers = plain(message.headers)
            return pika.BasicProperties(
                content_type=_JSON, delivery_mode=_PERSISTENT, priority=message.priority, headers=headers
            )
        known = self._plain.get(message.priority)
        if known is None:
            known = self._plain[message.priority] = _Encoded(
                content_type=_JSON, delivery_mode=_PERSISTENT, priority=message.priority, headers={}
            )
        return known


class _Encoded(pika.BasicProperties):  # type: ignore[misc]  # pika says nothing of its types
    """Properties that are encoded once: most messages have the same."""

    _encoded = b""

    def encode(self) -> list[bytes]:
        """As pika has it: a new list each time, as it is added to."""
        if not self._encoded:
            self._encoded = b"".join(super().encode())
        return [self._encoded]


def plain(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Headers as Go can publish them again: text and flags (protocol §1.4). Others become text, JSON's where it has some."""
    found: dict[str, Any] = {}
    size = 0
    for key, value in headers.items():
        if len(key.encode(errors="surrogatepass")) > LONGEST_NAME:
            raise ConfigError(
                f"the header {key[:40]!r}… has a name of more than {LONGEST_NAME} bytes, which AMQP cannot carry"
            )
        found[key] = text = value if isinstance(value, str | bool) else json.dumps(value, default=str)
        size += len(key) + (len(text.encode(errors="surrogatepass")) if isinstance(text, str) else 1)
    if size > _LARGEST_HEADERS:
        raise ConfigError(f"the headers have {size} bytes, of which AMQP carries at most {_LARGEST_HEADERS}")
    return found


def copied(properties: pika.BasicProperties, **more: str) -> pika.BasicProperties:
    """The properties of what was received, for a copy: without what RabbitMQ and we have added."""
    return pika.BasicProperties(
        content_type=properties.content_type or _JSON,
        delivery_mode=_PERSISTENT,
        priority=properties.priority,
        headers={**own_headers(properties), **more},
    )


def own_headers(properties: pika.BasicProperties) -> dict[str, Any]:
    """The headers of what was received, but those that RabbitMQ and we have added."""
    added = ("x-death", "x-first-death", HEADER)
    return {key: value for key, value in (properties.headers or {}).items() if not key.startswith(added)}


def to_milliseconds(span: timedelta) -> int:
    """Whole milliseconds, not less than ``span``."""
    return -(-span // timedelta(milliseconds=1))


def _on_ladder(
    ladder: Ladder, milliseconds: int, eta: datetime, queue: str, properties: pika.BasicProperties, body: bytes
) -> Parcel:
    exchange, key, way = ladder.way(milliseconds, queue)
    with_way = pika.BasicProperties(
        content_type=properties.content_type,
        delivery_mode=_PERSISTENT,
        priority=properties.priority,
        headers={**(properties.headers or {}), **way, ETA: eta.isoformat(), QUEUE: queue},
    )
    return Parcel(exchange, key, with_way, body)


def _nacked() -> BrokerUnavailable:
    return BrokerUnavailable(
        "RabbitMQ did not accept the message (nack): its queue is full (x-max-length), or cannot be written"
    )


def _unroutable(parcel: Parcel) -> PublishError:
    return PublishError(
        f"the message reached no queue: the exchange {parcel.exchange!r} has none for the key {parcel.routing_key!r}; check "
        "amqp.exchange_type, amqp.binding_key and amqp.queue_binding_args"
    )


def _raise_refused(refused: Mapping[int, Exception], count: int) -> None:
    if not refused:
        return
    first = refused[min(refused)]
    kinds = {type(reason) for reason in refused.values()}
    kind = kinds.pop() if len(kinds) == 1 else PublishError
    raised = kind if issubclass(kind, PublishError) else PublishError
    raise raised(f"{len(refused)} of {count} messages were not accepted; the first: {first}", refused)


async def _forget_declared(session: Session) -> None:
    session.declared.clear()
