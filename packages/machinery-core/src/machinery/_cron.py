"""What text means which schedule: Go's cron expressions (robfig/cron v3, `ParseStandard`; protocol §8.5).

Five fields (minute, hour, day of the month, month, day of the week), a descriptor such as ``@daily``, or ``@every`` and a Go
duration; before any of them a time zone (``TZ=Europe/Berlin`` and a blank). Whatever is accepted here, Go accepts and reads
alike; when `@every` and times in a change of the clocks come is another matter (`_schedules`). What Go accepts and never
fires, or reads as something else than it says, is refused: days that no month has, empty fields, ``*-5``, an ``@every`` of
nothing or less.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta, tzinfo
from fractions import Fraction
from typing import Any, NoReturn

from machinery._schedules import FixedSchedule, IntervalSchedule, Pattern, Schedule, WildcardSchedule
from machinery.errors import ConfigError

_EXAMPLES = "write it as '*/5 * * * *', '@daily', '@every 1h30m' or 'TZ=Europe/Berlin 30 8 * * mon-fri'"

_ZONE_PREFIXES = ("TZ=", "CRON_TZ=")
_ANY = frozenset("*?")
_NUMBER = re.compile(r"\+?0*([0-9]{1,18})")
"""As Go's `Atoi` takes it; what does not fit in 64 bits is no number."""

_DESCRIPTORS: Mapping[str, str] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_EVERY = "@every "
_PARTS = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")
_DURATION = re.compile(rf"([+-]?)((?:{_PARTS.pattern})+|0)")
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # the micro sign
    "\u03bcs": 1_000,  # the Greek letter
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
"""Nanoseconds of each of Go's units."""

_LONGEST_DURATION = 2**63 - 1
_LONGEST_TEXT = 1000
"""Python turns no more than some thousands of digits into a number."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LAST_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclass(frozen=True, slots=True)
class _Field:
    """One of the five: the values it can have."""

    name: str
    low: int
    high: int
    right: str
    names: Mapping[str, int]

    def value(self, text: str) -> int | None:
        """The number that ``text`` says or names; ``None`` where it does neither."""
        return self.names.get(text.lower(), _number(text))


_FIELDS = (
    _Field("minute", 0, 59, "from 0 to 59", {}),
    _Field("hour", 0, 23, "from 0 to 23", {}),
    _Field("day of the month", 1, 31, "from 1 to 31", {}),
    _Field("month", 1, 12, "from 1 to 12 or jan to dec", {name: number for number, name in enumerate(_MONTHS, 1)}),
    _Field(
        "day of the week",
        0,
        6,
        "from 0 to 6 or sun to sat, and 0 is Sunday",
        {name: number for number, name in enumerate(_WEEKDAYS)},
    ),
)


@dataclass(frozen=True, slots=True)
class _Values:
    """What one field says."""

    values: frozenset[int]
    restricted: bool
    """No ``*`` or ``?`` of step 1 is among it."""
    wild: bool
    """It begins with ``*`` or ``?``."""


def parse_schedule(spec: str) -> Schedule:
    """The schedule that ``spec`` says.

    Raises `ConfigError`, which names the spec, the field, its value and what would be right; a day that never comes is one too.
    """
    if not isinstance(spec, str):
        raise ConfigError(f"a schedule is text, not {type(spec).__name__}; {_EXAMPLES}")
    if not spec.strip():
        raise ConfigError(f"the schedule is empty; {_EXAMPLES}")
    zone, text = _split_zone(spec)
    if text.startswith(_EVERY):
        return IntervalSchedule(_parse_interval(text.removeprefix(_EVERY), spec))
    if text.startswith("@"):
        text = _expand(text, spec)
    return _parse_fields(text.split(), zone, spec)


def _refuse(spec: str, value: Any, name: str, right: str) -> NoReturn:
    raise ConfigError(f"the schedule {spec!r} has {value!r} as its {name}; {right}")


def _number(text: str) -> int | None:
    found = _NUMBER.fullmatch(text)
    return int(found[1]) if found else None


# --------------------------------------------------------------------------------------------------------- time zone


def _split_zone(spec: str) -> tuple[tzinfo | None, str]:
    """The zone that the schedule goes by (``None``: local time), and the rest."""
    if not spec.startswith(_ZONE_PREFIXES):
        return None, spec
    head, blank, rest = spec.partition(" ")
    if not blank:
        raise ConfigError(f"the schedule {spec!r} has nothing after its time zone; {_EXAMPLES}")
    return _to_zone(head.partition("=")[2], spec), rest.strip()


def _to_zone(name: str, spec: str) -> tzinfo | None:
    if name in {"", "UTC"}:
        return UTC
    if name == "Local":
        return None
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # no such file; no name of one; no zone in it
        right = "it must be a name such as Europe/Berlin, UTC or Local"
        if not zoneinfo.available_timezones():
            right += ", and to know these names this machine lacks a time zone database: pip install tzdata"
        _refuse(spec, name, "time zone", right)


# ------------------------------------------------------------------------------------------------------- descriptors


def _expand(descriptor: str, spec: str) -> str:
    fields = _DESCRIPTORS.get(descriptor)
    if fields is None:
        _refuse(
            spec, descriptor, "descriptor", f"it must be one of {', '.join(_DESCRIPTORS)}, or @every and a duration"
        )
    return fields


def _parse_interval(duration: str, spec: str) -> timedelta:
    """Whole seconds, at least one, as Go makes them of a duration."""
    found = _DURATION.fullmatch(duration) if len(duration) <= _LONGEST_TEXT else None
    if found is None:
        right = "it must be a Go duration: numbers with the units h, m, s, ms, us or ns, such as 1h30m or 90s"
        _refuse(spec, duration, "interval", right)
    nanoseconds = sum(int(Fraction(number) * _UNITS[unit]) for number, unit in _PARTS.findall(found[2]))
    if found[1] == "-" or nanoseconds == 0:
        _refuse(spec, duration, "interval", "it must be more than 0")
    if nanoseconds > _LONGEST_DURATION:
        _refuse(spec, duration, "interval", "the longest of Go's durations is 2562047h")
    return timedelta(seconds=max(1, nanoseconds // _UNITS["s"]))


# ------------------------------------------------------------------------------------------------------- five fields


def _parse_fields(texts: list[str], zone: tzinfo | None, spec: str) -> Schedule:
    if len(texts) != len(_FIELDS):
        raise ConfigError(
            f"the schedule {spec!r} has {len(texts)} {'field' if len(texts) == 1 else 'fields'}; "
            f"it must have five: {', '.join(field.name for field in _FIELDS)}"
        )
    minute, hour, day, month, weekday = (
        _parse_field(text, field, spec) for text, field in zip(texts, _FIELDS, strict=True)
    )
    pattern = Pattern(
        minutes=tuple(sorted(minute.values)),
        hours=tuple(sorted(hour.values)),
        days=day.values,
        months=month.values,
        weekdays=weekday.values,
        either_day=day.restricted and weekday.restricted,
    )
    if not pattern.either_day and min(day.values) > max(_LAST_DAYS[number - 1] for number in month.values):
        _refuse(spec, texts[2], "day of the month", f"no month of {texts[3]!r} has that day, so it would never come")
    return WildcardSchedule(pattern, zone) if minute.wild or hour.wild else FixedSchedule(pattern, zone)


def _parse_field(text: str, field: _Field, spec: str) -> _Values:
    items = [item for item in text.split(",") if item]  # Go takes stray commas
    if not items:
        _refuse(spec, text, field.name, f"it must be {field.right}, or *")
    parsed = [_parse_item(item, field, spec) for item in items]
    return _Values(
        values=frozenset(value for values, _ in parsed for value in values),
        restricted=not any(unrestricted for _, unrestricted in parsed),
        wild=items[0][0] in _ANY,
    )


def _parse_item(item: str, field: _Field, spec: str) -> tuple[range, bool]:
    """The values of one item of a list, and whether it restricts nothing: ``*`` or ``?``, and no step above 1."""
    span, slash, step_text = item.partition("/")
    step = _number(step_text) if slash else 1
    if not step:
        _refuse(spec, item, field.name, "the step after its / must be a whole number from 1 up")
    if span in _ANY:
        return range(field.low, field.high + 1, step), step == 1
    low, high = _parse_span(span, field, open_ended=bool(slash))
    if low is None or high is None:
        right = f"it must be {field.right}; or a range (2-5), a step (*/2), or several of these with commas between"
        _refuse(spec, item, field.name, right)
    if not field.low <= low <= field.high or high > field.high:
        _refuse(spec, item, field.name, f"it must be {field.right}")
    if low > high:
        _refuse(spec, item, field.name, "a range goes from the lower value to the higher")
    return range(low, high + 1, step), False


def _parse_span(span: str, field: _Field, *, open_ended: bool) -> tuple[int | None, int | None]:
    """``a-b``, or ``a``, which alone means ``a`` to the highest value where it is ``open_ended`` (has a step)."""
    first, hyphen, last = span.partition("-")
    low = field.value(first)
    if hyphen:
        return low, field.value(last)
    return low, field.high if open_ended else low
