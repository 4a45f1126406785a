"""Fires what is due by a schedule: once for each tick, whichever of the servers does it (protocol §8.5, §8.6).

A server that comes to a tick takes two locks, and then sends: Go's, which a server of Go Machinery takes, too, and one that
bears the tick. Both stay until their time is over; they are let go only where sending failed.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING

from machinery._clock import SYSTEM_CLOCK, Clock
from machinery._retry import Backoff
from machinery._times import to_unix_nanoseconds
from machinery.abc import LockToken
from machinery.errors import PublishError, Unavailable

if TYPE_CHECKING:
    import logging

    from machinery._schedules import Schedule
    from machinery.abc import Lock

LATE = timedelta(seconds=60)
"""A tick that nobody came to for so long is missed. A clock that is set back by more is taken at its word."""
REACH = timedelta(hours=24)
"""How old a missed tick may be that is fired all the same."""
TICK_KEPT = timedelta(hours=24)
"""How long it is known that a tick was fired: Go's key carries no tick, and a server with a slow clock would fire again."""
SPREAD = timedelta(minutes=10)
"""A random share of it is added to that, so that two servers' claims to one tick differ in their values. It is also what a
server's clock may be slow by when it looks for missed ticks within `REACH`."""
LONGEST_SLEEP = 60.0
"""Seconds after which the wall's time is looked at again, whatever it said: it may have been set."""
FAREWELL = 2.0
"""Seconds that the last user waits for the end of a firing that has begun: its locks are taken, nobody else would do it."""


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
    claims: list[LockToken] = field(default_factory=list)
    """The locks on ``tick`` that are ours, or may be: the lock has not said."""

    def turn_to(self, tick: datetime | None) -> None:
        """Try ``tick`` when it comes."""
        if tick != self.tick:
            self.claims = []
        self.tick = self.attempt = tick
        self.backoff.reset()


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
        self._looked = clock.now()
        """What the clock said when it was last looked at."""
        self._awake = self._looked
        """Since when the thread has had something to do without a pause."""

    # -- entries ------------------------------------------------------------------------------------------------------------

    def add(self, entry: Entry) -> Entry | None:
        """Fire ``entry`` from now on. Nothing happens when one with its name or lock is there already: that one is returned."""
        with self._changed:
            for other in self._entries.values():
                if entry.name == other.name or lock_key("", entry.name, entry.spec) == lock_key(
                    "", other.name, other.spec
                ):
                    return other
            self._entries[entry.name] = entry
            if self._users:
                self._begin(entry)
                self._run_thread()
            self._changed.notify_all()
            return None

    def remove(self, name: str) -> bool:
        """Fire it no more; a firing that has begun is ended. Whether there was one of that name."""
        with self._changed:
            found = self._entries.pop(name, None) is not None
            self._changed.notify_all()
            return found

    def _begin(self, entry: Entry) -> None:
        """The first tick from now on, or the latest one that nobody fired."""
        now = self._clock.now()
        latest = entry.schedule.last(now, REACH) if entry.missed is Missed.ONCE else None
        entry.turn_to(latest or entry.schedule.next(now))

    # -- life ---------------------------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Fire from now on, until everybody who wanted it has let go."""
        with self._changed:
            self._users += 1
            if self._users == 1:
                for entry in self._entries.values():
                    self._begin(entry)
            self._run_thread()
            self._changed.notify_all()

    def release(self) -> None:
        """One user wants it no more. With the last one, a firing that has begun is waited for, up to `FAREWELL` seconds."""
        with self._changed:
            self._users = max(0, self._users - 1)
            self._changed.notify_all()
            ending = None if self._users else self._thread
        if ending is not None and ending is not threading.current_thread():
            ending.join(FAREWELL)

    def _run_thread(self) -> None:
        if self._entries and self._thread is None:
            self._looked = self._awake = self._clock.now()
            self._thread = threading.Thread(target=self._run, name="machinery-scheduler", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while (entry := self._wait()) is not None:
            try:
                self._come_to(entry)
            except BaseException:  # a defect in one schedule must not end the others
                self._logger.exception("%s is not fired any more", entry.name)
                with self._changed:
                    entry.turn_to(None)

    def _wait(self) -> Entry | None:
        """The entry that is due; ``None``, and the thread is to end, when nobody wants it or there is nothing any more."""
        with self._changed:
            while self._users and self._entries:
                now = self._look()
                nearest, attempt = self._nearest()
                if nearest is not None and attempt <= now:
                    return nearest
                self._clock.wait(self._changed, min(LONGEST_SLEEP, (attempt - now).total_seconds()))
                self._awake = self._clock.now()
            self._thread = None
            return None

    def _look(self) -> datetime:
        """What the clock says. Where it was set back, it is gone through again.

        Ticks that were fired are known by their keys; and the next one may have been years away, by a clock that was wrong.
        """
        now = self._clock.now()
        if now < self._looked - LATE:
            self._logger.warning("the clock was set back from %s to %s", self._looked.isoformat(), now.isoformat())
            self._awake = now
            for entry in self._entries.values():
                entry.turn_to(entry.schedule.next(now - LATE))
        self._looked = now
        return now

    def _nearest(self) -> tuple[Entry | None, datetime]:
        """The entry to be tried first, and when; without one the time to look again."""
        waiting = [(entry.attempt, entry) for entry in self._entries.values() if entry.attempt is not None]
        if not waiting:
            return None, self._looked + timedelta(seconds=LONGEST_SLEEP)
        attempt, entry = min(waiting, key=lambda pair: pair[0])
        return entry, attempt

    # -- a tick -------------------------------------------------------------------------------------------------------------

    def _come_to(self, entry: Entry) -> None:
        """Fire the tick of ``entry``, or leave it out, and turn to the next one."""
        tick = self._turn_to_latest(entry)
        if tick is None:
            return
        following = entry.schedule.next(tick)
        claims = entry.claims
        try:
            self._fire(entry, tick, following, claims)
        except BaseException as error:  # whatever the application's handlers raise must not end this thread
            self._let_go_if_possible(claims)
            if _is_transient(error):
                self._try_again(entry, tick, following)
                self._logger.warning("%s cannot be sent at its tick of %s yet: %s", entry.name, tick.isoformat(), error)
                return
            self._logger.exception("%s could not be sent at its tick of %s", entry.name, tick.isoformat())
        with self._changed:
            if entry.tick == tick:  # else it has begun anew meanwhile
                entry.turn_to(following)

    def _turn_to_latest(self, entry: Entry) -> datetime | None:
        """The tick to fire: that of ``entry``, the latest one where others have come since, ``None`` where they are missed."""
        with self._changed:
            now = self._clock.now()
            tick = entry.tick
            if tick is None:
                return None
            # What came while this thread was busy with others is not missed.
            oldest = now - REACH if entry.missed is Missed.ONCE else self._awake - LATE
            following = entry.schedule.next(tick)
            if following is not None and following <= now:
                latest = entry.schedule.last(now, now - oldest)
            else:
                latest = None if entry.attempt == tick and tick <= oldest else tick
            if latest != tick:
                entry.turn_to(latest or entry.schedule.next(now))
                self._logger.warning(
                    "%s missed its tick of %s; next is %s",
                    entry.name,
                    tick.isoformat(),
                    f"that of {entry.tick.isoformat()}" if entry.tick else "none",
                )
            return latest

    def _try_again(self, entry: Entry, tick: datetime, following: datetime | None) -> None:
        """Soon, but not later than the next tick."""
        with self._changed:
            if entry.tick == tick:
                soon = self._clock.now() + timedelta(seconds=entry.backoff.next())
                entry.attempt = soon if following is None else min(soon, following)

    def _fire(self, entry: Entry, tick: datetime, following: datetime | None, claims: list[LockToken]) -> None:
        """Send, unless another server has done it. Raises what the lock and sending raise."""
        # What an earlier attempt left, without an answer of the lock: it would hold us off ourselves.
        self._let_go(claims)
        kept = TICK_KEPT + SPREAD * (1 + random.random())  # noqa: S311 - tells apart, hides nothing
        if not (
            self._claim(claims, lock_key(self._program(), entry.name, entry.spec), following or tick + TICK_KEPT)
            and self._claim(claims, tick_key(self._queue(), entry.name, entry.spec, tick), self._clock.now() + kept)
        ):
            self._logger.debug("%s was fired by another server at its tick of %s", entry.name, tick.isoformat())
            return
        entry.send()
        self._logger.info("%s is sent at its tick of %s", entry.name, tick.isoformat())

    # -- its locks ----------------------------------------------------------------------------------------------------------

    def _claim(self, claims: list[LockToken], key: str, until: datetime) -> bool:
        """Whether ``key`` is ours now. Where the lock fails, it is among the claims: it may be."""
        claims.append(LockToken(key, str(to_unix_nanoseconds(until) - 1), until))
        if self._lock.try_acquire(key, until) is None:
            claims.pop()
            return False
        return True

    def _let_go(self, claims: list[LockToken]) -> None:
        """Of the last one first: where Go's lock is free, the tick is, too."""
        while claims:
            self._lock.release(claims[-1])
            claims.pop()

    def _let_go_if_possible(self, claims: list[LockToken]) -> None:
        try:
            self._let_go(claims)
        except Exception as error:  # noqa: BLE001 - what sending raised is to be told; the next attempt lets go
            self._logger.debug("the locks of a tick cannot be let go yet: %s", error)


def lock_key(program: str, name: str, spec: str) -> str:
    """Go's key for a periodic task: all in one, without separators."""
    return f"machinery_lock_{program}{name}{spec}"


def tick_key(queue: str, name: str, spec: str, tick: datetime) -> str:
    """The key of one tick. It names the queue and not the program, as one application may run as several programs."""
    queue, name = (text.replace("%", "%25").replace(":", "%3A") for text in (queue, name))
    return f"machinery:tick:{queue}:{name}:{spec}:{tick.isoformat()}"


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, PublishError):
        return bool(error.failures) and all(isinstance(reason, Unavailable) for reason in error.failures.values())
    return isinstance(error, Unavailable)
