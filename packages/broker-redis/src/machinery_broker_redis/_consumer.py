"""One consumer of one queue.

What it has received lies in a hash of its own in Redis until it is settled. Its lease is one sign of life for all of it, on
the server's clock. Whoever maintains the queue gives back what a consumer held that gave none for too long.
"""

from __future__ import annotations

import logging
import threading
from hashlib import sha1
from time import monotonic
from typing import TYPE_CHECKING, Any

from machinery.abc import Consumer, Delivery
from machinery.errors import Closed, MachineryError
from machinery_broker_redis._client import AT_ONCE
from machinery_broker_redis._connections import Evaluation
from machinery_broker_redis._keys import POSTPONING_QUEUES, queue_keys
from machinery_broker_redis._maintenance import Maintenance, give_back
from machinery_broker_redis._receiver import Receiver
from machinery_broker_redis._scripts import script

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from machinery_broker_redis._client import Client
    from machinery_broker_redis._scripts import Script

LONGEST_WAIT = 1.0
"""Seconds that one blocking command takes at most."""
SHORTEST_WAIT = 0.001
"""Seconds; none at all would be for ever."""

_logger = logging.getLogger("machinery")


class RedisConsumer(Consumer):
    """Receives from one queue. Made by `RedisBroker.consumer`."""

    def __init__(self, client: Client, queue: str, name: str, default_queue: str) -> None:
        self._client = client
        self._queue = queue
        self._name = name
        self._lease = client.options.lease
        self._keys = keys = queue_keys(queue)
        self._inflight = keys.inflight(name)
        self._taken = keys.taken(name)
        self._claim_keys = (
            queue, keys.workers, keys.sequence, keys.attempts, keys.postponed, self._taken, self._inflight,
        )  # fmt: skip
        self._receiver = Receiver(client, queue)
        self._maintenance = Maintenance(client, keys, name, default_queue)
        self._known: set[int] = set()
        """Numbers of what was received and not settled."""
        self._unsure = False
        """Whether a claim may have been applied whose answer was lost."""
        self._surely_known_until = 0.0
        """Until then (monotonic) Redis counts us among the living; only then may a message be taken in our name."""
        self._is_listed = False
        """Whether others know that messages of this queue may be postponed."""
        self._stopped = threading.Event()
        self._closed = False

    # ----------------------------------------------------------------------------------------------------- receiving

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Up to ``limit`` messages, in one round trip; waits in Redis for the first."""
        self._check_open()
        deadline = monotonic() + timeout
        while not self._stopped.is_set():
            remaining = deadline - monotonic()
            deliveries = self._claim(min(limit, AT_ONCE), remaining)
            if self._stopped.is_set():
                if deliveries and not self._closed:
                    self.nack(deliveries)
            elif deliveries or remaining <= 0:
                return deliveries
        return []

    def _claim(self, limit: int, wait: float) -> list[Delivery]:
        try:
            if self._unsure and (found := self._reconcile()):
                return found
            began = monotonic()
            wait = min(wait, LONGEST_WAIT, self._lease.total_seconds())
            blocking = None
            if wait > 0 and began < self._surely_known_until:
                wait = max(wait, SHORTEST_WAIT)
                blocking = ("BLMOVE", self._queue, self._taken, "LEFT", "RIGHT", f"{wait:.3f}")
            claim = Evaluation(script("claim"), self._claim_keys, (self._name, limit))
            answer = self._receiver.ask(blocking, claim, wait)
        except BaseException:
            self._unsure = True
            self._is_listed = False  # it may be an empty Redis that comes back
            self._maintenance.start_over()
            raise
        self._surely_known_until = began + self._lease.total_seconds() / 2
        return self._to_deliveries(*answer) if answer else []

    def _to_deliveries(self, first: int, bodies: list[bytes], attempts: list[int] | None = None) -> list[Delivery]:
        self._known.update(range(first, first + len(bodies)))
        if attempts is None:
            return [
                Delivery(body, self._queue, False, 1, self._lease, number) for number, body in enumerate(bodies, first)
            ]
        return [
            Delivery(body, self._queue, before > 0, before + 1, self._lease, number)
            for number, (body, before) in enumerate(zip(bodies, attempts, strict=True), first)
        ]

    def _reconcile(self) -> list[Delivery]:
        """What Redis counts as ours but never arrived here."""
        numbers, bodies, attempts = self._client.run(
            script("held"), (self._keys.attempts, self._inflight), *self._known.copy()
        )
        self._unsure = False
        found = sorted(zip(map(int, numbers), bodies, attempts, strict=True))
        self._known.update(number for number, _, _ in found)
        return [
            Delivery(body, self._queue, before > 0, before + 1, self._lease, number) for number, body, before in found
        ]

    def stop(self) -> None:
        """Wake `receive`; what its last claim still brings is given back."""
        self._stopped.set()
        self._receiver.interrupt()

    def reset(self) -> None:
        """Cut the connection that waits; what is on loan lies in Redis and stays on loan."""
        self._receiver.close()

    def close(self) -> None:
        """Give back what is unsettled, as delivered once more, where Redis can be reached; else others do so."""
        if self._closed:
            return
        self.stop()
        self._closed = True
        self._receiver.close()
        try:
            give_back(self._client, self._keys, self._name)
        except Closed:
            pass
        except MachineryError as error:
            _logger.warning("what consumer %s held will be given back when its lease is over: %s", self._name, error)

    # ------------------------------------------------------------------------------------------------------ settling

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Forget the messages and how often they were delivered."""
        again = [sha1(d.body, usedforsecurity=False).hexdigest() for d in deliveries if d.attempt != 1]
        numbers = [d.handle for d in deliveries]
        return self._settle(
            deliveries, script("ack"), (self._inflight, self._keys.attempts), len(numbers), *numbers, *again
        )

    def nack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """To the head of the queue, the first delivered first."""
        ordered = sorted(deliveries, key=lambda d: -d.handle)
        return self._settle(ordered, script("nack"), (self._queue, self._inflight), *[d.handle for d in ordered])

    def postpone(self, deliveries: Sequence[Delivery], delay: timedelta) -> list[Delivery]:
        """To a set of the queue's own, from where they go to its head."""
        self._check_open()
        if not self._is_listed:
            self._client.call("SADD", POSTPONING_QUEUES, self._queue)
            self._is_listed = True
        milliseconds = max(0, round(delay.total_seconds() * 1000))
        return self._settle(
            deliveries,
            script("postpone"),
            (self._keys.postponed, self._inflight),
            milliseconds,
            *[d.handle for d in deliveries],
        )

    def reject(self, deliveries: Sequence[Delivery], reason: str) -> list[Delivery]:
        """To the queue's dead letters."""
        keys = self._keys
        return self._settle(
            deliveries,
            script("reject"),
            (self._inflight, keys.dead, keys.dead_bodies, keys.dead_reasons, keys.attempts),
            reason,
            *[d.handle for d in deliveries],
        )

    def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """One sign of life, for everything held."""
        self._check_open()
        began = monotonic()
        lost = self._run(
            script("extend"), (self._keys.workers, self._inflight), self._name, *[d.handle for d in deliveries]
        )
        self._surely_known_until = began + self._lease.total_seconds() / 2
        found = [deliveries[position] for position in lost]
        self._known.difference_update([d.handle for d in found])
        return found

    def _settle(
        self, deliveries: Sequence[Delivery], how: Script, keys: tuple[str, ...], *arguments: Any
    ) -> list[Delivery]:
        self._check_open()
        if not deliveries:
            return []
        lost = self._run(how, keys, *arguments)
        self._known.difference_update([d.handle for d in deliveries])
        return [deliveries[position] for position in lost] if lost else []

    def _run(self, how: Script, keys: tuple[str, ...], *arguments: Any) -> Any:
        try:
            return self._client.run(how, keys, *arguments)
        except MachineryError:
            self._maintenance.start_over()
            raise

    # ---------------------------------------------------------------------------------------------------- maintenance

    def maintain(self) -> float | None:
        """Promote what is due and take over from the dead, in batches; within half a second, or a quarter of the lease, again."""
        self._check_open()
        return self._maintenance.tend()

    def _check_open(self) -> None:
        if self._closed:
            raise Closed(f"the consumer {self._name} of queue {self._queue} was closed")
        self._client.check_open()
