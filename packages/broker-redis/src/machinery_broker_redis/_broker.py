"""The broker: queues are lists, delayed messages one ordered set, both as Go has them (protocol §3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from machinery.abc import Broker, BrokerCapabilities, Config, DeadLetter, Message, Section
from machinery.errors import BrokerUnavailable, ConfigError, DecodeError
from machinery_broker_redis._backend import RedisBackend
from machinery_broker_redis._client import AT_ONCE
from machinery_broker_redis._combined import SubmitAndPublish
from machinery_broker_redis._connections import Evaluation
from machinery_broker_redis._consumer import RedisConsumer
from machinery_broker_redis._driver import client_for, client_of
from machinery_broker_redis._examination import examine
from machinery_broker_redis._keys import POSTPONING_QUEUES, has_own_slot, queue_keys
from machinery_broker_redis._options import REDIS_SECTION, to_options, to_service
from machinery_broker_redis._publishing import (
    LARGEST_MESSAGE,
    from_milliseconds,
    from_nanoseconds,
    raise_refused,
    to_groups,
)
from machinery_broker_redis._routing import queue_of
from machinery_broker_redis._scripts import script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from machinery.abc import Backend, Finding
    from machinery.abc import SubmitAndPublish as Submission
    from machinery_broker_redis._client import Client


class RedisBroker(Broker):
    """Queues in Redis, shared with Go Machinery's workers and senders.

    ``RedisBroker(client)`` takes the application's own `redis.Redis` or `redis.RedisCluster`, which stays the
    application's to close; ``options`` are keys of the ``redis`` section. `from_url` makes one from a URL. Nothing connects
    before it is used.
    """

    section: ClassVar[Section | None] = REDIS_SECTION

    def __init__(self, client: Any, config: Config | None = None, **options: Any) -> None:
        """Raises `ConfigError` for options that are wrong."""
        config = config or Config()
        self._set_up(client_of(client, to_options(config, options), BrokerUnavailable), config)

    @classmethod
    def from_url(cls, url: str, config: Config) -> RedisBroker:
        """A broker on the Redis that ``url`` names: ``redis://``, ``rediss://`` or ``redis+socket://`` (protocol §3.7)."""
        broker = cls.__new__(cls)
        broker._set_up(client_for(to_service(url, config), BrokerUnavailable), config)  # noqa: SLF001 - it is ours
        return broker

    def _set_up(self, client: Client, config: Config) -> None:
        self._client = client
        self._config = config
        self._capabilities = BrokerCapabilities(
            counts_deliveries=True, leases=client.options.lease, max_message_size=LARGEST_MESSAGE
        )

    @property
    def capabilities(self) -> BrokerCapabilities:
        """Any delay, no priorities, deliveries counted, leases."""
        return self._capabilities

    # ---------------------------------------------------------------------------------------------------- publishing

    def publish(self, messages: Sequence[Message]) -> None:
        """Put messages on their queues, all in one round trip."""
        self._client.check_open()
        groups, refused = to_groups(messages, self._client.options.delayed_tasks_key)
        replies = self._client.send([group.to_command() for group in groups])
        for group, reply in zip(groups, replies, strict=True):
            if isinstance(reply, Exception):
                refused |= dict.fromkeys(group.positions, self._client.translated(reply))
        raise_refused(refused, len(messages))

    def combined_with(self, backend: Backend) -> Submission | None:
        """One round trip for both where ``backend`` is the same single Redis; a cluster has them on different servers."""
        if isinstance(backend, RedisBackend) and not self._client.is_cluster and backend.is_on(self._client):
            return SubmitAndPublish(self._client, backend.record_lifetime)
        return None

    # ----------------------------------------------------------------------------------------------------- consuming

    def consumer(self, queue: str, name: str) -> RedisConsumer:
        """A new consumer of ``queue``."""
        self._client.check_open()
        if self._client.is_cluster and not has_own_slot(queue):
            raise ConfigError(
                f"a Redis cluster cannot keep the queue {queue!r} in one slot; leave the braces out of its name"
            )
        return RedisConsumer(self._client, queue, name, self._config.default_queue)

    # ---------------------------------------------------------------------------------------------------- inspection

    def pending(self, queue: str, limit: int) -> list[Message]:
        """What waits in the queue's list, oldest first."""
        self._client.check_open()
        return [Message(body, queue) for body in self._client.call("LRANGE", queue, 0, limit - 1)] if limit > 0 else []

    def delayed(self, limit: int) -> list[Message]:
        """What waits in Go's delayed set, and what was handed back for later. Undecodable ones: in the default queue."""
        self._client.check_open()
        if limit <= 0:
            return []
        queues = [name.decode(errors="replace") for name in self._client.call("SMEMBERS", POSTPONING_QUEUES)]
        keys = [self._client.options.delayed_tasks_key, *[queue_keys(queue).postponed for queue in queues]]
        delayed, *postponed = self._client.ask([Evaluation(script("later"), (key,), (limit,)) for key in keys])
        found = [
            (from_nanoseconds(score), body, self._queue_of(body))
            for body, score in zip(delayed[::2], delayed[1::2], strict=True)
        ]
        for queue, members in zip(queues, postponed, strict=True):
            found += [
                (from_milliseconds(score), member.partition(b":")[2], queue)
                for member, score in zip(members[::2], members[1::2], strict=True)
            ]
        return [Message(body, queue, eta=eta) for eta, body, queue in sorted(found)[:limit]]

    def _queue_of(self, body: bytes) -> str:
        try:
            return queue_of(body, self._config.default_queue)
        except DecodeError:
            return self._config.default_queue

    def purge(self, queue: str) -> int:
        """Delete the queue's list, and the set of what was handed back for later."""
        self._client.check_open()
        return int(self._client.run(script("purge"), (queue, queue_keys(queue).postponed)))

    # -------------------------------------------------------------------------------------------------- dead letters

    def dead(self, queue: str, limit: int) -> list[DeadLetter]:
        """The queue's dead letters, oldest first."""
        self._client.check_open()
        if limit <= 0:
            return []
        keys = queue_keys(queue)
        found = self._client.run(script("dead"), (keys.dead, keys.dead_bodies, keys.dead_reasons), limit)
        return [
            DeadLetter(
                id=found[at].decode(),
                body=found[at + 2],
                queue=queue,
                reason=found[at + 3].decode(errors="replace"),
                died_at=from_milliseconds(found[at + 1]),
            )
            for at in range(0, len(found), 4)
        ]

    def requeue_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:
        """Dead letters back to the end of their queue."""
        return self._exhume(queue, ids, back=True)

    def purge_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:
        """Dead letters away."""
        return self._exhume(queue, ids, back=False)

    def _exhume(self, queue: str, ids: Sequence[str] | None, *, back: bool) -> int:
        self._client.check_open()
        keys = queue_keys(queue)
        names = (queue, keys.dead, keys.dead_bodies, keys.dead_reasons)
        how = script("exhume")
        if ids is not None:
            chunks = [tuple(ids[start : start + AT_ONCE]) for start in range(0, len(ids), AT_ONCE)]
            return sum(int(self._client.run(how, names, int(back), AT_ONCE, *chunk)) for chunk in chunks)
        left, total = int(self._client.call("ZCARD", keys.dead)), 0
        while left > 0:  # those there are now: what dies again meanwhile is not ours
            total += int(self._client.run(how, names, int(back), min(left, AT_ONCE)))
            left -= AT_ONCE
        return total

    # ------------------------------------------------------------------------------------------------------- service

    def examine(self) -> list[Finding]:
        """What is dangerous about the server's settings."""
        return examine(self._client)

    def close(self) -> None:
        """Let go of every connection, those of consumers too."""
        self._client.close()
