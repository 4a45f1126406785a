"""What a plug-in author implements: `Broker` with its `Consumer`, `Backend`, `Lock`. No implementation lives here.

Thin broker, thick worker: a broker moves opaque bytes and knows nothing of tasks, states or JSON. Retries, ETA, decoding and
states are written once, in core. Everything takes and gives batches; a batch of one is not a special case.

Three rules hold for every method of every class here:

* **Threads.** Safe to call from any thread at any time, but `Consumer.receive`, which has one caller at a time.
* **Errors.** A driver's exceptions never come out. A service that cannot be reached, or whose connection was lost, is
  `BrokerUnavailable`, `BackendUnavailable` or `LockUnavailable`, and nothing else is. A call that raised one of these may have
  been carried out or not; every call is safe to make again. No call blocks for longer than the plug-in's connect and answer
  timeouts, but those that take a ``timeout``.
* **After close.** Every method but ``close`` raises `Closed`.

The suites in `machinery.testing` check all that is said here; they obey an implementation's declared capabilities in both
directions.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from machinery._config import Config, parse_section
from machinery._holding import aholding, check_hold, holding, to_ttl
from machinery._offloading import in_thread
from machinery._polling import poll
from machinery._sections import Section
from machinery._settings import Span
from machinery._signatures import Signature
from machinery._states import GroupMeta, State, TaskResult, TaskState
from machinery._urls import ServiceUrl, parse_url, redact_url
from machinery.errors import LockNotAcquired

__all__ = [
    "Backend",
    "BackendCapabilities",
    "Broker",
    "BrokerCapabilities",
    "Config",
    "Consumer",
    "DeadLetter",
    "Delivery",
    "Finding",
    "GroupMeta",
    "Lock",
    "LockToken",
    "Message",
    "Section",
    "ServiceUrl",
    "Signature",
    "Span",
    "State",
    "StoredGroup",
    "SubmitAndPublish",
    "TaskResult",
    "TaskState",
    "parse_section",
    "parse_url",
    "poll",
    "redact_url",
]


@dataclass(frozen=True, slots=True)
class Message:
    """One message to publish, or one found waiting."""

    body: bytes
    queue: str
    eta: datetime | None = None
    """Do not deliver before this instant (aware). Past or ``None``: at once."""
    priority: int = 0
    """0 to 255, higher first, where `BrokerCapabilities.priorities`."""
    ordering_key: str = ""
    """Messages of one key are delivered in order, where `BrokerCapabilities.ordering_keys`. One may be held back until the one
    before is settled."""
    dedup_id: str = ""
    """The task's uuid, and of a retry's copy the attempt besides: for services that drop doubles within a window."""
    headers: Mapping[str, Any] | None = None
    """The signature's headers, for services that carry headers beside the body."""


@dataclass(slots=True, eq=False)
class Delivery:
    """One message on loan from the broker until it is settled by ack, nack, postpone or reject."""

    body: bytes
    queue: str
    redelivered: bool | None = False
    """Whether it was delivered before; ``None`` where the service cannot tell. Handing back need not count."""
    attempt: int | None = None
    """1 for the first delivery, where `BrokerCapabilities.counts_deliveries`. Handing back does not count."""
    lease: timedelta | None = None
    """How long it stays ours unless extended; ``None``: as long as the connection lives."""
    handle: Any = None
    """The plug-in's own."""
    message_id: str = ""
    """The same at every delivery of one message, and of no other, where the service names its messages; else empty."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up, with the reason."""

    id: str
    """Names the letter within its queue; what `Broker.requeue_dead` and `Broker.purge_dead` take."""
    body: bytes
    queue: str
    reason: str
    died_at: datetime


@dataclass(frozen=True, slots=True)
class BrokerCapabilities:
    """What a broker can do. Core and the contract suite obey it in both directions: what is said to be missing is refused."""

    max_delay: timedelta | None = None
    """The longest delay `Message.eta` may ask for; ``None``: any; zero: none at all."""
    priorities: bool = False
    ordering_keys: bool = False
    counts_deliveries: bool = False
    """`Delivery.attempt` is set."""
    leases: timedelta | None = None
    """How long a delivery stays ours without `Consumer.extend`; ``None``: as long as the connection lives."""
    inspection: bool = True
    """`Broker.pending` and `Broker.delayed` work; else they raise `Unsupported`."""
    dead_letters: bool = True
    """`Consumer.reject` keeps the message and `Broker.dead` lists it; else these raise `Unsupported`."""
    routing_key_in_body: bool = True
    """Go writes its queue's name into the body on this broker (protocol §1.5)."""
    default_routing_key: str = ""
    """What Go writes instead of the default queue's name (AMQP's binding key); empty: the name."""
    headers_are_text: bool = False
    """Headers travel beside the body too, where Go's workers can send on only text and flags: others are made text."""
    max_message_size: int | None = None
    """Bytes of body; a larger one is `MessageTooLarge`."""
    redelivers_dead_consumers: bool = True
    """What a consumer that died had received is delivered again."""
    several_processes: bool = True
    """Other processes see the same queues."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something `machinery doctor` has to say about a service."""

    level: str
    """``ok``, ``warning`` or ``error``."""
    text: str
    """What was found and what to do about it."""


class Plugin(ABC):
    """What brokers, backends and locks have in common: they are built from a URL, can be examined and closed."""

    section: ClassVar[Section | None] = None
    """The configuration section that the plug-in owns, if any."""
    commands: ClassVar[Mapping[str, Callable[[Sequence[str]], int]]] = {}
    """Commands for ``machinery <service> <name>``: name → function of the arguments after it, returning the exit status.

    The service is how the distribution's name ends: ``machinery dynamodb create-tables`` is of machinery-backend-dynamodb. What a
    command raises of `machinery.errors` is shown like an error of core's own commands.
    """

    @classmethod
    @abstractmethod
    def from_url(cls, url: str, config: Config) -> Any:
        """An instance for ``url``. Does not connect. Raises `ConfigError` for a URL or section that is wrong."""

    def examine(self) -> list[Finding]:
        """What is dangerous about the service's settings, for ``machinery doctor``. Raises the `Unavailable` family."""
        return []

    @abstractmethod
    def close(self) -> None:
        """Let go of every connection. May be called twice."""


SubmitAndPublish = Callable[[Sequence[TaskState], Sequence[Message]], None]
"""Stores PENDING records and publishes messages in one round trip; record ``i`` belongs to message ``i``."""


class Consumer(ABC):
    """One consumer of one queue. Everything received is on loan until settled by exactly one of the four calls below.

    Each of `ack`, `nack`, `postpone`, `reject` and `extend` takes a batch and returns those deliveries that were no longer ours
    (lease over, taken by another, settled before); it does nothing to these. A call that raised may be made again with the same
    deliveries.
    """

    @abstractmethod
    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Up to ``limit`` (≥ 1) messages that are due, oldest first; waits up to ``timeout`` seconds for the first.

        Returns as soon as there is at least one, with what is there; ``[]`` when the time is over or after `stop`. ``timeout`` 0
        looks once. After an error the next call reconciles: what the service counts as taken by us but never arrived here is
        delivered (again). Raises `BrokerUnavailable`. One caller at a time.
        """

    def resize(self, limit: int) -> None:  # noqa: B027 - most services need nothing
        """From now on at most ``limit`` deliveries will be unsettled. For services that push; others need nothing."""

    @abstractmethod
    def stop(self) -> None:
        """Make a waiting `receive` return soon, and all later ones at once with ``[]``. What arrives later is given back.

        Settling still works afterwards. May be called twice.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection. What is unsettled is delivered again, to whomever the service chooses."""

    @abstractmethod
    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Done: never deliver again."""

    @abstractmethod
    def nack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Give back now, at the head of the queue where it has one. Not a failure: the attempt is not counted."""

    @abstractmethod
    def postpone(self, deliveries: Sequence[Delivery], delay: timedelta) -> list[Delivery]:
        """Give back, to be delivered after ``delay`` (to any consumer). Not a failure: the attempt is not counted."""

    @abstractmethod
    def reject(self, deliveries: Sequence[Delivery], reason: str) -> list[Delivery]:
        """Give up: to the queue's dead letters, with ``reason``."""

    @abstractmethod
    def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Renew every lease for its full term. Called at a third of it, while anything is on loan.

        Without leases: does nothing and returns ``[]``.
        """

    def reset(self) -> None:  # noqa: B027 - a service without a connection has nothing to drop
        """Drop the connection: a `receive` that waits raises `BrokerUnavailable` soon, the next one connects anew.

        For a watchdog that has heard nothing for too long. What is on loan stays on loan where the service allows it.
        """

    def maintain(self) -> float | None:
        """Chores that keep the service's queues moving: promote what is due, take over what dead consumers held.

        Called by a worker's keeper, never by two threads at once. Returns in how many seconds it wants to be called again;
        ``None``: never, the service does it all.
        """
        return None


class Broker(Plugin):
    """Moves opaque bytes through named queues, at least once each."""

    @property
    @abstractmethod
    def capabilities(self) -> BrokerCapabilities:
        """What this instance can do. Constant."""

    def has_delays(self, queue: str) -> bool:  # noqa: ARG002 - most services treat all queues alike
        """Whether `Message.eta` may be asked for on ``queue``, as far as `BrokerCapabilities.max_delay` goes.

        False: `publish` refuses one that is still to come, and so does core when an application sends one (`DelayTooLong`). What
        a worker sends on, such as a retry, goes without, and waits with the worker that receives it.
        """
        return True

    @abstractmethod
    def publish(self, messages: Sequence[Message]) -> None:
        """Put messages on their queues, those of one queue in the order given. Returns when the service has all of them.

        Raises `PublishError` (or a subclass) naming by position exactly the messages that were not accepted; the others were.
        `BrokerUnavailable` when it is not known of any. A queue need not exist before, but where the service demands it.
        """

    @abstractmethod
    def consumer(self, queue: str, name: str) -> Consumer:
        """A new consumer; ``name`` is unique among all consumers. Connects lazily: raises nothing but `ConfigError`."""

    def combined_with(self, backend: Backend) -> SubmitAndPublish | None:  # noqa: ARG002
        """A function that stores and publishes in one round trip, where ``backend`` is the same service; else ``None``.

        The function raises what `Backend.submit` and `publish` raise; PENDING is stored before the message is visible.
        """
        return None

    @abstractmethod
    def pending(self, queue: str, limit: int) -> list[Message]:
        """Up to ``limit`` messages that wait to be delivered, oldest first. Changes nothing. Raises `Unsupported`."""

    @abstractmethod
    def delayed(self, limit: int) -> list[Message]:
        """Up to ``limit`` messages of any queue that wait for their time, earliest first, with ``eta``. Changes nothing.

        Those sent with an ``eta``, and those handed back by `Consumer.postpone`. Raises `Unsupported`.
        """

    @abstractmethod
    def purge(self, queue: str) -> int:
        """Delete all that waits in ``queue`` now; returns how many.

        What `Consumer.postpone` handed back goes too, wherever the service can be looked into (`BrokerCapabilities.inspection`).
        What is on loan, and what was sent with an ``eta`` that is still to come, stays.
        """

    @abstractmethod
    def dead(self, queue: str, limit: int) -> list[DeadLetter]:
        """Up to ``limit`` dead letters of ``queue``, oldest first. Changes nothing. Raises `Unsupported`."""

    @abstractmethod
    def requeue_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:
        """Put dead letters (all, or those named) back on their queue as fresh messages; returns how many there were."""

    @abstractmethod
    def purge_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:
        """Delete dead letters (all, or those named); returns how many there were."""


@dataclass(frozen=True, slots=True)
class BackendCapabilities:
    """What a result backend can do. Core and the contract suite obey it in both directions."""

    stores: bool = True
    """Records can be read back. ``null://`` says no."""
    pushes: bool = True
    """`Backend.wait` is woken by `Backend.save`, without polling."""
    lists_open_groups: bool = True
    """`Backend.open_groups` works; else it answers ``[]``."""
    largest_group: int | None = None
    """Members; a larger group is `GroupTooLarge`."""
    largest_record: int | None = None
    """Bytes; a larger record is `ResultTooLarge`."""
    several_processes: bool = True
    """Other processes see the same records."""
    expires: bool = True
    """Records go away `Config.results_expire_in` after their last write."""


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """A group as found in the store."""

    meta: GroupMeta
    callback: Signature | None = None
    """The chord's callback, kept beside Go's metadata; ``None``: no chord, or Go made the group."""
    made_by_go: bool = False
    """There is Go's metadata and no record of ours beside it: members may be finished by Go workers."""


class Backend(Plugin):
    """Remembers the states of tasks and the metadata of groups. A record's last write renews its time to live."""

    @property
    @abstractmethod
    def capabilities(self) -> BackendCapabilities:
        """What this instance can do. Constant."""

    @abstractmethod
    def submit(self, states: Sequence[TaskState]) -> None:
        """Write PENDING records, replacing whatever was there, final or not: a submitted task starts afresh."""

    @abstractmethod
    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        """Write records unless a final one is there already: *the first final record wins*. Returns those now stored.

        `TaskState.task_name` and `TaskState.created_at` of the record before are kept where it had them. The answer has the
        order of ``states``; where a final record was there, it is that one with `TaskState.was_final` set, even if it says the
        same as the one given, so that a late worker goes on with what is stored and not with its own opinion. Atomic per record
        under concurrency. Raises `ResultTooLarge` naming the ids it refused; the others are stored.
        """

    @abstractmethod
    def load(self, ids: Sequence[str]) -> list[TaskState | None]:
        """The records in the order of ``ids``; ``None`` where there is none."""

    @abstractmethod
    def wait(self, ids: Sequence[str], timeout: float, interval: float = 0.5) -> list[TaskState | None]:
        """Like `load`, but waits up to ``timeout`` seconds until all of them are final.

        Woken by `save` where `BackendCapabilities.pushes`; looks at least every ``interval`` seconds besides, for records that
        others wrote (Go).
        """

    @abstractmethod
    def forget(self, ids: Sequence[str]) -> None:
        """Delete records. One that is not there is no error."""

    @abstractmethod
    def create_group(self, group: GroupMeta, callback: Signature | None = None) -> None:
        """Write a group's metadata and, beside it, its callback. An earlier group of the same id is replaced.

        Raises `GroupTooLarge`. Lives `Config.group_expire_in`, renewed whenever a member finishes.
        """

    @abstractmethod
    def load_group(self, group_uuid: str) -> StoredGroup:
        """The group. Raises `GroupNotFound`."""

    @abstractmethod
    def finish_members(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Note that members (group uuid, task uuid) are final. Returns for each how many of its group are noted now.

        Idempotent per member; costs O(1) in the size of the group. The count is a hint: it knows nothing of members that Go
        finished. 0 where the group is not there (Go made it, or it expired).
        """

    @abstractmethod
    def claim_chord(self, group_uuid: str, claimant: str) -> bool:
        """Whether ``claimant`` (a member's uuid) is the one to send the callback. True to exactly one, and to it each time.

        Sets `GroupMeta.chord_triggered`; honours one that Go set (then false to all but the recorded claimant). Raises
        `GroupNotFound`.
        """

    @abstractmethod
    def open_groups(self, idle_since: datetime, limit: int) -> list[str]:
        """Up to ``limit`` chords' groups not yet closed in which no member finished since then, longest idle first."""

    @abstractmethod
    def close_group(self, group_uuid: str) -> None:
        """The group has ended: its records and counts now live `Config.results_expire_in` and are listed open no more."""


@dataclass(frozen=True, slots=True)
class LockToken:
    """Proof of having taken a lock: *held* by `Lock.try_hold`, or *acquired*, Go's way, by `Lock.try_acquire`."""

    key: str
    """As it was given."""
    value: str
    """What stands in the store. Held: unique. Acquired: Unix nanoseconds of ``until`` less one, as in Go (protocol §8.6)."""
    until: datetime
    """Held: when it ends by this machine's clock, reckoned from before the service was asked: it ends no earlier there."""
    fence: int = 0
    """Held: a number from 1 on, greater than that of every earlier holder of the key. Acquired: 0, there is none."""

    @classmethod
    def to_hold(cls, key: str, ttl: timedelta | float, now: datetime) -> tuple[LockToken, timedelta]:
        """For plug-ins: the token, still without its fence, of a ``key`` to be held, and its ``ttl`` as a span (1 ms at least).

        Raises `EncodeError` for a key, and `ValueError` for a ``ttl``, that `Lock.try_hold` refuses.
        """
        span = to_ttl(key, ttl)
        return cls(key, os.urandom(16).hex(), now + span), span

    def to_renew(self, ttl: timedelta | float, now: datetime) -> tuple[LockToken, timedelta]:
        """For plug-ins: this token as it is once it was renewed, and the ``ttl`` as a span. Raises as `Lock.renew`."""
        if not self.fence:
            raise ValueError(
                f"the lock {self.key!r} was acquired until an instant; only what is held for a ttl can be renewed"
            )
        span = to_ttl(self.key, ttl)
        return replace(self, until=now + span), span


class Lock(Plugin):
    """Named locks with an end, shared by all servers on one service. There are two kinds, which never meet, whatever their keys.

    *Held* for a span, for applications (`hold`, `try_hold`, `renew`): the span passes by the service's clock alone, so that
    servers whose clocks differ exclude each other all the same. Stored under names that begin like nothing else.

    *Acquired* until an instant, for periodic tasks (`acquire`, `try_acquire`): Go's form. The key is stored as given, and whoever
    finds that the instant has passed by its own clock takes it over.
    """

    several_processes: ClassVar[bool] = True
    """Other processes see the same locks."""

    @abstractmethod
    def try_acquire(self, key: str, until: datetime) -> LockToken | None:
        """Take ``key`` until that instant (aware, in the future), or ``None`` when somebody holds it. Never waits.

        An instant that has passed already is acquired like another, and holds nobody off.
        """

    @abstractmethod
    def try_hold(self, key: str, ttl: timedelta | float) -> LockToken | None:
        """Hold ``key`` for ``ttl`` (a span, or seconds) by the service's clock, or ``None`` when somebody holds it. Never waits.

        The token's ``value`` is unique, and its ``fence`` greater than each that was given for the key before, to any server,
        however that hold ended. Holding and giving the fence are one step. ``key`` is any text that UTF-8 can say and not empty,
        ``ttl`` above 0 and up to a hundred years; below a millisecond it is made one. Raises `EncodeError` and `ValueError` for
        others (`LockToken.to_hold`), and `LockUnavailable`: then it may be held until ``ttl`` is over, by nobody.
        """

    @abstractmethod
    def renew(self, token: LockToken, ttl: timedelta | float) -> LockToken | None:
        """Hold on: from now for ``ttl``, be that longer or shorter than what is left. The token with its new ``until``.

        ``None`` when it was no longer ours, even if nobody took it since; then nothing was changed. Raises as `try_hold`, and
        `ValueError` for a token of `try_acquire` (`LockToken.to_renew`).
        """

    @abstractmethod
    def release(self, token: LockToken) -> bool:
        """Let go, of either kind. False when it was no longer ours; then nothing was changed."""

    def hold(
        self, key: str, ttl: timedelta | float, *, timeout: float | None = 0, interval: float = 0.05
    ) -> AbstractContextManager[LockToken]:
        """Hold ``key`` for the block of a ``with``, at most for ``ttl``, and let go at its end, however it ends.

        While somebody else holds it: tries every ``interval`` seconds until ``timeout`` seconds are over (0: once; ``None``: for
        ever), in no order among those who wait. Raises `LockNotAcquired`, and what `try_hold` raises.

        At the end: `LockLost` when it was no longer ours, `LockUnavailable` when that cannot be known; the block has been run all
        the same. Where the block itself raised, that stays the error, with the other as a note. ``ttl`` is what the lock
        outlives a dead holder by: nothing stops a block that takes longer, so `renew` it, or have what it writes to look at
        `LockToken.fence`.
        """
        check_hold(key, ttl, timeout, interval)
        return holding(self, key, ttl, timeout, interval)

    def ahold(
        self, key: str, ttl: timedelta | float, *, timeout: float | None = 0, interval: float = 0.05
    ) -> AbstractAsyncContextManager[LockToken]:
        """`hold` for ``async with``, without blocking the event loop. Whoever is cancelled holds nothing."""
        check_hold(key, ttl, timeout, interval)
        return aholding(self, key, ttl, timeout, interval)

    async def arenew(self, token: LockToken, ttl: timedelta | float) -> LockToken | None:
        """`renew`, without blocking the event loop."""
        return await in_thread(self.renew, token, ttl)

    def acquire(self, key: str, until: datetime, *, tries: int = 1, interval: float = 0.05) -> LockToken:
        """`try_acquire` up to ``tries`` times, ``interval`` seconds apart. Raises `LockNotAcquired`."""
        for attempt in range(tries):
            if attempt:
                time.sleep(interval)
            if (token := self.try_acquire(key, until)) is not None:
                return token
        raise LockNotAcquired(
            f"the lock {key!r} is held by somebody else (tried {tries} times, now {datetime.now(UTC):%X})"
        )
