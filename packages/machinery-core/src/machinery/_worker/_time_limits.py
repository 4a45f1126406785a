"""Soft time limits of functions: an exception raised in the thread that has run too long."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from machinery.errors import SoftTimeLimitExceeded

_NEVER = float("inf")
_TURNS = 100


class _Watch:
    __slots__ = ("deadline", "done", "fired", "thread_id")

    def __init__(self, thread_id: int, deadline: float) -> None:
        self.thread_id = thread_id
        self.deadline = deadline
        self.done = False
        self.fired = False


class TimeLimits:
    """One thread, started at the first limit, that interrupts what runs too long. Costs nothing to tasks without a limit."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._strike = threading.Lock()
        self._watches: dict[int, _Watch] = {}
        """By thread: what is watched now. One that has ended is forgotten at once, however far its limit was."""
        self._next = _NEVER
        """When the thread will look, monotonic seconds."""
        self._thread: threading.Thread | None = None
        self._stopped = False

    @contextmanager
    def watch(self, seconds: float) -> Iterator[None]:
        """Raise `SoftTimeLimitExceeded` in this thread once the body has run for ``seconds``.

        It arrives between two bytecodes: a call that blocks in C (a sleep, a socket) is interrupted when it returns.
        """
        mine = _Watch(threading.get_ident(), time.monotonic() + seconds)
        self._add(mine)
        try:
            try:
                yield
            finally:
                # A bare lock: entering it is one step to the interpreter, so the exception cannot strike with it held.
                with self._strike:
                    mine.done = True
                self._watches.pop(mine.thread_id, None)
                if mine.fired:
                    _let_strike()
        except SoftTimeLimitExceeded as error:
            if error.args:
                raise
            raise SoftTimeLimitExceeded(f"ran longer than its soft time limit of {seconds:g} s") from None

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _add(self, watch: _Watch) -> None:
        with self._changed:
            self._watches[watch.thread_id] = watch
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="machinery-time-limits", daemon=True)
                self._thread.start()
            if watch.deadline < self._next:
                self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                watches = list(self._watches.values())
                for watch in watches:
                    if watch.deadline <= now:
                        self._interrupt(watch)
                self._next = min((watch.deadline for watch in watches if not watch.fired), default=_NEVER)
                self._changed.wait(None if self._next == _NEVER else max(0.0, self._next - now))

    def _interrupt(self, watch: _Watch) -> None:
        with self._strike:
            if not watch.done and not watch.fired:
                watch.fired = True
                _raise_in(watch.thread_id, SoftTimeLimitExceeded)


def _let_strike() -> None:
    """Take what was fired in the very moment the body ended: it must not strike later, in somebody else's task.

    It strikes at the interpreter's next look, which every turn of a loop is. (Withdrawing it by ``PyThreadState_SetAsyncExc(…,
    NULL)`` would leave CPython 3.11 looking for ever after, at every turn of every thread.)
    """
    with contextlib.suppress(SoftTimeLimitExceeded):
        for _ in range(_TURNS):
            pass


def _raise_in(thread_id: int, exception: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(exception))
