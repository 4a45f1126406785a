"""What the suites say about errors, threads and time, with the standard library alone."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar
from unittest import SkipTest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

PATIENCE = 15.0
"""Seconds after which what was expected is said not to come."""

BETWEEN_LOOKS = 0.02
"""Seconds between two looks for what no service announces."""

QUIET = 0.3
"""Seconds of silence after which it is believed that nothing comes."""


class Caught(Generic[E]):
    """The error that a block of `raises` ended with."""

    value: E


@contextmanager
def raises(kind: type[E], words: str = "") -> Iterator[Caught[E]]:
    """The block must end with an error of that kind whose text has ``words``."""
    caught: Caught[E] = Caught()
    try:
        yield caught
    except kind as error:
        caught.value = error
    assert hasattr(caught, "value"), f"{kind.__name__} was not raised"
    assert words in str(caught.value), f"{caught.value!r} does not say {words!r}"


def only_if(condition: object, why_not: str) -> None:
    """Skip the test unless ``condition`` holds."""
    if not condition:
        raise SkipTest(why_not)


def in_threads(count: int, function: Callable[[int], T]) -> list[T]:
    """What ``function(0)`` … ``function(count - 1)`` return when they are all called at the same moment."""
    start = threading.Barrier(count)

    def run(number: int) -> T:
        start.wait(PATIENCE)
        return function(number)

    with ThreadPoolExecutor(count) as pool:
        return [future.result(2 * PATIENCE) for future in [pool.submit(run, number) for number in range(count)]]


@contextmanager
def in_background(function: Callable[[], T]) -> Iterator[Callable[[], T]]:
    """``function`` running in a thread; what is yielded waits for its end and returns its answer."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(function)
        yield lambda: future.result(PATIENCE)
        future.result(PATIENCE)


def eventually(probe: Callable[[], T]) -> T:
    """What ``probe`` answers once that is true, for what no service announces."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"it stayed {answer!r} for {PATIENCE} s"
        time.sleep(BETWEEN_LOOKS)
    return answer


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._began
