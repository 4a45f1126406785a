"""Fires what is due by a schedule: once for each tick, whichever of the servers does it (protocol §8.5, §8.6)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING

from machinery._clock import SYSTEM_CLOCK, Clock
from machinery._retry import Backoff
from machinery.errors import MachineryError, PublishError, Unavailable

if TYPE_CHECKING:
    import logging

    from machinery._schedules import Schedule
    from machinery.abc import Lock

LATE = timedelta(seconds=60)
"""A tick that nobody came to for so long is missed."""
TICK_KEPT = timedelta(hours=24)
"""How long it is known that a tick was fired: Go's key carries no tick, and a server with a slow clock would fire again."""
LONGEST_SLEEP = 60.0
"""Seconds after which the wall's time is looked at again, whatever it said: it may have been set."""


class Missed(Enum):
    """What happens to ticks that came while no server was there to fire them."""

    SKIP = "skip"
    """Nothing; the next tick comes in its time."""
    ONCE = "once"
    """The latest of them, if it came in the last 24 hours, is fired as soon as a server is there; the others are not."""


@dataclass(slots=True, eq=False)
class Entry:
    """One periodic task, chain, group or chord."""

    name: str
    spec: str
    schedule: Schedule
    send: Callable[[], object]
    missed: Missed
    tick: datetime | None = None
    """The tick to fire next; ``None``: none comes any more."""
    attempt: datetime | None = None
    """When to try, which is later than the tick when a service was away."""
    backoff: Backoff = field(default_factory=lambda: Backoff(base=0.5, cap=15.0))


class Scheduler:
    """The schedules of one server, and the thread that fires them while anybody wants it to. Safe from any thread."""

    def __init__(
        self,
        lock: Lock,
        logger: logging.Logger,
        *,
        program: Callable[[], str],
        queue: Callable[[], str],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._lock = lock
        self._logger = logger
        self._program = program
        self._queue = queue
        self._clock = clock
        self._changed = threading.Condition()
        self._entries: dict[str, Entry] = {}
        self._users = 0
        self._thread: threading.Thread | None = None

    # -- entries ------------------------------------------------------------------------------------------------------------

    def add(self, entry: Entry) -> bool:
        """Fire ``entry`` from now on. False, and nothing happens, when its name is taken."""
        with self._changed:
            if entry.name in self._entries:
                return False
            self._entries[entry.name] = entry
            if self._users:
                self._begin(entry)
                self._run_thread()
            self._changed.notify_all()
            return True

    def remove(self, name: str) -> bool:
        """Fire it no more. Whether there was one of that name."""
        with self._changed:
            found = self._entries.pop(name, None) is not None
            self._changed.notify_all()
            return found

    def _begin(self, entry: Entry) -> None:
        """The first tick from now on, or the latest one that nobody fired."""
        now = self._clock.now()
        latest = entry.schedule.last(now, TICK_KEPT) if entry.missed is Missed.ONCE else None
        entry.tick = latest or entry.schedule.next(now)
        entry.attempt = entry.tick

    # -- life ---------------------------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Fire from now on, until everybody who wanted it has let go."""
        with self._changed:
            self._users += 1
            if self._users == 1:
                for entry in self._entries.values():
                    self._begin(entry)
            self._run_thread()

    def release(self) -> None:
        """One user wants it no more."""
        with self._changed:
            self._users = max(0, self._users - 1)
            self._changed.notify_all()

    def _run_thread(self) -> None:
        if self._entries and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="machinery-scheduler", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while (entry := self._wait()) is not None:
            self._come_to(entry)

    def _wait(self) -> Entry | None:
        """The entry that is due; ``None``, and the thread is to end, when nobody wants it any more."""
        with self._changed:
            while self._users:
                now = self._clock.now()
                waiting = [entry for entry in self._entries.values() if entry.attempt is not None]
                nearest = min(waiting, key=lambda entry: entry.attempt or now, default=None)
                if nearest is None or nearest.attempt is None:
                    self._clock.wait(self._changed, LONGEST_SLEEP)
                elif nearest.attempt <= now:
                    return nearest
                else:
                    self._clock.wait(self._changed, min(LONGEST_SLEEP, (nearest.attempt - now).total_seconds()))
            self._thread = None
            return None

    # -- a tick -------------------------------------------------------------------------------------------------------------

    def _come_to(self, entry: Entry) -> None:
        """Fire the tick of ``entry``, or leave it out, and turn to the next one."""
        tick = entry.tick
        if tick is None:
            return
        now = self._clock.now()
        following = entry.schedule.next(tick)
        is_over = following is not None and following <= now
        is_late = entry.attempt == tick and now - tick > LATE
        if is_over or is_late:
            if entry.missed is Missed.SKIP:
                self._logger.warning("%s missed its tick of %s", entry.name, tick.isoformat())
                self._turn_to(entry, entry.schedule.next(now))
                return
            if is_over:
                tick = entry.schedule.last(now, TICK_KEPT) or tick
                following = entry.schedule.next(tick)
        try:
            self._fire(entry, tick, following)
        except Exception as error:  # whatever the application's handlers raise must not end this thread
            if _is_transient(error):
                entry.tick, entry.attempt = tick, now + timedelta(seconds=entry.backoff.next())
                self._logger.warning("%s cannot be sent at its tick of %s yet: %s", entry.name, tick.isoformat(), error)
                return
            self._logger.exception("%s could not be sent at its tick of %s", entry.name, tick.isoformat())
        self._turn_to(entry, following)

    def _turn_to(self, entry: Entry, tick: datetime | None) -> None:
        entry.tick = entry.attempt = tick
        entry.backoff.reset()

    def _fire(self, entry: Entry, tick: datetime, following: datetime | None) -> None:
        """Send, unless another server has done it. Raises what sending raises, and then others may try, too."""
        until = following or tick + TICK_KEPT
        # Go's key, and then the tick's own (protocol §8.6). Both stay until their time is over.
        ours = self._lock.try_acquire(lock_key(self._program(), entry.name, entry.spec), until)
        if ours is None:
            return
        mark = self._lock.try_acquire(
            tick_key(self._queue(), entry.name, entry.spec, tick), self._clock.now() + TICK_KEPT
        )
        if mark is None:
            self._logger.debug("%s was fired by another server at its tick of %s", entry.name, tick.isoformat())
            return
        try:
            entry.send()
        except BaseException:
            self._lock.release(mark)
            self._lock.release(ours)
            raise
        self._logger.info("%s is sent at its tick of %s", entry.name, tick.isoformat())


def lock_key(program: str, name: str, spec: str) -> str:
    """Go's key for a periodic task: all in one, without separators."""
    return f"machinery_lock_{program}{name}{spec}"


def tick_key(queue: str, name: str, spec: str, tick: datetime) -> str:
    """The key of one tick. It names the queue and not the program, as one application may run as several programs."""
    return f"machinery:tick:{queue}:{name}:{spec}:{tick.isoformat()}"


def _is_transient(error: Exception) -> bool:
    if isinstance(error, PublishError):
        return bool(error.failures) and all(isinstance(reason, Unavailable) for reason in error.failures.values())
    return isinstance(error, Unavailable) and isinstance(error, MachineryError)
