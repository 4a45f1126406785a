"""Services in memory under observation: a journal of all that is asked of them, and faults on demand."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from machinery.abc import (
    Backend,
    BackendCapabilities,
    Broker,
    BrokerCapabilities,
    Config,
    Consumer,
    DeadLetter,
    Delivery,
    GroupMeta,
    Message,
    Signature,
    StoredGroup,
    TaskState,
)
from machinery.memory import MemoryBackend, MemoryBroker
from machinery.wire import decode_signature

LOOK = 0.02
"""Seconds that a receive of ours waits at most: what a test injects is seen that soon."""


class Journal:
    """What was asked of the services, in order: ``"save SUCCESS add"``, ``"ack add"``; and what is to go wrong."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self._faults: dict[str, deque[BaseException]] = defaultdict(deque)
        self._away: dict[str, BaseException] = {}
        self._pauses: dict[str, Callable[[], object]] = {}

    def fail(self, operation: str, *errors: BaseException) -> None:
        """The next calls of ``operation`` raise these, one each."""
        self._faults[operation].extend(errors)

    def be_away(self, operation: str, error: BaseException) -> None:
        """Every call of ``operation`` raises ``error`` until `come_back`."""
        self._away[operation] = error

    def come_back(self) -> None:
        """Nothing is away any more."""
        self._away.clear()

    def pause(self, operation: str, wait: Callable[[], object]) -> None:
        """Every call of ``operation`` first calls ``wait``."""
        self._pauses[operation] = wait

    def note(self, operation: str, names: Sequence[str] = ()) -> None:
        """Write down a call, then let it fail if it is to. A failed call is written down with a question mark."""
        if wait := self._pauses.get(operation):
            wait()
        fault = self._faults[operation].popleft() if self._faults[operation] else self._away.get(operation)
        mark = "?" if fault is not None else ""
        self.entries += [f"{operation}{mark} {name}" for name in names] or [f"{operation}{mark}"]
        if fault is not None:
            raise fault

    def of(self, *operations: str) -> list[str]:
        """The entries of these operations, in order."""
        return [entry for entry in self.entries if entry.split()[0] in operations]


def name_of(body: bytes) -> str:
    """The task's name in a message."""
    try:
        return decode_signature(body).name
    except Exception:  # noqa: BLE001 - a test's malformed message
        return "undecodable"


class ObservedConsumer(Consumer):
    """A memory consumer, with deliveries that a test injects."""

    def __init__(self, inner: Consumer, broker: ObservedBroker) -> None:
        self.inner = inner
        self.broker = broker
        self.journal = broker.journal
        self.injected: deque[Delivery] = deque()
        self.reset_count = 0
        self.hangs = threading.Event()
        """While it is set, `receive` neither answers nor fails, until `reset`."""
        self.not_ours: list[Delivery] = []
        """What `extend` says is no longer ours."""

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        self.journal.note("receive", [str(limit)])
        while self.hangs.is_set():
            threading.Event().wait(LOOK)
        if self.injected:
            return [self.injected.popleft()]
        found = self.inner.receive(limit, min(timeout, LOOK))
        if not self.broker.tells_redelivered:
            for delivery in found:
                delivery.redelivered = None
        return found

    def stop(self) -> None:
        self.inner.stop()

    def close(self) -> None:
        self.inner.close()

    def reset(self) -> None:
        self.reset_count += 1
        self.hangs.clear()

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        self._note("ack", deliveries)
        return self.inner.ack(deliveries)

    def nack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        self._note("nack", deliveries)
        return self.inner.nack(deliveries)

    def postpone(self, deliveries: Sequence[Delivery], delay: timedelta) -> list[Delivery]:
        self.journal.note("postpone", [f"{name_of(each.body)} {delay.total_seconds():g}" for each in deliveries])
        return self.inner.postpone(deliveries, delay)

    def reject(self, deliveries: Sequence[Delivery], reason: str) -> list[Delivery]:
        self._note("reject", deliveries)
        return self.inner.reject(deliveries, reason)

    def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        self._note("extend", deliveries)
        return self.not_ours

    def _note(self, operation: str, deliveries: Sequence[Delivery]) -> None:
        self.journal.note(operation, [name_of(each.body) for each in deliveries])


class ObservedBroker(Broker):
    """A memory broker whose calls are written down; capabilities as a test wants them."""

    def __init__(self, journal: Journal | None = None, **capabilities: Any) -> None:
        self.journal = journal or Journal()
        self.inner = MemoryBroker()
        self.consumers: list[ObservedConsumer] = []
        self.tells_redelivered = True
        self._capabilities = replace(self.inner.capabilities, **capabilities)

    @classmethod
    def from_url(cls, url: str, config: Config) -> Any:  # pragma: no cover - never asked for
        raise NotImplementedError

    @property
    def capabilities(self) -> BrokerCapabilities:
        return self._capabilities

    def publish(self, messages: Sequence[Message]) -> None:
        self.journal.note("publish", [name_of(message.body) for message in messages])
        self.inner.publish(messages)

    def consumer(self, queue: str, name: str) -> Consumer:
        made = ObservedConsumer(self.inner.consumer(queue, name), self)
        self.consumers.append(made)
        return made

    def pending(self, queue: str, limit: int) -> list[Message]:
        return self.inner.pending(queue, limit)

    def delayed(self, limit: int) -> list[Message]:
        return self.inner.delayed(limit)

    def purge(self, queue: str) -> int:
        return self.inner.purge(queue)

    def dead(self, queue: str, limit: int) -> list[DeadLetter]:
        return self.inner.dead(queue, limit)

    def requeue_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:
        return self.inner.requeue_dead(queue, ids)

    def purge_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:
        return self.inner.purge_dead(queue, ids)

    def close(self) -> None:
        self.inner.close()

    def let_a_worker_die(self, queue: str, limit: int = 100) -> int:
        """Deliver what waits to a consumer that dies with it; returns how many messages that were."""
        consumer = self.inner.consumer(queue, "dead")
        found = consumer.receive(limit, 0)
        consumer.close()
        return len(found)


class ObservedBackend(Backend):
    """A memory backend whose writes are written down."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.journal = journal or Journal()
        self.inner = MemoryBackend()

    @classmethod
    def from_url(cls, url: str, config: Config) -> Any:  # pragma: no cover - never asked for
        raise NotImplementedError

    @property
    def capabilities(self) -> BackendCapabilities:
        return self.inner.capabilities

    def submit(self, states: Sequence[TaskState]) -> None:
        self.journal.note("submit", [state.task_name for state in states])
        self.inner.submit(states)

    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        self.journal.note("save", [f"{state.state} {state.task_name}" for state in states])
        return self.inner.save(states)

    def load(self, ids: Sequence[str]) -> list[TaskState | None]:
        self.journal.note("load", ids)
        return self.inner.load(ids)

    def wait(self, ids: Sequence[str], timeout: float, interval: float = 0.5) -> list[TaskState | None]:
        return self.inner.wait(ids, timeout, interval)

    def forget(self, ids: Sequence[str]) -> None:
        self.inner.forget(ids)

    def create_group(self, group: GroupMeta, callback: Signature | None = None) -> None:
        self.inner.create_group(group, callback)

    def load_group(self, group_uuid: str) -> StoredGroup:
        return self.inner.load_group(group_uuid)

    def finish_members(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        return self.inner.finish_members(pairs)

    def claim_chord(self, group_uuid: str, claimant: str) -> bool:
        return self.inner.claim_chord(group_uuid, claimant)

    def open_groups(self, idle_since: datetime, limit: int) -> list[str]:
        return self.inner.open_groups(idle_since, limit)

    def close_group(self, group_uuid: str) -> None:
        self.inner.close_group(group_uuid)

    def close(self) -> None:
        self.inner.close()
