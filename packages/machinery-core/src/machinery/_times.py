"""Instants as they travel: RFC 3339 with up to nine fractional digits (protocol §1.6)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Self, SupportsIndex

from machinery.errors import DecodeError, EncodeError

ZERO_TIME = datetime(1, 1, 1, tzinfo=UTC)
"""Go's zero time, ``0001-01-01T00:00:00Z``: a record that was written without anything before it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}T(?:[01]?\d|2[0-3]):\d{2}:\d{2}(?:[.,](\d+))?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)", re.ASCII
)
"""Stricter than `datetime.fromisoformat`, which also takes week dates, hour 24 and times without seconds.

Hours of one digit and a decimal comma are no RFC 3339, but Go takes them.
"""

_HOUR = slice(11, 13)

_MICROSECOND_DIGITS = 6
_UTC_OFFSET = len("+00:00")


class Instant(datetime):
    """A `datetime` that also remembers the nanoseconds below its microsecond, so that Go's text survives a round trip.

    They survive copying and pickling; arithmetic and ``replace`` drop them, and comparison does not see them.
    """

    below_microsecond: int = 0

    @classmethod
    def of(cls, moment: datetime, below_microsecond: int) -> Self:
        """``moment`` with 0 to 999 further nanoseconds."""
        made = cls(
            moment.year,
            moment.month,
            moment.day,
            moment.hour,
            moment.minute,
            moment.second,
            moment.microsecond,
            moment.tzinfo,
        )
        made.below_microsecond = below_microsecond
        return made

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[object, ...]:
        return (Instant.of, (datetime.combine(self.date(), self.timetz()), self.below_microsecond))


def encode_time(moment: datetime) -> str:
    """``moment`` (aware) as Go writes it: trailing zeros trimmed, ``Z`` for UTC. Raises `EncodeError` for a naive one."""
    text = moment.isoformat()
    if moment.tzinfo is UTC:
        zone = "Z"
        text = text[:-_UTC_OFFSET]
    else:
        text, zone = _split_zone(moment, text)
    below = getattr(moment, "below_microsecond", 0)
    if below:
        text = f"{text if moment.microsecond else text + '.000000'}{below:03d}"
    if "." in text:
        text = text.rstrip("0")
    return text + zone


def _split_zone(moment: datetime, text: str) -> tuple[str, str]:
    offset = moment.utcoffset()
    if offset is None:
        raise EncodeError(f"the time {text} has no time zone; use an aware datetime such as datetime.now(UTC)")
    if offset % timedelta(minutes=1):
        raise EncodeError(f"the time zone of {text} is not a whole number of minutes; convert it to UTC first")
    return text[:-_UTC_OFFSET], text[-_UTC_OFFSET:] if offset else "Z"


def decode_time(text: str) -> datetime:
    """The instant that ``text`` (RFC 3339 with zone) says. Raises `DecodeError` for anything else."""
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise DecodeError(f"{text!r} is not an RFC 3339 time with seconds and a zone, such as 2024-03-01T12:30:45Z")
    if text[_HOUR].endswith(":"):
        text = f"{text[: _HOUR.start]}0{text[_HOUR.start :]}"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise DecodeError(f"{text!r} is not a time: {error}") from None
    fraction = found[1]
    if fraction is None or len(fraction) <= _MICROSECOND_DIGITS:
        return moment
    below = int(fraction[_MICROSECOND_DIGITS:9].ljust(3, "0"))
    return Instant.of(moment, below) if below else moment


def to_unix_nanoseconds(moment: datetime) -> int:
    """Whole nanoseconds since 1970 UTC of an aware ``moment``."""
    span = moment - _EPOCH
    microseconds = (span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds
    return microseconds * 1000 + int(getattr(moment, "below_microsecond", 0))


def from_unix_nanoseconds(nanoseconds: int) -> datetime:
    """The UTC instant that many nanoseconds after 1970."""
    moment = _EPOCH + timedelta(microseconds=nanoseconds // 1000)
    below = nanoseconds % 1000
    return Instant.of(moment, below) if below else moment


def to_timedelta(span: timedelta | float) -> timedelta:
    """A span that a person wrote: a `timedelta`, or a number of seconds."""
    return span if isinstance(span, timedelta) else timedelta(seconds=span)
