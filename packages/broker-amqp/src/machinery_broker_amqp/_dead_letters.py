"""Dead letters: in a queue beside the one where they died, with their reason in a header."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from machinery.abc import DeadLetter
from machinery_broker_amqp._looking import Held, count, look, purge, take
from machinery_broker_amqp._names import DEAD_ID, DIED_AT, REASON, dead_queue
from machinery_broker_amqp._publishing import Needs, copied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from machinery_broker_amqp._link import Link
    from machinery_broker_amqp._publishing import Content, Publisher
    from machinery_broker_amqp._session import Got
    from machinery_broker_amqp._topology import Topology

_AT_ONCE = 200
"""Letters that are sent again together."""
_LONGEST_REASON = 20_000
"""Characters of a reason that are kept: a message's headers must fit into one frame."""


class DeadLetters:
    """The dead letters of one broker's queues."""

    def __init__(self, link: Link, publisher: Publisher, topology: Topology) -> None:
        self._link = link
        self._publisher = publisher
        self._topology = topology

    def bury(self, queue: str, contents: Sequence[Content], reason: str) -> None:
        """Keep copies of what died in ``queue``. Raises `BrokerUnavailable`, `PublishError`."""
        said = {REASON: reason[:_LONGEST_REASON], DIED_AT: datetime.now(UTC).isoformat()}
        name = dead_queue(queue)
        letters = [(body, copied(properties, **said, **{DEAD_ID: uuid4().hex})) for body, properties in contents]
        self._publisher.put(name, letters, Needs((name,), lambda session: self._topology.declare_dead(session, queue)))

    def list(self, queue: str, limit: int) -> list[DeadLetter]:
        """Up to ``limit``, oldest first."""
        # A quorum queue does not put what was looked at back where it was.
        enough = sys.maxsize if self._link.service.options.is_quorum and limit > 0 else limit
        found = self._link.call(lambda session: look(session, dead_queue(queue), enough))
        return sorted((_to_letter(got, queue) for got in found), key=lambda letter: letter.died_at)[: max(0, limit)]

    def delete(self, queue: str, ids: Sequence[str] | None) -> int:
        """Delete all, or those named."""
        if ids is None:
            return self._link.call(lambda session: purge(session, dead_queue(queue)))
        wanted = frozenset(ids)
        if not wanted:
            return 0
        return self._link.call(
            lambda session: take(session, [dead_queue(queue)], lambda got: _id_of(got) in wanted, len(wanted))
        )

    def send_again(self, queue: str, ids: Sequence[str] | None) -> int:
        """Put all there are now, or those named, back into their queue; each is deleted once it is there."""
        wanted = None if ids is None else frozenset(ids)
        left = self._link.call(lambda session: count(session, dead_queue(queue)))
        sent = 0
        while left > 0 and (wanted is None or sent < len(wanted)):
            if wanted is None:
                held = Held(dead_queue(queue), min(left, _AT_ONCE))
            else:
                held = Held(dead_queue(queue), len(wanted), lambda got: _id_of(got) in wanted)
            try:
                self._link.call(held.fetch)
                if not held.messages:
                    break
                self._publisher.put(queue, [(got.body, copied(got.properties)) for got in held.messages])
                self._link.call(held.delete)
                self._link.call(held.give_back)
            finally:
                self._link.post(held.close)
            sent += len(held.messages)
            left -= len(held.messages)
        return sent


def _id_of(got: Got) -> str:
    return str((got.properties.headers or {}).get(DEAD_ID, ""))


def _to_letter(got: Got, queue: str) -> DeadLetter:
    headers = got.properties.headers or {}
    try:
        died_at = datetime.fromisoformat(str(headers.get(DIED_AT, "")))
    except ValueError:  # somebody else put it there
        died_at = datetime.fromtimestamp(0, UTC)
    return DeadLetter(_id_of(got), got.body, queue, str(headers.get(REASON, "")), died_at)
