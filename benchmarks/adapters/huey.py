"""Huey, on Redis or SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from huey import RedisHuey, SqliteHuey, chord

from benchmarks import work

IS_ASYNC = False

if work.URL.startswith("sqlite:"):
    huey = SqliteHuey("bench", filename=work.URL.removeprefix("sqlite://"), fsync=False)
else:
    huey = RedisHuey("bench", url=work.URL)
add = huey.task()(work.add)
total = huey.task()(work.total)


def send(number: int) -> None:
    """Send one task."""
    add(number, 1)


def call(number: int) -> int:
    """Send one task and wait for its result."""
    return _value(add(number, 1))


def send_later(numbers: Sequence[int], at: datetime) -> None:
    """Send them all, to be started at that time."""
    for number in numbers:
        add.schedule((number, 1), eta=at)


def run_chord(numbers: Sequence[int]) -> int:
    """The sum of all results, by a chord's callback."""
    return _value(huey.enqueue(chord([add.s(number, 1) for number in numbers], total.s())))


def _value(result: object) -> int:
    value: int = result.get(blocking=True, timeout=work.PATIENCE, backoff=1, max_delay=0.001)  # type: ignore[attr-defined]
    return value
