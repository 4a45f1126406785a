"""Which call goes wrong, and how."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeVar

from machinery.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

FOR_EVER = 1 << 60


class Crash(BaseException):
    """The process has died here, as far as the services can tell: every later call through the same plan raises it too."""


def _raise(crash: Crash) -> NoReturn:
    raise crash


@dataclass(frozen=True, slots=True)
class _Fault:
    first: int
    last: int
    applied: bool
    error: BaseException | None


class FaultPlan:
    """Says which calls of `FaultyBroker`, `FaultyConsumer` and `FaultyBackend` fail. Safe from any thread.

    Calls are named as the methods are (``publish``, ``receive``, ``ack``, ``save`` …) and counted from 1 for each name, over all
    objects that share the plan. A fault without ``error`` is the `Unavailable` of the service called. ``die`` is what a crash
    does: raise the `Crash`, or in a process of its own something more lasting.
    """

    def __init__(self, *, die: Callable[[Crash], NoReturn] = _raise) -> None:
        self._die = die
        self.calls: list[str] = []
        """The names of all calls so far, in order."""
        self.crashed = threading.Event()
        """Set when a `Crash` was raised."""
        self._counts: Counter[str] = Counter()
        self._faults: dict[str, list[_Fault]] = {}
        self._lock = threading.Lock()

    def fail(self, method: str, *, nth: int = 1, times: int = 1, error: BaseException | None = None) -> None:
        """The ``nth`` call of ``method`` from now on (and ``times - 1`` after it) is not carried out and raises."""
        self._add(method, nth, times, False, error)

    def lose_reply(self, method: str, *, nth: int = 1, times: int = 1, error: BaseException | None = None) -> None:
        """The ``nth`` call of ``method`` from now on (and ``times - 1`` after it) *is* carried out and raises all the same."""
        self._add(method, nth, times, True, error)

    def fail_until_mended(self, method: str) -> None:
        """Every call of ``method`` fails until `mend`."""
        self.fail(method, times=FOR_EVER)

    def crash_before(self, method: str, *, nth: int = 1) -> None:
        """The process dies as it is about to make the ``nth`` call of ``method``."""
        self._add(method, nth, 1, False, Crash(f"before {method}"))

    def crash_after(self, method: str, *, nth: int = 1) -> None:
        """The process dies when the ``nth`` call of ``method`` has been carried out, before it sees the answer."""
        self._add(method, nth, 1, True, Crash(f"after {method}"))

    def mend(self) -> None:
        """No further call fails, but after a crash."""
        with self._lock:
            self._faults.clear()

    def count(self, method: str) -> int:
        """How often ``method`` was called."""
        return self._counts[method]

    def is_planned(self, method: str) -> bool:
        """Whether the next call of ``method`` is to fail, or the process has died."""
        with self._lock:
            number = self._counts[method] + 1
            planned = any(fault.first <= number <= fault.last for fault in self._faults.get(method, ()))
            return planned or self.crashed.is_set()

    def call(self, method: str, unavailable: type[Unavailable], function: Callable[[], T]) -> T:
        """Make a call, unless it is planned otherwise."""
        fault = self._next(method)
        if fault is None:
            return function()
        answer = function() if fault.applied else None
        error = fault.error or unavailable(
            f"{method} was to fail{' after it was carried out' if fault.applied else ''}"
        )
        del answer
        if isinstance(error, Crash):
            self.crashed.set()
            self._die(error)
        raise error

    def _next(self, method: str) -> _Fault | None:
        with self._lock:
            if self.crashed.is_set():
                return _Fault(0, 0, False, Crash(f"{method} of a dead process"))
            self.calls.append(method)
            self._counts[method] += 1
            number = self._counts[method]
            for fault in self._faults.get(method, ()):
                if fault.first <= number <= fault.last:
                    return fault
            return None

    def _add(self, method: str, nth: int, times: int, applied: bool, error: BaseException | None) -> None:
        with self._lock:
            first = self._counts[method] + nth
            self._faults.setdefault(method, []).append(_Fault(first, first + times - 1, applied, error))
