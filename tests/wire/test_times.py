"""Instants: nanoseconds survive, and errors say what would be right."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from machinery._times import Instant, from_unix_nanoseconds, to_timedelta, to_unix_nanoseconds
from machinery.errors import DecodeError, EncodeError
from machinery.wire import decode_time, encode_time

NANOSECONDS = 1_709_296_245_123_456_789
TEXT = "2024-03-01T12:30:45.123456789Z"


def test_nanoseconds_survive_a_round_trip() -> None:
    assert from_unix_nanoseconds(NANOSECONDS) == decode_time(TEXT)
    assert to_unix_nanoseconds(decode_time(TEXT)) == NANOSECONDS
    assert encode_time(from_unix_nanoseconds(NANOSECONDS)) == TEXT
    assert encode_time(from_unix_nanoseconds(1)) == "1970-01-01T00:00:00.000000001Z"
    assert type(from_unix_nanoseconds(5000)) is datetime


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda moment: pickle.loads(pickle.dumps(moment))])  # noqa: S301 - our own
def test_nanoseconds_survive_copies(duplicate: object) -> None:
    assert encode_time(duplicate(decode_time(TEXT))) == TEXT  # type: ignore[operator]  # one of the three


def test_arithmetic_goes_on_without_the_nanoseconds() -> None:
    later = decode_time(TEXT) + timedelta(seconds=1)

    assert encode_time(later) == "2024-03-01T12:30:46.123456Z"
    assert Instant.of(later, 5).below_microsecond == 5


def test_any_zone_of_whole_minutes_can_be_written() -> None:
    assert encode_time(datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))) == "2024-07-01T12:00:00+02:00"
    assert encode_time(datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("UTC"))) == "2024-07-01T12:00:00Z"
    assert encode_time(datetime(33, 7, 1, 12, tzinfo=UTC)) == "0033-07-01T12:00:00Z"


def test_a_time_without_a_zone_or_with_an_odd_one_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(EncodeError, match="has no time zone; use an aware datetime"):
        encode_time(datetime(2024, 3, 1))  # noqa: DTZ001 - that is the point
    with pytest.raises(EncodeError, match="not a whole number of minutes; convert it to UTC"):
        encode_time(datetime(2024, 3, 1, tzinfo=timezone(timedelta(seconds=90))))
    with pytest.raises(DecodeError, match="not a time"):
        decode_time("2023-02-29T00:00:00Z")


def test_a_span_is_a_timedelta_or_seconds() -> None:
    assert to_timedelta(1.5) == to_timedelta(timedelta(seconds=1, milliseconds=500))
