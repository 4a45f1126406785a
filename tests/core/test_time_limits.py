"""Soft time limits of functions."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from machinery._worker._time_limits import TimeLimits
from machinery.errors import SoftTimeLimitExceeded


@pytest.fixture
def limits() -> Iterator[TimeLimits]:
    made = TimeLimits()
    yield made
    made.stop()


def spin(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def test_what_runs_too_long_is_interrupted(limits: TimeLimits) -> None:
    begin = time.monotonic()
    with pytest.raises(SoftTimeLimitExceeded, match=r"soft time limit of 0\.05 s"), limits.watch(0.05):
        spin(10)
    assert time.monotonic() - begin < 5


def test_what_ends_in_time_is_left_alone(limits: TimeLimits) -> None:
    with limits.watch(0.05):
        pass
    spin(0.1)


def test_an_interruption_that_is_caught_inside_is_over(limits: TimeLimits) -> None:
    with limits.watch(0.02):
        with contextlib.suppress(SoftTimeLimitExceeded):
            spin(10)
        spin(0.1)


def test_an_exception_of_ones_own_goes_through(limits: TimeLimits) -> None:
    with pytest.raises(ZeroDivisionError), limits.watch(10):
        raise ZeroDivisionError


def test_a_shorter_limit_beside_a_longer_one_strikes_in_time(limits: TimeLimits) -> None:
    struck: list[float] = []
    begin = time.monotonic()

    def run(seconds: float) -> None:
        with pytest.raises(SoftTimeLimitExceeded), limits.watch(seconds):
            spin(10)
        struck.append(time.monotonic() - begin)

    threads = [threading.Thread(target=run, args=(seconds,)) for seconds in (0.4, 0.05)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert struck[0] < 0.39 < struck[1]


def test_an_interruption_never_strikes_after_its_body(limits: TimeLimits) -> None:
    """Bodies that end about when their limit does: inside it is an exception, outside it never is."""
    struck = 0
    for _ in range(300):
        try:
            with limits.watch(0.0005):
                spin(0.0005)
        except SoftTimeLimitExceeded:
            struck += 1
        spin(0.0002)
    assert struck <= 300


def test_nothing_is_kept_of_limits_that_are_over(limits: TimeLimits) -> None:
    for _ in range(100):
        with limits.watch(3600):
            pass
    assert not limits._watches
