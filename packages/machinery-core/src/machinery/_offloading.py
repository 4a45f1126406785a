"""Blocking calls from coroutines: in a thread, so that the event loop goes on.

`asyncio` is imported by those who run an event loop, and by nobody else: it takes as long as the whole of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a call that does not take long, made in one of the event loop's threads."""
    import asyncio  # noqa: PLC0415 - see above

    return await asyncio.to_thread(function, *args, **kwargs)
