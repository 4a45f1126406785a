"""Pauses: of failed tasks, and of those who wait for a service."""

from __future__ import annotations

from datetime import timedelta

import pytest

from machinery import Exponential, Fibonacci
from machinery._retry import Backoff, next_fibonacci


@pytest.mark.parametrize(
    ("current", "following"), [(0, 1), (1, 2), (2, 3), (3, 5), (4, 5), (5, 8), (12, 13), (2**31, 2**31), (2**40, 2**31)]
)
def test_the_next_fibonacci_number_is_the_smallest_one_above(current: int, following: int) -> None:
    assert next_fibonacci(current) == following


def test_fibonacci_goes_on_from_the_last_pause() -> None:
    pauses = [0]
    for failures in range(1, 6):
        pauses.append(int(Fibonacci().delay(failures, pauses[-1]).total_seconds()))
    assert pauses == [0, 1, 2, 3, 5, 8]


def test_exponential_pauses_double_up_to_the_cap() -> None:
    rule = Exponential(base=1, factor=2, cap=10, jitter=0)
    assert [rule.delay(failures, 0).total_seconds() for failures in range(1, 7)] == [1, 2, 4, 8, 10, 10]


def test_exponential_pauses_have_no_end_of_failures() -> None:
    assert Exponential(jitter=0).delay(100_000, 0) == timedelta(seconds=600)


def test_jitter_takes_a_share_off() -> None:
    rule = Exponential(base=8, jitter=0.25)
    pauses = [rule.delay(1, 0).total_seconds() for _ in range(200)]
    assert all(6 <= pause <= 8 for pause in pauses)
    assert len(set(pauses)) > 1


@pytest.mark.parametrize("wrong", [{"base": 0}, {"factor": 0.5}, {"cap": 0}, {"jitter": -0.1}, {"jitter": 1.1}])
def test_a_rule_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Exponential needs"):
        Exponential(**wrong)


def test_back_off_doubles_to_its_cap_and_starts_again_after_an_answer() -> None:
    backoff = Backoff(base=1, cap=4)
    for full in (1, 2, 4, 4):
        assert full / 2 <= backoff.next() <= full
    backoff.reset()
    assert backoff.next() <= 1


def test_back_off_never_overflows() -> None:
    backoff = Backoff(cap=4)
    assert max(backoff.next() for _ in range(5000)) <= 4
