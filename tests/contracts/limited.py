"""A broker and a backend that can little, and say so: the contracts hold for them in the other direction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from machinery.abc import (
    BackendCapabilities,
    BrokerCapabilities,
    DeadLetter,
    Delivery,
    GroupMeta,
    Message,
    Signature,
    TaskState,
)
from machinery.errors import (
    Closed,
    DelayTooLong,
    GroupTooLarge,
    MessageTooLarge,
    PublishError,
    ResultTooLarge,
    Unsupported,
)
from machinery.memory import MemoryBackend, MemoryBroker, MemoryConsumer
from machinery.wire import encode_state

LONGEST_DELAY = timedelta(minutes=15)
LARGEST_MESSAGE = 256 * 1024
LARGEST_RECORD = 64 * 1024
LARGEST_GROUP = 100


class LimitedConsumer(MemoryConsumer):
    """Nothing is kept of what is given up, and deliveries are not counted."""

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        received = super().receive(limit, timeout)
        for delivery in received:
            delivery.attempt = None
            delivery.redelivered = None
        return received

    def reject(self, deliveries: Sequence[Delivery], reason: str) -> NoReturn:
        if self.is_closed:
            raise Closed("closed")
        raise Unsupported("no dead letters here")


class LimitedBroker(MemoryBroker):
    """No priorities, no dead letters, no looking inside, small messages and short delays; but ordering keys."""

    @property
    def capabilities(self) -> BrokerCapabilities:
        return BrokerCapabilities(
            max_delay=LONGEST_DELAY,
            ordering_keys=True,
            inspection=False,
            dead_letters=False,
            max_message_size=LARGEST_MESSAGE,
            several_processes=False,
        )

    def publish(self, messages: Sequence[Message]) -> None:
        refused: dict[int, Exception] = {}
        for position, message in enumerate(messages):
            if len(message.body) > LARGEST_MESSAGE:
                refused[position] = MessageTooLarge("too large")
            elif message.eta is not None and message.eta - datetime.now(UTC) > LONGEST_DELAY:
                refused[position] = DelayTooLong("too long")
        super().publish([message for position, message in enumerate(messages) if position not in refused])
        if refused:
            kind: type[PublishError] = MessageTooLarge
            if all(isinstance(reason, DelayTooLong) for reason in refused.values()):
                kind = DelayTooLong
            raise kind("some were refused", refused)

    def _new_consumer(self, queue: str) -> MemoryConsumer:
        return LimitedConsumer(self._queues.queue(queue), self._queues.clock)

    def pending(self, queue: str, limit: int) -> list[Message]:
        raise Unsupported("nobody may look inside")

    def delayed(self, limit: int) -> list[Message]:
        raise Unsupported("nobody may look inside")

    def dead(self, queue: str, limit: int) -> list[DeadLetter]:
        raise Unsupported("no dead letters here")

    def requeue_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:
        raise Unsupported("no dead letters here")

    def purge_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:
        raise Unsupported("no dead letters here")


class LimitedBackend(MemoryBackend):
    """Small records, small groups, nothing expires, no list of open groups."""

    @property
    def capabilities(self) -> BackendCapabilities:
        return BackendCapabilities(
            pushes=False,
            lists_open_groups=False,
            largest_group=LARGEST_GROUP,
            largest_record=LARGEST_RECORD,
            several_processes=False,
            expires=False,
        )

    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        too_large = [state.task_uuid for state in states if len(encode_state(state)) > LARGEST_RECORD]
        stored = super().save([state for state in states if state.task_uuid not in too_large])
        if too_large:
            raise ResultTooLarge("too large", too_large)
        return stored

    def create_group(self, group: GroupMeta, callback: Signature | None = None) -> None:
        if len(group.task_uuids) > LARGEST_GROUP:
            raise GroupTooLarge("too large")
        super().create_group(group, callback)

    def open_groups(self, idle_since: Any, limit: int) -> list[str]:
        return []
