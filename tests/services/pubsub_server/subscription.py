"""One subscription: what waits, who has what until when, and what comes back. Knows neither gRPC nor a clock."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Any

from google.pubsub_v1 import types

ReceivedMessage = types.ReceivedMessage.pb()
DEFAULT_BACKOFF = (10.0, 600.0)
"""Seconds that a retry policy has where it does not say: the shortest and the longest."""


@dataclass(slots=True, eq=False)
class Taker:
    """A stream, or one Pull. ``limit``, ``limit_bytes``: how much it may hold. ``lease``: seconds, for each message."""

    lease: float
    limit: float
    limit_bytes: float = float("inf")
    outbox: list[Any] = field(default_factory=list)
    """What it was given and has not been sent."""
    held: int = 0
    held_bytes: int = 0
    served: int = 0
    """The number of the last delivery that it was given."""

    @property
    def has_room(self) -> bool:
        return self.held < self.limit and self.held_bytes < self.limit_bytes


@dataclass(slots=True, order=True)
class _Kept:
    """A message that nobody has acknowledged. They are ordered as they were published."""

    number: int
    message: Any = field(compare=False)
    size: int = field(compare=False)
    returns: int = field(default=0, compare=False)
    """How often it was handed back, or its lease ran out."""


@dataclass(slots=True)
class _Loan:
    kept: _Kept
    taker: Taker
    until: float
    looked_at: float
    """When the list of expiries looks at it: not after ``until``."""


class Subscription:
    """The state of one subscription.

    ``bury(message, returns)`` is called for what has used up the attempts of the dead-letter policy, ``settled(numbers)`` for
    what is gone for good. Every ``now`` is seconds of one monotonic clock.
    """

    def __init__(self, config: Any, bury: Callable[[Any, int], None], settled: Callable[[Sequence[int]], None]) -> None:
        self.config = config
        self.streams: list[Taker] = []
        self._bury = bury
        self._settled = settled
        self._ready: list[_Kept] = []
        self._backing_off: list[tuple[float, _Kept]] = []
        self._loans: dict[str, _Loan] = {}
        self._expiries: list[tuple[float, str]] = []
        self._keys: dict[str, dict[int, Taker | None]] = {}
        """By ordering key the numbers of what is lent, with who has it, or backs off (None). What comes later may not pass by."""
        self._set_aside: dict[str, list[_Kept]] = {}
        """By ordering key what waits for those."""
        self._label = secrets.token_hex(4)
        self._deliveries = count(1)

    def __len__(self) -> int:
        """How many are not acknowledged."""
        aside = sum(map(len, self._set_aside.values()))
        return len(self._ready) + len(self._backing_off) + len(self._loans) + aside

    # -- what comes and goes ------------------------------------------------------------------------------------------------

    def add(self, number: int, message: Any) -> None:
        """A message was published."""
        heappush(self._ready, _Kept(number, message, len(message.data)))

    def lend(self, takers: Sequence[Taker], now: float) -> None:
        """Give what is ready to whoever has room: the emptiest first, of these who has waited longest."""
        rooms = [taker for taker in takers if taker.has_room]
        while self._ready and rooms:
            kept = heappop(self._ready)
            if self._has_used_up(kept):
                self._bury(kept.message, kept.returns)
                self._settled([kept.number])
                continue
            taker: Taker | None = min(rooms, key=lambda room: (room.held, room.served))
            key = kept.message.ordering_key if self.config.enable_message_ordering else ""
            if key and (holders := self._keys.get(key)):
                taker = next(iter(holders.values()))
                if taker not in rooms:
                    self._set_aside.setdefault(key, []).append(kept)
                    continue
            if taker is not None:
                self._lend(kept, taker, key, now)
                if not taker.has_room:
                    rooms.remove(taker)

    def acknowledge(self, ack_ids: Iterable[str], now: float) -> list[str]:
        """Settle these for good. Those of them that are good for nothing any more."""
        self.pass_time(now)
        invalid, numbers = [], []
        for ack_id in ack_ids:
            loan = self._take_back(ack_id)
            if loan is None:
                invalid.append(ack_id)
            else:
                numbers.append(loan.kept.number)
        self._settled(numbers)
        return invalid

    def modify(self, ack_ids: Iterable[str], seconds: float, now: float) -> list[str]:
        """Have these leases end so many seconds from now; 0 hands back. Those that are good for nothing any more."""
        self.pass_time(now)
        invalid = []
        for ack_id in ack_ids:
            loan = self._loans.get(ack_id)
            if loan is None:
                invalid.append(ack_id)
            elif seconds <= 0:
                self._return(ack_id, now)
            else:
                loan.until = now + seconds
                if loan.until < loan.looked_at:
                    loan.looked_at = loan.until
                    heappush(self._expiries, (loan.until, ack_id))
        return invalid

    def pass_time(self, now: float) -> None:
        """Take back what was not renewed, and make ready what has backed off for long enough."""
        while self._expiries and self._expiries[0][0] <= now:
            looked_at, ack_id = heappop(self._expiries)
            loan = self._loans.get(ack_id)
            if loan is None or loan.looked_at != looked_at:
                continue
            if loan.until <= now:
                self._return(ack_id, now)
            else:
                loan.looked_at = loan.until
                heappush(self._expiries, (loan.until, ack_id))
        while self._backing_off and self._backing_off[0][0] <= now:
            _, kept = heappop(self._backing_off)
            heappush(self._ready, kept)
            self._free(kept)

    def changes_at(self) -> float | None:
        """When there will be more to lend, if nothing else happens; a little early at times."""
        return min([heap[0][0] for heap in (self._expiries, self._backing_off) if heap], default=None)

    def forget(self, published_before: float) -> None:
        """Settle what was published until then (seconds since 1970), whoever has it."""
        for ack_id, loan in list(self._loans.items()):
            if _published(loan.kept) <= published_before:
                self._settled([loan.kept.number])
                self._take_back(ack_id)
        old: list[int] = []
        self._ready = _without(self._ready, published_before, old)
        for key, kept in list(self._set_aside.items()):
            self._set_aside[key] = _without(kept, published_before, old)
        for entry in [entry for entry in self._backing_off if _published(entry[1]) <= published_before]:
            self._backing_off.remove(entry)
            self._free(entry[1])
            old.append(entry[1].number)
        self._settled(old)

    def drop(self, numbers: set[int]) -> None:
        """These were settled in an earlier life; nothing has been lent in this one."""
        self._ready = [kept for kept in self._ready if kept.number not in numbers]  # still ordered, so still a heap

    # -- the parts ----------------------------------------------------------------------------------------------------------

    def _has_used_up(self, kept: _Kept) -> bool:
        policy = self.config.dead_letter_policy
        return bool(policy.dead_letter_topic) and kept.returns >= policy.max_delivery_attempts

    def _lend(self, kept: _Kept, taker: Taker, key: str, now: float) -> None:
        taker.served = next(self._deliveries)
        ack_id = f"{self._label}-{taker.served}"
        until = now + taker.lease
        self._loans[ack_id] = _Loan(kept, taker, until, until)
        heappush(self._expiries, (until, ack_id))
        if key:
            self._keys.setdefault(key, {})[kept.number] = taker
        taker.held += 1
        taker.held_bytes += kept.size
        received = ReceivedMessage(ack_id=ack_id, message=kept.message)
        if self.config.dead_letter_policy.dead_letter_topic:
            received.delivery_attempt = kept.returns + 1
        taker.outbox.append(received)

    def _take_back(self, ack_id: str) -> _Loan | None:
        loan = self._loans.pop(ack_id, None)
        if loan is not None:
            loan.taker.held -= 1
            loan.taker.held_bytes -= loan.kept.size
            self._free(loan.kept)
        return loan

    def _free(self, kept: _Kept) -> None:
        key = kept.message.ordering_key
        if kept.number in self._keys.get(key, ()):
            del self._keys[key][kept.number]
            if not self._keys[key]:
                del self._keys[key]
        for waiting in self._set_aside.pop(key, ()):
            heappush(self._ready, waiting)

    def _return(self, ack_id: str, now: float) -> None:
        loan = self._take_back(ack_id)
        if loan is None:
            return
        kept = loan.kept
        kept.returns += 1
        key = kept.message.ordering_key
        for later, other in list(self._loans.items()) if key in self._keys else ():
            if other.kept.message.ordering_key == key and other.kept.number > kept.number:
                self._take_back(later)
                heappush(self._ready, other.kept)
        wait = self._backoff(kept)
        if not wait:
            heappush(self._ready, kept)
            return
        heappush(self._backing_off, (now + wait, kept))
        if key and self.config.enable_message_ordering:
            self._keys.setdefault(key, {})[kept.number] = None

    def _backoff(self, kept: _Kept) -> float:
        if not self.config.HasField("retry_policy"):
            return 0
        policy = self.config.retry_policy
        shortest = _seconds(policy.minimum_backoff) if policy.HasField("minimum_backoff") else DEFAULT_BACKOFF[0]
        longest = _seconds(policy.maximum_backoff) if policy.HasField("maximum_backoff") else DEFAULT_BACKOFF[1]
        return min(longest, shortest * 2.0 ** (kept.returns - 1))


def _seconds(duration: Any) -> float:
    return float(duration.seconds + duration.nanos / 1e9)


def _published(kept: _Kept) -> float:
    return _seconds(kept.message.publish_time)


def _without(kept: list[_Kept], published_before: float, old: list[int]) -> list[_Kept]:
    old += [each.number for each in kept if _published(each) <= published_before]
    return [each for each in kept if _published(each) > published_before]
