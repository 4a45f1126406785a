"""Blocking calls from coroutines: in a thread, so that the event loop goes on.

`asyncio` is imported by those who run an event loop, and by nobody else: it takes as long as the whole of this package.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextvars import copy_context
from functools import cache
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a call that does not take long, made in one of the event loop's threads."""
    import asyncio  # noqa: PLC0415 - see above

    return await asyncio.to_thread(function, *args, **kwargs)


WAITERS = 32
"""How many coroutines may wait at the same moment, each with a thread and a connection; more of them take turns."""
TURN, SHORT_TURN = 5.0, 0.25
"""Seconds that a coroutine may wait before others have their turn: while there is a thread for each, and while there is not. A
coroutine that is cancelled leaves its thread behind for so long."""

Steps = Generator[None, None, T]
"""A wait in steps: it stops after each that was in vain, and returns what was waited for."""


class Turns:
    """The threads in which coroutines wait: the event loop's own are few, for short calls, and its end waits for them."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._waiting = 0

    def longest_step(self) -> float:
        """Seconds that the next step may take."""
        return TURN if self._waiting <= WAITERS else SHORT_TURN

    async def wait(self, steps: Steps[T]) -> T:
        """What ``steps`` return, each step in one of the threads."""
        import asyncio  # noqa: PLC0415 - see above

        loop = asyncio.get_running_loop()
        context = copy_context()
        self._waiting += 1
        try:
            while True:
                result = await loop.run_in_executor(self._threads(), context.run, _step, steps)
                if result:
                    return result[0]
        finally:
            self._waiting -= 1

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - as asyncio

            self._pool = ThreadPoolExecutor(WAITERS, "machinery-waiting")
        return self._pool


def turns() -> Turns:
    """Those of this process."""
    return _turns(os.getpid())


@cache
def _turns(pid: int) -> Turns:  # noqa: ARG001 - a forked child has none of its parent's threads
    return Turns()


def finish(steps: Steps[T]) -> T:
    """What ``steps`` return, waited for here."""
    while not (result := _step(steps)):
        pass
    return result[0]


def _step(steps: Steps[T]) -> tuple[T] | None:
    try:
        next(steps)
    except StopIteration as end:
        return (end.value,)
    return None
