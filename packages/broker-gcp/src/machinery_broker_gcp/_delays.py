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
from typing import Any, NamedTuple

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
PAUSE = 1.0
"""Seconds after which a keeper is to look whether all is well."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds before sending on again what could not be sent on; each time twice as long."""
_LONGEST_WAIT = 60.0
"""Seconds after which the clock is looked at again, should somebody have set it."""
_LASTING = 5.0
"""Seconds after which a stream that ends counts as one that had been well."""
_GOODBYE = 0.5
"""Seconds that closing waits for the stream to end, and for what is being sent on."""


class _Entry(NamedTuple):
    """One message that is held until it is due."""

    eta: float
    """When it is due, in Unix seconds."""
    number: int
    """To tell apart those of one instant."""
    until: float
    """When it is ours no more, monotonic."""
    received: Any


class Delays:
    """The delays of one queue, as one consumer's keeper sees to them."""

    def __init__(self, client: Client, publisher: Publisher, queue: str, name: str) -> None:
        self._client = client
        self._publisher = publisher
        self._queue = queue
        self._name = name
        self._topic = delay_of(queue)
        self._subscription = client.names.subscription(self._topic)
        self._news = threading.Condition()
        """Guards all that follows."""
        self._stream: Stream | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._held: list[_Entry] = []
        """A heap."""
        self._old: list[Any] = []
        """What is to be published again, as it was."""
        self._numbers = count()
        self._last_run = monotonic()
        self._is_stopped = False

    def run(self) -> float:
        """See that what waits is watched. Returns in how many seconds to call again. Raises what has gone wrong since."""
        with self._news:
            self._last_run = monotonic()
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._stream is None and not self._is_stopped:
                self._stream = self._open()
            if self._thread is None and not self._is_stopped:
                self._thread = threading.Thread(
                    target=self._forward, name=f"machinery-delays-{self._name}", daemon=True
                )
                self._thread.start()
        return PAUSE

    # -- the thread that sends on -------------------------------------------------------------------------------------------

    def _forward(self) -> None:
        pause = FIRST_PAUSE
        while True:
            with self._news:
                while not self._is_stopped and not self._old and (wait := self._wait()) > 0:
                    self._news.wait(min(wait, _LONGEST_WAIT))
                if self._is_stopped:
                    return
                old, self._old = self._old, []
                ready = self._take_due()
            try:
                try:
                    self._send(ready)
                finally:  # each whatever becomes of the other
                    self._renew(old)
                pause = FIRST_PAUSE
            except Closed:
                return
            except MachineryError as error:
                with self._news:
                    self._error = error
                    self._news.wait_for(lambda: self._is_stopped, pause)
                pause = min(LONGEST_PAUSE, 2 * pause)

    def _wait(self) -> float:
        """Seconds until the next one is due."""
        return self._held[0].eta - time() if self._held else float("inf")

    def _take_due(self) -> list[_Entry]:
        ready: list[_Entry] = []
        now, ours = time(), monotonic()
        while self._held and self._held[0].eta <= now and len(ready) < MESSAGES_AT_ONCE:
            entry = heappop(self._held)
            if entry.until > ours:  # else it comes again
                ready.append(entry)
        return ready

    def _send(self, ready: Sequence[_Entry]) -> None:
        if not ready:
            return
        try:
            failures = self._publisher.try_to_put(self._queue, [due(entry.received.message) for entry in ready])
        except BaseException:
            with self._news:
                for entry in ready:
                    heappush(self._held, entry)
            raise
        with self._news:
            for position in failures:
                heappush(self._held, ready[position])
        sent = [entry for position, entry in enumerate(ready) if position not in failures]
        self._client.acknowledge(self._subscription, [entry.received.ack_id for entry in sent])
        for error in failures.values():
            raise error

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
        with self._news:
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
                    heappush(self._held, _Entry(eta, next(self._numbers), came + LEASE - 1, each))
                else:
                    away[max(1, min(HOPS[-1], int(rest)))].append(each.ack_id)
            self._news.notify_all()
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
        with self._news:
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
        with self._news:
            if self._is_stopped:
                return
            self._is_stopped = True
            held = [entry.received for entry in self._held] + self._old
            self._held, self._old = [], []
            stream = self._stream
            self._news.notify_all()
        if stream is not None:
            stream.halt()
        self._client.give_back_soon(self._subscription, [each.ack_id for each in held])

    def close(self) -> None:
        """End the stream, and let what is being sent on be acknowledged: else it would be sent on again."""
        self.stop()
        stream, thread = self._stream, self._thread
        if stream is not None and not stream.wait(_GOODBYE):
            stream.cut()
        if thread is not None:
            thread.join(_GOODBYE)


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
