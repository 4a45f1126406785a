"""What waits for its time, in a queue's topic of delays, watched by the keepers of its workers.

Pub/Sub delivers at once and knows no delay, but what was delivered and is not settled comes again when its acknowledgement
deadline is over, and that can be set to up to ten minutes. So a keeper that gets what has longer to wait sends it away for most
of that time; what is due within `HELD` it holds, and publishes to the queue itself when the time has come. Nobody holds more than
what is due soon, and what somebody held who died comes again `LEASE` later. See docs/adr/0014.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from time import monotonic, time
from typing import Any

from machinery.errors import BrokerUnavailable, Closed, MachineryError
from machinery_broker_gcp._client import Client
from machinery_broker_gcp._errors import is_away
from machinery_broker_gcp._names import ETA, delay_of
from machinery_broker_gcp._publishing import MESSAGES_AT_ONCE, Publisher, due
from machinery_broker_gcp._stream import UNLIMITED, Stream

LEASE = 30
"""Seconds that what was pushed stays with a keeper."""
HELD = 15.0
"""Seconds: what is due within these is held, to be in time."""
HOPS = (600, 300, 150, 75, 40, 20, 10)
"""For how many seconds what is due later is sent away: for the longest that leaves `_MARGIN`."""
_MARGIN = 5.0
"""Seconds that something may come back later than asked for."""
MOST_HELD = 20_000
"""Messages held at most; beyond them even what is due soon is sent away once more."""
RENEWED_AFTER = timedelta(days=1)
"""What was published so long ago is published again: Pub/Sub drops what is older than the subscription's retention (7 days)."""
LONGEST_PAUSE = 0.5
"""Seconds between two looks at what is held."""
_LASTING = 5.0
"""Seconds after which a stream that ends counts as one that had been well."""
_GOODBYE = 0.5
"""Seconds that closing waits for the stream to end."""


class Delays:
    """The delays of one queue, as one consumer's keeper sees to them."""

    def __init__(self, client: Client, publisher: Publisher, queue: str, name: str) -> None:
        self._client = client
        self._publisher = publisher
        self._queue = queue
        self._name = name
        self._topic = delay_of(queue)
        self._subscription = client.names.subscription(self._topic)
        self._guard = threading.Lock()
        """Guards all that follows."""
        self._stream: Stream | None = None
        self._error: BaseException | None = None
        self._held: list[tuple[float, int, float, Any]] = []
        """A heap: when it is due (Unix seconds), a number to tell equals, when it is ours no more (monotonic), itself."""
        self._old: list[Any] = []
        """What is to be published again, as it was."""
        self._numbers = count()
        self._last_run = monotonic()
        self._is_stopped = False

    def run(self) -> float:
        """Publish what is due. Returns in how many seconds to call again. Raises what publishing raises; nothing is lost then."""
        with self._guard:
            self._last_run = monotonic()
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._stream is None and not self._is_stopped:
                self._stream = self._open()
            old, self._old = self._old, []
        self._renew(old)
        while ready := self._take_due():
            self._send(ready)
        with self._guard:
            return min(LONGEST_PAUSE, max(0.0, self._held[0][0] - time())) if self._held else LONGEST_PAUSE

    def _take_due(self) -> list[tuple[float, int, float, Any]]:
        ready: list[tuple[float, int, float, Any]] = []
        now, ours = time(), monotonic()
        with self._guard:
            while self._held and self._held[0][0] <= now and len(ready) < MESSAGES_AT_ONCE:
                entry = heappop(self._held)
                if entry[2] > ours:  # else it comes again
                    ready.append(entry)
        return ready

    def _send(self, ready: Sequence[tuple[float, int, float, Any]]) -> None:
        try:
            self._publisher.put(self._queue, [due(received.message) for _, _, _, received in ready])
        except BaseException:
            with self._guard:
                for entry in ready:
                    heappush(self._held, entry)
            raise
        self._client.acknowledge(self._subscription, [received.ack_id for _, _, _, received in ready])

    def _renew(self, old: Sequence[Any]) -> None:
        for begin in range(0, len(old), MESSAGES_AT_ONCE):
            part = old[begin : begin + MESSAGES_AT_ONCE]
            again = [type(each.message)(data=each.message.data, attributes=each.message.attributes) for each in part]
            self._publisher.put(self._topic, again)
            self._client.acknowledge(self._subscription, [each.ack_id for each in part])

    # -- the stream ---------------------------------------------------------------------------------------------------------

    def _open(self) -> Stream:
        return Stream(
            self._client,
            self._subscription,
            limit=UNLIMITED,
            deadline=LEASE,
            name=self._name,
            arrived=self._on_arrival,
            ended=self._on_end,
        )

    def _on_arrival(self, stream: Stream, received: Sequence[Any], _: bool) -> None:
        now, came = time(), monotonic()
        away: dict[int, list[str]] = defaultdict(list)
        oldest = now - RENEWED_AFTER.total_seconds()
        with self._guard:
            is_over = self._is_stopped or came - self._last_run > LEASE / 2
            if is_over:
                self._stream = None
            for each in received if not is_over else ():
                eta = _eta_of(each.message)
                rest = eta - now
                if rest > HELD:
                    if 0 < each.message.publish_time.seconds < oldest:
                        self._old.append(each)
                    else:
                        away[_hop(rest)].append(each.ack_id)
                elif len(self._held) < MOST_HELD:
                    heappush(self._held, (eta, next(self._numbers), came + LEASE - 1, each))
                else:
                    away[max(1, min(HOPS[-1], int(rest)))].append(each.ack_id)
        if is_over:  # stopped, or nobody calls `run` any more
            stream.halt()
            self._client.give_back_soon(self._subscription, [each.ack_id for each in received])
            return
        for seconds, ids in away.items():
            try:
                self._client.modify(self._subscription, ids, seconds)
            except MachineryError:  # then they come again when their lease is over
                return

    def _on_end(self, stream: Stream, error: BaseException | None) -> None:
        with self._guard:
            if self._stream is not stream:
                return
            self._stream = None
            was_well = stream.has_delivered or monotonic() - stream.opened_at > _LASTING
            if was_well and (error is None or is_away(error)):
                return
            if error is None:
                self._error = BrokerUnavailable(
                    f"Pub/Sub at {self._client.service.address} ended the stream of {self._topic}"
                )
                return
            try:
                self._error = self._client.translated(error, self._subscription)
            except Closed:
                return

    # -- the end ------------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Take no more, and give back what is held, for others to see to."""
        with self._guard:
            if self._is_stopped:
                return
            self._is_stopped = True
            held = [each for _, _, _, each in self._held] + self._old
            self._held, self._old = [], []
            stream = self._stream
        if stream is not None:
            stream.halt()
        self._client.give_back_soon(self._subscription, [each.ack_id for each in held])

    def close(self) -> None:
        """End the stream."""
        self.stop()
        stream = self._stream
        if stream is not None and not stream.wait(_GOODBYE):
            stream.cut()


def _hop(rest: float) -> int:
    """For how many seconds to send away what is due in ``rest``."""
    return next((hop for hop in HOPS if hop <= rest - _MARGIN), HOPS[-1])


def _eta_of(message: Any) -> float:
    """When it is due, in Unix seconds; at once where it does not say."""
    try:
        eta = datetime.fromisoformat(message.attributes.get(ETA, ""))
    except ValueError:
        return 0.0
    return (eta if eta.tzinfo is not None else eta.replace(tzinfo=UTC)).timestamp()
