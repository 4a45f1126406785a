"""Soft time limits of functions."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from machinery._worker._time_limits import TimeLimits
from machinery.errors import SoftTimeLimitExceeded
from machinery.testing._expectations import eventually, in_background


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
    assert time.monotonic() - begin < 9


def test_what_ends_in_time_is_left_alone(limits: TimeLimits) -> None:
    def ends_in_time() -> bool:
        begin = time.monotonic()
        try:
            with limits.watch(0.05):
                pass
        except SoftTimeLimitExceeded:
            assert time.monotonic() - begin >= 0.05  # on a busy machine it did not
            return False
        return True

    eventually(ends_in_time)
    spin(0.1)


def test_an_interruption_that_is_caught_inside_is_over(limits: TimeLimits) -> None:
    def is_over() -> bool:
        is_inside = False
        try:
            with limits.watch(0.02):
                with contextlib.suppress(SoftTimeLimitExceeded):
                    is_inside = True
                    spin(10)
                spin(0.1)
        except SoftTimeLimitExceeded:
            assert not is_inside  # a busy machine let it strike before anybody was there to catch it
            return False
        return True

    eventually(is_over)


def test_an_exception_of_ones_own_goes_through(limits: TimeLimits) -> None:
    with pytest.raises(ZeroDivisionError), limits.watch(10):
        raise ZeroDivisionError


def test_a_shorter_limit_beside_a_longer_one_strikes_in_time(limits: TimeLimits) -> None:
    shorter_has_struck = threading.Event()

    def wait_for_shorter() -> bool:
        with limits.watch(60):
            return shorter_has_struck.wait(12)

    with in_background(wait_for_shorter) as is_struck_first:
        eventually(lambda: limits._watches)
        seconds_until_struck(limits, 0.05)
        shorter_has_struck.set()
        assert is_struck_first()


def test_a_longer_limit_beside_a_shorter_one_strikes_in_its_time(limits: TimeLimits) -> None:
    with in_background(lambda: seconds_until_struck(limits, 0.4)) as seconds:
        seconds_until_struck(limits, 0.05)
        assert seconds() >= 0.4


def seconds_until_struck(limits: TimeLimits, limit: float) -> float:
    begin = time.monotonic()
    with pytest.raises(SoftTimeLimitExceeded), limits.watch(limit):
        spin(10)
    return time.monotonic() - begin


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
