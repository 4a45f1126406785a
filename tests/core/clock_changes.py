"""What tests of schedules share: zones that set their clocks, patterns to try on them, and all the ticks of a span."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from machinery._schedules import Schedule

set_hypothesis_home_dir(Path(__file__).parents[2] / ".workshop" / "cache" / "hypothesis")

steady = settings(database=None, deadline=None, derandomize=True)
"""The same examples every time."""

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

Pattern = tuple[frozenset[int] | None, ...]
"""The values of the five fields; ``None``: a star."""

needs_tzset = pytest.mark.skipif(not hasattr(time, "tzset"), reason="this platform cannot change its local time zone")


def at(text: str) -> datetime:
    """An instant as RFC 3339 says it."""
    return datetime.fromisoformat(text).astimezone(UTC)


def ticks(schedule: Schedule, after: datetime, until: datetime) -> list[datetime]:
    """All ticks later than ``after``, up to and with ``until``."""
    found = []
    following = schedule.next(after)
    while following is not None and following <= until:
        assert following > after
        assert following.tzinfo is UTC
        found.append(following)
        after, following = following, schedule.next(following)
    return found


@contextmanager
def local_zone(name: str) -> Iterator[None]:
    """The machine's local time, for as long as the block runs."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        del os.environ["TZ"]
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()


CHANGES = [
    ("Europe/Berlin", at("2025-03-30T01:00:00Z")),
    ("Europe/Berlin", at("2025-10-26T01:00:00Z")),
    ("America/New_York", at("2025-03-09T07:00:00Z")),
    ("America/New_York", at("2025-11-02T06:00:00Z")),
    ("Australia/Lord_Howe", at("2025-10-04T15:30:00Z")),
    ("Australia/Lord_Howe", at("2025-04-05T15:00:00Z")),
    ("America/Sao_Paulo", at("2017-10-15T03:00:00Z")),
    ("America/Sao_Paulo", at("2018-02-18T02:00:00Z")),
    ("America/St_Johns", at("2010-11-07T02:31:00Z")),
    ("Pacific/Apia", at("2011-12-30T10:00:00Z")),
    ("Pacific/Apia", at("2012-03-31T14:00:00Z")),
    ("America/Caracas", at("2016-05-01T07:00:00Z")),  # half an hour, for good
    ("Asia/Tokyo", at("2025-06-01T00:00:00Z")),  # none
]
"""Zones, and when they set their clocks."""

changes = st.sampled_from(CHANGES)


def sets(low: int, high: int) -> st.SearchStrategy[frozenset[int]]:
    """Some values of a field."""
    return st.frozensets(st.integers(low, high), min_size=1, max_size=6)


def text_of(values: frozenset[int] | None) -> str:
    return "*" if values is None else ",".join(map(str, sorted(values)))


def restricted(low: int, high: int) -> st.SearchStrategy[frozenset[int] | None]:
    """Some values of a field, or a star."""
    return st.none() | sets(low, high)


@st.composite
def patterns(draw: st.DrawFn) -> Pattern:
    """The values of five fields, of which about half are stars."""
    return tuple(draw(restricted(*bounds)) for bounds in ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6)))
