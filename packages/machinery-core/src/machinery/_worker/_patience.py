"""Trying again while a service is away: nothing is dropped, and everything that waits can be told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from machinery._retry import Backoff
from machinery.errors import Unavailable

if TYPE_CHECKING:
    from machinery._worker._hooks import Hooks

T = TypeVar("T")


class GivenUp(Exception):
    """The worker leaves at once: what waits for a service is left to be delivered again."""


class Patience:
    """Calls a service until it answers. `give_up` makes every caller raise `GivenUp` at its next failure."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._given_up = threading.Event()
        self._struggling: set[object] = set()

    @property
    def struggling(self) -> int:
        """How many callers are waiting for a service now."""
        return len(self._struggling)

    def give_up(self) -> None:
        """Nobody waits any longer."""
        self._given_up.set()

    def call(self, function: Callable[[], T], what: str) -> T:
        """What ``function`` returns, tried again with growing pauses while it raises the `Unavailable` family."""
        try:
            return function()
        except Unavailable as error:
            failure = error
        backoff = Backoff()
        me = object()
        self._struggling.add(me)
        try:
            while True:
                if self._given_up.is_set():
                    raise GivenUp from failure
                pause = backoff.next()
                self._hooks.report_trouble(failure, f"{what}; trying again in {pause:.1f} s")
                self._given_up.wait(pause)
                try:
                    return function()
                except Unavailable as error:
                    failure = error
        finally:
            self._struggling.discard(me)
