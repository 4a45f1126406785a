"""Soft time limits of functions: an exception raised in the thread that has run too long."""

from __future__ import annotations

import ctypes
import heapq
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from machinery.errors import SoftTimeLimitExceeded


class _Watch:
    __slots__ = ("done", "fired", "seconds", "thread_id")

    def __init__(self, thread_id: int, seconds: float) -> None:
        self.thread_id = thread_id
        self.seconds = seconds
        self.done = False
        self.fired = False


class TimeLimits:
    """One thread, started at the first limit, that interrupts what runs too long. Costs nothing to tasks without a limit."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._strike = threading.Lock()
        self._due: list[tuple[float, int, _Watch]] = []
        self._count = 0
        self._thread: threading.Thread | None = None
        self._stopped = False

    @contextmanager
    def watch(self, seconds: float) -> Iterator[None]:
        """Raise `SoftTimeLimitExceeded` in this thread once the body has run for ``seconds``.

        It arrives between two bytecodes: a call that blocks in C (a sleep, a socket) is interrupted when it returns.
        """
        mine = _Watch(threading.get_ident(), seconds)
        with self._changed:
            self._count += 1
            heapq.heappush(self._due, (time.monotonic() + seconds, self._count, mine))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="machinery-time-limits", daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            try:
                yield
            finally:
                # A bare lock: entering it is one step to the interpreter, so the exception cannot strike with it held.
                with self._strike:
                    mine.done = True
                    if mine.fired:
                        # Fired in the very moment the body ended: it must not strike later, in somebody else's task.
                        _raise_in(mine.thread_id, None)
        except SoftTimeLimitExceeded as error:
            if error.args:
                raise
            raise SoftTimeLimitExceeded(f"ran longer than its soft time limit of {seconds:g} s") from None

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while not self._stopped:
                if not self._due:
                    self._changed.wait()
                    continue
                wait = self._due[0][0] - time.monotonic()
                if wait > 0:
                    self._changed.wait(wait)
                    continue
                _, _, watch = heapq.heappop(self._due)
                with self._strike:
                    if not watch.done:
                        watch.fired = True
                        _raise_in(watch.thread_id, SoftTimeLimitExceeded)


def _raise_in(thread_id: int, exception: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread_id), None if exception is None else ctypes.py_object(exception)
    )
