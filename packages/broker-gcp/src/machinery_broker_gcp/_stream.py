"""One StreamingPull: Pub/Sub pushes messages through it, up to as many as may be unsettled at once.

That number is said once, when the stream is opened: for another one there has to be another stream. What was pushed outlives its
stream: it is settled by calls of their own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Any

from machinery_broker_gcp._client import Client, StreamingPull
from machinery_broker_gcp._errors import DRIVER_ERRORS

UNLIMITED = 0
"""As Pub/Sub has it."""
LARGEST_IN_FLIGHT = 100 * 1024 * 1024
"""Bytes that may be unsettled at once, where there is a limit."""
_SIGN_OF_LIFE = 25.0
"""Seconds after which we say that we are still there: Pub/Sub ends a stream on which we are silent for long."""
_FAREWELL = 10.0
"""Seconds that Pub/Sub has to end a stream we have no more to say on; what was under way comes before that."""


class Stream:
    """A stream, read in a thread of its own. ``arrived`` and ``ended`` are called there."""

    def __init__(
        self,
        client: Client,
        subscription: str,
        *,
        limit: int,
        deadline: int,
        name: str,
        arrived: Callable[[Stream, Sequence[Any], bool], None],
        ended: Callable[[Stream, BaseException | None], None],
    ) -> None:
        """``subscription``: its full name. ``deadline``: seconds that what is pushed stays ours. ``name``: of the consumer."""
        self.limit = limit
        self.unsettled = 0
        """For the consumer: how many of what came through it are not settled."""
        self.has_delivered = False
        """Whether a message came; an answer without one may be all there is before an error."""
        self.opened_at = monotonic()
        self._first = StreamingPull(
            subscription=subscription,
            stream_ack_deadline_seconds=deadline,
            client_id=name,
            max_outstanding_messages=limit,
            max_outstanding_bytes=LARGEST_IN_FLIGHT if limit else UNLIMITED,
        )
        self._arrived = arrived
        self._ended = ended
        self._silenced = threading.Event()
        self._farewell: threading.Timer | None = None
        self._call = client.stream(self._requests(), subscription)
        self._thread = threading.Thread(target=self._read, name=f"machinery-pubsub-{name}", daemon=True)
        self._thread.start()

    def _requests(self) -> Iterator[Any]:
        yield self._first
        while not self._silenced.wait(_SIGN_OF_LIFE):
            yield StreamingPull()

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            for response in self._call:
                self.has_delivered = self.has_delivered or bool(response.received_messages)
                properties = response.subscription_properties
                self._arrived(self, response.received_messages, properties.exactly_once_delivery_enabled)
        except DRIVER_ERRORS as caught:
            error = caught
        finally:
            self._silenced.set()
            if self._farewell is not None:
                self._farewell.cancel()
            self._ended(self, error)

    def halt(self) -> None:
        """Take no more. Returns at once; what is under way still arrives."""
        if self._silenced.is_set():
            return
        self._farewell = threading.Timer(_FAREWELL, self.cut)
        self._farewell.daemon = True
        self._farewell.start()
        self._silenced.set()

    def cut(self) -> None:
        """End it now; what is under way comes again when its time is over."""
        self._silenced.set()
        self._call.cancel()

    def wait(self, timeout: float) -> bool:
        """Whether it has ended, after so many seconds at most."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()
