"""One SQS: every call, with what passes by itself sat out, and many calls side by side."""

from __future__ import annotations

import random
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar

from machinery.errors import Closed
from machinery_broker_sqs._errors import DRIVER_ERRORS, expected, is_closed_meanwhile, is_passing, translate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from machinery_broker_sqs._options import SqsOptions

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds before asking again for what was throttled; each time twice as long, and by chance up to half of it less."""

Part = TypeVar("Part")
Answer = TypeVar("Answer")


class Pauses:
    """Growing pauses until ``patience`` seconds are over."""

    def __init__(self, patience: float) -> None:
        self._deadline = monotonic() + patience
        self._longest = FIRST_PAUSE

    def take(self) -> bool:
        """Let a pause pass. False, at once, when there is no time for it."""
        pause = self._longest * random.uniform(0.5, 1.0)  # noqa: S311 - so that those who wait do not all come back at once
        if monotonic() + pause > self._deadline:
            return False
        sleep(pause)
        self._longest = min(LONGEST_PAUSE, 2 * self._longest)
        return True


class Client:
    """One SQS. Safe from any thread; connects when it is first used.

    Every error is translated: `BrokerUnavailable`, `ConfigError` or `Unsupported`; `Closed` after `close`.
    """

    def __init__(
        self,
        make: Callable[[], tuple[Any, Any]],
        options: SqsOptions,
        *,
        address: str,
        patience: float,
        owned: bool = True,
    ) -> None:
        """``make``: the drivers for calls, and for receives. ``patience``: seconds to go on asking what is throttled."""
        self.options = options
        self.address = address
        self.patience = patience
        self._make = make
        self._owned = owned
        """Whether what ``make`` makes is ours to close."""
        self._drivers: tuple[Any, Any] | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._within_pool = threading.local()
        self._guard = threading.Lock()
        self._closed = False
        self._receiving = 0
        """Receives that are under way. What they bring after the end is still given back."""

    # -- calls ---------------------------------------------------------------------------------------------------------

    def call(self, operation: str, queue: str = "", **parameters: Any) -> dict[str, Any]:
        """SQS's answer. Raises `BatchTooLarge` besides. ``queue``: its name, for errors."""
        self.check_open()
        return self._call(self.driver(), operation, queue, parameters)

    def receive(self, queue: str, use: Callable[[list[dict[str, Any]]], None], **parameters: Any) -> None:
        """Have ``use`` take what SQS has. It may still call `give_back`, even when the client was closed meanwhile."""
        self._drivers_made()
        with self._guard:
            self.check_open()
            self._receiving += 1
        try:
            answer = self._call(self._drivers_made()[1], "receive_message", queue, parameters)
            use(answer.get("Messages") or [])
        finally:
            with self._guard:
                self._receiving -= 1
            self._close_drivers()

    def give_back(self, queue: str, address: str, receipts: Sequence[str]) -> None:
        """Let others have these messages at once. For what was received and nobody wants any more. Raises as `call`."""
        for start in range(0, len(receipts), 10):
            entries = [
                {"Id": str(at), "ReceiptHandle": receipt, "VisibilityTimeout": 0}
                for at, receipt in enumerate(receipts[start : start + 10])
            ]
            parameters = {"QueueUrl": address, "Entries": entries}
            self._call(self._drivers_made()[0], "change_message_visibility_batch", queue, parameters)

    def _call(self, driver: Any, operation: str, queue: str, parameters: dict[str, Any]) -> dict[str, Any]:
        pauses = Pauses(self.patience)
        has_lost_connection = False
        while True:
            try:
                answer: dict[str, Any] = getattr(driver, operation)(**parameters)
            except DRIVER_ERRORS as error:
                if is_closed_meanwhile(error) and not has_lost_connection:
                    has_lost_connection = True  # one that was unused for long; every call may be made again
                elif not (is_passing(error) and not self._closed and pauses.take()):
                    raise expected(error) or translate(error, self.address, queue) from None
            else:
                return answer

    def each(self, function: Callable[[Part], Answer], parts: Sequence[Part]) -> list[Answer]:
        """What ``function`` answers to each part, in order; several are asked for at once. Raises the first error in the end."""
        if len(parts) <= 1 or getattr(self._within_pool, "is_ours", False):
            return [function(part) for part in parts]
        try:
            pool = self._parallel()
            futures = [pool.submit(function, part) for part in parts]
            errors = [future.exception() for future in futures]
        except (CancelledError, RuntimeError):  # closed meanwhile
            self.check_open()
            raise
        for error in errors:
            if error is not None:
                raise error
        return [future.result() for future in futures]

    # -- what it holds -------------------------------------------------------------------------------------------------

    def driver(self) -> Any:
        """The boto3 client for calls. Raises `ConfigError`."""
        return self._drivers_made()[0]

    def _drivers_made(self) -> tuple[Any, Any]:
        drivers = self._drivers
        if drivers is None:
            with self._guard:
                self.check_open()
                if self._drivers is None:
                    self._drivers = self._make()
                drivers = self._drivers
        return drivers

    def _parallel(self) -> ThreadPoolExecutor:
        if self._pool is None:
            with self._guard:
                self.check_open()
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(
                        self.options.max_connections, "machinery-sqs", initializer=self._mark_thread
                    )
        return self._pool

    def _mark_thread(self) -> None:
        self._within_pool.is_ours = True

    def check_open(self) -> None:
        """Raise `Closed` after `close`."""
        if self._closed:
            raise Closed(f"the connection to SQS at {self.address} was closed")

    def close(self) -> None:
        """Let go of every connection; a client that the application made is left to it."""
        with self._guard:
            self._closed = True
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._close_drivers()

    def _close_drivers(self) -> None:
        """Once the client is closed and the last receive has ended."""
        with self._guard:
            if not self._closed or self._receiving or not self._owned or self._drivers is None:
                return
            drivers = self._drivers
        for driver in drivers:
            driver.close()
