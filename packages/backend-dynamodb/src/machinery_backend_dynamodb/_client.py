"""One DynamoDB: every call, with what passes by itself sat out, and many calls side by side."""

from __future__ import annotations

import random
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar

from machinery.errors import Closed
from machinery_backend_dynamodb._errors import DRIVER_ERRORS, expected, is_closed_meanwhile, is_passing, translate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from machinery.errors import MachineryError
    from machinery_backend_dynamodb._options import DynamodbOptions

FIRST_PAUSE, LONGEST_PAUSE = 0.025, 1.0
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


class _LeftOut(Exception):
    """Not called, as another call of the same kind has failed."""


class Client:
    """One DynamoDB. Safe from any thread; connects when it is first used.

    Every error is translated: `BackendUnavailable`, `ConfigError` or `Unsupported`; `Closed` after `close`.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        options: DynamodbOptions,
        *,
        address: str,
        patience: float,
        owned: bool = True,
    ) -> None:
        """``patience``: seconds to go on asking what is throttled. ``owned``: what ``make`` makes is ours to close."""
        self.options = options
        self.address = address
        self.patience = patience
        self._make = make
        self._owned = owned
        self._driver: Any = None
        self._pool: ThreadPoolExecutor | None = None
        self._within_pool = threading.local()
        self._opening = threading.Lock()
        self._closed = False

    # -- calls ---------------------------------------------------------------------------------------------------------

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """DynamoDB's answer. Raises `ConditionFailed`, `TransactionCanceled` and `ItemTooLarge` besides."""
        pauses = Pauses(self.patience)
        has_lost_connection = False
        while True:
            self.check_open()
            try:
                answer: dict[str, Any] = getattr(self.driver(), operation)(**parameters)
            except DRIVER_ERRORS as error:
                if is_closed_meanwhile(error) and not has_lost_connection:
                    has_lost_connection = True  # one that was unused for long; every call may be made again
                elif not (is_passing(error) and pauses.take()):
                    raise expected(error) or self.translated(error, parameters) from None
            else:
                return answer

    def translated(self, error: BaseException, parameters: dict[str, Any] | None = None) -> MachineryError:
        """What to raise instead of botocore's ``error``."""
        self.check_open()
        tables = self._tables((parameters or {}).get("TableName"))
        return translate(error, self.address, tables)

    def _tables(self, name: str | None) -> list[str]:
        keys = {self.options.task_states_table: "TaskUUID", self.options.group_metas_table: "GroupUUID"}
        return [f"{table!r} (key {key}, a string)" for table, key in keys.items() if name in {None, table}]

    def each(self, function: Callable[[Part], Answer], parts: Sequence[Part]) -> list[Answer]:
        """What ``function`` answers to each part, in order; several are asked for at once.

        Raises the first error; what was not begun by then is left out.
        """
        if len(parts) <= 1 or getattr(self._within_pool, "is_ours", False):
            return [function(part) for part in parts]
        failed = threading.Event()

        def answer(part: Part) -> Answer:
            if failed.is_set():
                raise _LeftOut
            try:
                return function(part)
            except BaseException:
                failed.set()
                raise

        try:
            pool = self._parallel()
            futures = [pool.submit(answer, part) for part in parts]
            # Not `concurrent.futures.wait`, which does not hear of futures that are cancelled as the pool is shut down.
            errors = [future.exception() for future in futures]
        except (CancelledError, RuntimeError):  # closed meanwhile
            self.check_open()
            raise
        for error in errors:
            if error is not None and not isinstance(error, _LeftOut):
                raise error
        return [future.result() for future in futures]

    # -- what it holds -------------------------------------------------------------------------------------------------

    def driver(self) -> Any:
        """The boto3 client. Raises `Closed`, `ConfigError`."""
        if self._driver is None:
            with self._opening:
                self.check_open()
                if self._driver is None:
                    self._driver = self._make()
        return self._driver

    def _parallel(self) -> ThreadPoolExecutor:
        if self._pool is None:
            with self._opening:
                self.check_open()
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(
                        self.options.max_connections, "machinery-dynamodb", initializer=self._mark_thread
                    )
        return self._pool

    def _mark_thread(self) -> None:
        self._within_pool.is_ours = True

    def check_open(self) -> None:
        """Raise `Closed` after `close`."""
        if self._closed:
            raise Closed(f"the connection to DynamoDB at {self.address} was closed")

    def close(self) -> None:
        """Let go of every connection; a client that the application made is left to it."""
        with self._opening:
            self._closed = True
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        if self._owned and self._driver is not None:
            self._driver.close()
