"""Schedulers as servers have them, each with a clock that a test turns, and locks that can be watched and can fail."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Self

from machinery._periodic import MissedTicks, register
from machinery._scheduler import Entry, Missed, Scheduler
from machinery._schedules import Schedule
from machinery._times import to_unix_nanoseconds
from machinery.abc import Config, Lock, LockToken
from machinery.errors import BrokerUnavailable, LockUnavailable
from machinery.memory import MemoryLock, MemoryLocks
from machinery.testing import FaultPlan, ManualClock
from tests.interop.eventually import PATIENCE, eventually

NOON = datetime(2024, 3, 1, 12, 0, tzinfo=UTC)


class WatchedClock(ManualClock):
    """Tells when the thread that waits by it has looked at it again. For one waiter."""

    def __init__(self, begin: datetime = NOON) -> None:
        super().__init__(begin)
        self._waits = 0
        self._waited = threading.Condition()

    def wait(self, condition: threading.Condition, timeout: float) -> None:
        with self._waited:
            self._waits += 1
            self._waited.notify_all()
        super().wait(condition, timeout)

    def set_back(self, span: timedelta) -> None:
        """The time of day is another, and nobody is told."""
        with self._lock:
            self._now -= span

    def await_look(self) -> None:
        """Until whoever waits has looked at the clock after this call, did what was due, and waits again."""
        enough = self._waits + 2  # the first may have looked before
        until = monotonic() + PATIENCE
        while self._waits < enough:
            assert monotonic() < until, "nobody looks at the clock"
            self.advance(
                0
            )  # wakes who waits; who is about to holds that condition, and must get ours: no lock is held here
            with self._waited:
                if self._waits < enough:
                    self._waited.wait(0.005)


@dataclass(frozen=True, slots=True)
class Taking:
    """A lock that was asked for."""

    key: str
    until: datetime
    token: LockToken | None


class WatchedLock(Lock):
    """Passes every call on to ``inner``, unless ``plan`` says otherwise, and notes who asked for what."""

    def __init__(self, inner: Lock | None = None, plan: FaultPlan | None = None) -> None:
        self.inner = inner or MemoryLock()
        self.plan = plan or FaultPlan()
        self.takings: list[Taking] = []

    @classmethod
    def from_url(cls, url: str, config: Config) -> Any:  # pragma: no cover - never asked for
        raise NotImplementedError

    def taken(self, beginning: str) -> list[Taking]:
        """What was taken of the keys that begin so."""
        return [taking for taking in self.takings if taking.token and taking.key.startswith(beginning)]

    def try_acquire(self, key: str, until: datetime) -> LockToken | None:
        def take() -> LockToken | None:
            token = self.inner.try_acquire(key, until)
            self.takings.append(Taking(key, until, token))
            return token

        return self.plan.call("try_acquire", LockUnavailable, take)

    def release(self, token: LockToken) -> bool:
        return self.plan.call("release", LockUnavailable, lambda: self.inner.release(token))

    def try_hold(self, key: str, ttl: timedelta | float) -> LockToken | None:  # pragma: no cover - never asked for
        raise NotImplementedError

    def renew(self, token: LockToken, ttl: timedelta | float) -> LockToken | None:  # pragma: no cover - never asked for
        raise NotImplementedError

    def close(self) -> None:
        self.inner.close()


class GoLocks:
    """What Redis has of Go's locks: values, and when they run out by its own clock."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.values: dict[str, tuple[int, datetime]] = {}
        self.guard = threading.Lock()


class GoLock(WatchedLock):
    """A lock as Go Machinery has it (protocol §8.6): who takes a key over judges by a clock of its own."""

    def __init__(self, locks: GoLocks, clock: ManualClock) -> None:
        super().__init__()
        self._locks = locks
        self._clock = clock

    def try_acquire(self, key: str, until: datetime) -> LockToken | None:
        end, now = to_unix_nanoseconds(until), self._clock.now()
        with self._locks.guard:
            value, expiry = self._locks.values.get(key, (0, self._locks.clock.now()))
            if expiry > self._locks.clock.now() and value >= to_unix_nanoseconds(now):
                return None
            self._locks.values[key] = (end - 1, self._locks.clock.now() + max(timedelta(milliseconds=1), until - now))
            return LockToken(key, str(end - 1), until)

    def release(self, token: LockToken) -> bool:
        with self._locks.guard:
            found = self._locks.values.get(token.key, (0, self._locks.clock.now()))
            if str(found[0]) != token.value or found[1] <= self._locks.clock.now():
                return False
            del self._locks.values[token.key]
            return True


@dataclass(slots=True)
class Station:
    """The scheduler of one server. Its periodic tasks only note that they were sent, unless something is planned."""

    lock: Lock | None = None
    """A lock of its own by its own clock, unless given."""
    clock: WatchedClock = field(default_factory=WatchedClock)
    program: str = "worker"
    queue: str = "machinery_tasks"
    fired: list[tuple[str, datetime]] = field(default_factory=list)
    """Name and time of what was sent."""
    plan: FaultPlan = field(default_factory=FaultPlan)
    """What goes wrong with sending: the method ``send``."""
    scheduler: Scheduler = field(init=False)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(
            self.lock or MemoryLock(MemoryLocks(self.clock)),
            logging.getLogger("machinery"),
            program=lambda: self.program,
            queue=lambda: self.queue,
            clock=self.clock,
        )

    def add(
        self,
        spec: str = "* * * * *",
        name: str = "report",
        missed: MissedTicks = "skip",
        send: Callable[[], object] = lambda: None,
    ) -> None:
        """A periodic task."""

        def note() -> None:
            send()
            self.fired.append((name, self.clock.now()))

        register(self.scheduler, spec, name, lambda: self.plan.call("send", BrokerUnavailable, note), missed)

    def advance(self, span: timedelta | float) -> None:
        """Turn the clock; what is due then is done when this returns."""
        self.clock.advance(span)
        self.clock.await_look()

    def advance_in_steps(self, span: timedelta, step: timedelta) -> None:
        """As a clock does that nobody turns."""
        for _ in range(span // step):
            self.advance(step)

    @property
    def times(self) -> list[datetime]:
        """When something was sent."""
        return [time for _, time in self.fired]

    def has_thread(self) -> bool:
        """Whether there is one that fires."""
        return self.scheduler._thread is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self.scheduler._users:
            self.scheduler.release()
        eventually(lambda: not self.has_thread())


class Row(Schedule):
    """Ticks by name; after the last one there are none."""

    def __init__(self, *ticks: datetime) -> None:
        self.ticks = ticks

    def next(self, after: datetime) -> datetime | None:
        return next((tick for tick in self.ticks if tick > after), None)


def entry(station: Station, schedule: Schedule, name: str = "row", missed: Missed = Missed.SKIP) -> Entry:
    """A periodic task with a schedule that no text says."""
    return Entry(name, "a spec", schedule, lambda: station.fired.append((name, station.clock.now())), missed)
