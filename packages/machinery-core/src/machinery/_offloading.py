"""Blocking calls from coroutines: in a thread, so that the event loop goes on.

`asyncio` is imported by those who run an event loop, and by nobody else: it takes as long as the whole of this package.
"""

from __future__ import annotations

import contextlib
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a call that does not take long, made in one of the event loop's threads."""
    import asyncio  # noqa: PLC0415 - see above

    return await asyncio.to_thread(function, *args, **kwargs)


async def in_own_thread(function: Callable[[Callable[[], bool]], T]) -> T:
    """The result of a call that may take long, made in a thread of its own: an event loop has few, and its end waits for them.

    ``function`` is given a call that tells whether nobody waits for the result any more; then it is to end soon.
    """
    import asyncio  # noqa: PLC0415 - see above

    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()
    context = copy_context()
    given_up = threading.Event()

    def run() -> None:
        try:
            value = context.run(function, given_up.is_set)
        except BaseException as error:  # noqa: BLE001 - it is the waiting coroutine's
            hand_over(result.set_exception, error)
        else:
            hand_over(result.set_result, value)

    def hand_over(settle: Callable[[Any], None], outcome: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(take, settle, outcome)

    def take(settle: Callable[[Any], None], outcome: object) -> None:
        if not result.done():  # else it was cancelled
            settle(outcome)

    threading.Thread(target=run, name="machinery-waiting", daemon=True).start()
    try:
        return await result
    finally:
        given_up.set()
