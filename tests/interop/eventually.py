"""Waiting for what nobody announces: a record or a message that another process writes into a service."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 30.0
PAUSE = 0.02


def eventually(probe: Callable[[], T]) -> T:
    """What ``probe`` answers once that is true; its last answer is the error's text when it never is."""
    until = monotonic() + PATIENCE
    while not (answer := probe()):
        if monotonic() > until:
            raise AssertionError(f"it stayed {answer!r} for {PATIENCE} s")
        sleep(PAUSE)
    return answer
