"""The chores of a queue: promote what is due, and give back what the dead held.

Both are done by every worker of the queue, a batch at a time, so that it does not matter which of them lives.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

from machinery.errors import DecodeError, MachineryError, Unavailable
from machinery_broker_redis._client import AT_ONCE
from machinery_broker_redis._connections import Evaluation
from machinery_broker_redis._keys import moving_key, queue_keys
from machinery_broker_redis._routing import queue_of
from machinery_broker_redis._scripts import script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from machinery_broker_redis._client import Client
    from machinery_broker_redis._connections import Command
    from machinery_broker_redis._keys import QueueKeys

LONGEST_PAUSE = 0.5
"""Seconds between two looks: Go's workers add delayed tasks without waking anybody."""

LOOKS = 4
"""In a lease: with fewer it could not be told whether a consumer was silent or we were away."""

MOVING_LEASE = timedelta(seconds=10)
"""How long a promoted message may be on its way before another worker takes it over."""

ATTEMPTS_LIVE = timedelta(days=7)
"""How long it is remembered how often messages were delivered, after one last was redelivered."""

_BATCHES = 20
"""How many batches are moved before other chores get their turn."""

_logger = logging.getLogger("machinery")


class Maintenance:
    """The chores of one queue as seen by one of its consumers. `tend` has one caller at a time."""

    def __init__(self, client: Client, keys: QueueKeys, name: str, default_queue: str) -> None:
        self._client = client
        self._keys = keys
        self._name = name
        self._default_queue = default_queue
        self._lease = client.options.lease.total_seconds()
        self._suspects: dict[bytes, tuple[float, float]] = {}
        """Silent consumer → score of its last sign of life, and when (monotonic) it was first seen with that."""
        self._looked_at = monotonic()
        self._watching_since = monotonic()
        """Since when (monotonic) Redis answered without a break."""

    def start_over(self) -> None:
        """Redis was lost, perhaps to everybody: give all consumers a lease to come back before any is doubted."""
        self._watching_since = monotonic()

    def tend(self) -> float:
        """Do what is to be done now; in how many seconds to come again. Raises `Unavailable`."""
        try:
            return min(self._promote(), self._look_after_queue(), LONGEST_PAUSE, self._lease / LOOKS)
        except MachineryError:
            self.start_over()
            raise

    # ------------------------------------------------------------------------------------------------ delayed messages

    def _promote(self) -> float:
        """Move delayed messages that are due to their queues, earliest first; in how many seconds the next one is."""
        delayed = self._client.options.delayed_tasks_key
        keys = (delayed, moving_key(delayed))
        lease = int(MOVING_LEASE.total_seconds() * 1000)
        for _ in range(_BATCHES):
            wait, *bodies = self._client.run(script("promote"), keys, AT_ONCE, lease)
            if bodies:
                self._push(bodies, keys[1])
            if len(bodies) < AT_ONCE:
                return LONGEST_PAUSE if wait < 0 else wait / 1000
        return 0.0

    def _push(self, bodies: Sequence[bytes], moving: str) -> None:
        """To their queues and out of ``moving``: on one server in one step, in a cluster one after the other.

        What is lost between the two is moved again, and then arrives twice.
        """
        by_queue: dict[str, list[bytes]] = {}
        unreadable: list[bytes] = []
        for body in bodies:
            try:
                by_queue.setdefault(queue_of(body, self._default_queue), []).append(body)
            except DecodeError:
                unreadable.append(body)
        together = not self._client.is_cluster
        commands: list[Command | Evaluation] = [
            Evaluation(script("arrive"), (moving, queue), tuple(group)) if together else ("RPUSH", queue, *group)
            for queue, group in by_queue.items()
        ]
        if unreadable:
            commands.append(self._burial(unreadable, "delayed message that cannot be decoded"))
        groups = [*by_queue.values(), *([unreadable] if unreadable else [])]
        arrived: list[bytes] = []
        for group, reply in zip(groups, self._client.send(commands), strict=True):
            if not isinstance(reply, Exception) or self._is_buried(group, reply):
                arrived += group
        if arrived:
            self._client.call("ZREM", moving, *arrived)

    def _is_buried(self, group: list[bytes], reply: Exception) -> bool:
        """Whether messages that their queue refused for good are dead letters now; those it may take later stay."""
        error = self._client.translated(reply)
        if isinstance(error, Unavailable):
            return False
        _logger.error("%d delayed messages go to the dead letters of %s: %s", len(group), self._default_queue, error)
        self._client.ask([self._burial(group, str(error))])
        return True

    def _burial(self, bodies: Sequence[bytes], reason: str) -> Evaluation:
        keys = queue_keys(self._default_queue)
        return Evaluation(
            script("bury"), (keys.sequence, keys.dead, keys.dead_bodies, keys.dead_reasons), (reason, *bodies)
        )

    # ------------------------------------------------------------------------------------------------------- the queue

    def _look_after_queue(self) -> float:
        """Promote postponed messages, take over from the dead; in how many seconds the next one is due."""
        keys = self._keys
        wait, *silent = self._client.run(
            script("tend"), (keys.queue, keys.workers, keys.postponed), int(self._lease * 1000), AT_ONCE
        )
        for name in self._dead(dict(zip(silent[::2], map(float, silent[1::2]), strict=True))):
            self._take_over(name, self._suspects.pop(name)[0])
        return LONGEST_PAUSE if wait < 0 else wait / 1000

    def _dead(self, silent: dict[bytes, float]) -> list[bytes]:
        """Those of ``silent`` consumers that were so, without any sign of life, for a lease before our eyes."""
        now = monotonic()
        if now - self._looked_at > self._lease:  # it may have been us who were away
            self._watching_since = now
        self._looked_at = now
        silent.pop(self._name.encode(), None)
        seen, self._suspects = self._suspects, {}
        for name, score in silent.items():
            before = seen.get(name)
            self._suspects[name] = before if before is not None and before[0] == score else (score, now)
        return [
            name for name, (_, since) in self._suspects.items() if now - max(since, self._watching_since) >= self._lease
        ]

    def _take_over(self, name: bytes, score: float) -> None:
        given_back = give_back(self._client, self._keys, name.decode(errors="replace"), f"{score:.0f}")
        if given_back is not None:
            _logger.warning(
                "consumer %s of queue %s is dead; what it held, %d messages, is delivered again",
                name.decode(errors="replace"), self._keys.queue, given_back,
            )  # fmt: skip


def give_back(client: Client, keys: QueueKeys, name: str, score: str = "") -> int | None:
    """Put what the consumer ``name`` held back at the head of its queue and strike the consumer off; how many there were.

    With ``score``: only while that is its last sign of life; ``None`` when it gave another.
    """
    arguments: tuple[Any, ...] = (name, score, AT_ONCE, int(ATTEMPTS_LIVE.total_seconds() * 1000))
    names = (keys.queue, keys.workers, keys.attempts, keys.taken(name), keys.inflight(name))
    total = 0
    while True:
        moved: int = client.run(script("reclaim"), names, *arguments)
        if moved < 0:
            return total or None
        total += moved
        if moved < AT_ONCE:
            return total
