"""What text means which schedule: the grammar, and every refusal in its words."""

from __future__ import annotations

import re
import sys
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from machinery._cron import parse_schedule
from machinery._schedules import FixedSchedule, IntervalSchedule, Pattern, WildcardSchedule
from machinery.errors import ConfigError

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def pattern(spec: str) -> Pattern:
    schedule = parse_schedule(spec)
    assert isinstance(schedule, FixedSchedule | WildcardSchedule)
    return schedule.pattern


def ticks(spec: str, after: datetime, count: int) -> list[datetime]:
    schedule, found = parse_schedule(spec), []
    for _ in range(count):
        following = schedule.next(after)
        assert following is not None
        found.append(following)
        after = following
    return found


@pytest.mark.parametrize(
    ("minute", "values"),
    [
        ("*", range(60)),
        ("?", range(60)),
        ("*/1", range(60)),
        ("*/15", range(0, 60, 15)),
        ("?/15", range(0, 60, 15)),
        ("*/100", [0]),
        ("7", [7]),
        ("007", [7]),
        ("+7", [7]),
        ("7/15", [7, 22, 37, 52]),
        ("0/1", range(60)),
        ("50/1", range(50, 60)),
        ("10-12", [10, 11, 12]),
        ("10-10", [10]),
        ("10-20/5", [10, 15, 20]),
        ("10-19/5", [10, 15]),
        ("30,5,20-22", [5, 20, 21, 22, 30]),
        (",5,,6,", [5, 6]),
        ("*,5", range(60)),
    ],
)
def test_a_field_names_its_values(minute: str, values: range | list[int]) -> None:
    assert pattern(f"{minute} 0 * * *").minutes == tuple(values)


@pytest.mark.parametrize(
    ("spec", "field", "values"),
    [
        ("0 22/1 * * *", "hours", {22, 23}),
        ("0 0 28/2 * *", "days", {28, 30}),
        ("0 0 * 9/2 *", "months", {9, 11}),
        ("0 0 * jan,JUN-Aug *", "months", {1, 6, 7, 8}),
        ("0 0 * jan/6 *", "months", {1, 7}),
        ("0 0 * * 0", "weekdays", {0}),
        ("0 0 * * sun", "weekdays", {0}),
        ("0 0 * * Mon-FRI", "weekdays", {1, 2, 3, 4, 5}),
        ("0 0 * * mon-6/2", "weekdays", {1, 3, 5}),
        ("0 0 * * 5/1", "weekdays", {5, 6}),
    ],
)
def test_every_field_has_its_own_range_and_names(spec: str, field: str, values: set[int]) -> None:
    assert set(getattr(pattern(spec), field)) == values


@pytest.mark.parametrize(
    ("days", "either"),
    [
        ("* *", False),
        ("13 *", False),
        ("13 ?", False),
        ("* 5", False),
        ("*/1 5", False),
        ("13,* 5", False),
        ("13 5", True),
        ("*/2 5", True),  # a step above 1 restricts, in Go; in Debian's cron the star alone decides
        ("13 */2", True),
        ("1-31 5", True),
    ],
)
def test_restricted_days_of_month_and_week_combine_to_either(days: str, either: bool) -> None:
    day, weekday = days.split()
    assert pattern(f"0 0 {day} * {weekday}").either_day is either


def test_either_day_and_both_days_name_different_dates() -> None:
    start = datetime(2025, 6, 1, tzinfo=UTC)  # the 13th is a Friday

    either = [tick.day for tick in ticks("TZ=UTC 0 0 13,20 6 fri,sat", start, 9)]
    only_the_week = [tick.day for tick in ticks("TZ=UTC 0 0 * 6 fri", start, 4)]

    assert either == [6, 7, 13, 14, 20, 21, 27, 28, 5]
    assert only_the_week == [6, 13, 20, 27]


@pytest.mark.parametrize(
    ("spec", "wild"),
    [
        ("0 5 * * *", False),
        ("0,30 5-8 * * *", False),
        ("0-59 0-23 * * *", False),
        ("5,* 5 * * *", False),
        ("* 5 * * *", True),
        ("? 5 * * *", True),
        ("0 * * * *", True),
        ("0 */2 * * *", True),
        ("*/20 5 * * *", True),
        (",*/20 5 * * *", True),
    ],
)
def test_a_star_at_the_start_of_minute_or_hour_makes_a_wildcard_schedule(spec: str, wild: bool) -> None:
    assert type(parse_schedule(spec)) is (WildcardSchedule if wild else FixedSchedule)


@pytest.mark.parametrize(
    ("descriptor", "fields"),
    [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
    ],
)
def test_a_descriptor_stands_for_five_fields(descriptor: str, fields: str) -> None:
    assert parse_schedule(descriptor) == parse_schedule(fields)
    assert parse_schedule(f"TZ=Europe/Berlin {descriptor}") == parse_schedule(f"TZ=Europe/Berlin {fields}")


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        ("1h30m", 5400),
        ("90s", 90),
        ("+90s", 90),
        ("1.5h", 5400),
        (".5h", 1800),
        ("2.h", 7200),
        ("1h1h", 7200),
        ("1m1h", 3660),
        ("1000ms", 1),
        ("2000000us", 2),
        ("2000000µs", 2),
        ("2000000\N{GREEK SMALL LETTER MU}s", 2),
        ("3000000000ns", 3),
        ("1.9s", 1),
        ("1h0.999s", 3600),
        ("1ms", 1),
        ("1ns", 1),
        ("2562047h", 2562047 * 3600),
        ("0.55m", 33),
        ("0000000000000000000000000000000000000001s", 1),
    ],
)
def test_an_interval_is_a_go_duration_in_whole_seconds(duration: str, seconds: int) -> None:
    assert parse_schedule(f"@every {duration}") == IntervalSchedule(timedelta(seconds=seconds))
    assert parse_schedule(f"CRON_TZ=Europe/Berlin  @every {duration}") == IntervalSchedule(timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("prefix", "zone"),
    [
        ("", None),
        ("TZ=Local ", None),
        ("TZ= ", UTC),
        ("CRON_TZ= ", UTC),
        ("TZ=UTC ", UTC),
        ("TZ=Europe/Berlin ", BERLIN),
        ("CRON_TZ=Europe/Berlin \t ", BERLIN),
    ],
)
def test_a_prefix_names_the_time_zone(prefix: str, zone: Any) -> None:
    schedule = parse_schedule(f"{prefix}30 8 * * *")
    assert isinstance(schedule, FixedSchedule)
    assert schedule.zone is zone


def test_blanks_around_the_fields_do_not_matter() -> None:
    assert parse_schedule("  1\t2  3 4 5 \n") == parse_schedule("1 2 3 4 5")


# ---------------------------------------------------------------------------------------------------------- refusals

HOW = "write it as '*/5 * * * *', '@daily', '@every 1h30m' or 'TZ=Europe/Berlin 30 8 * * mon-fri'"
FIVE = "it must have five: minute, hour, day of the month, month, day of the week"
ALSO = "; or a range (2-5), a step (*/2), or several of these with commas between"
WEEKDAY = "it must be from 0 to 6 or sun to sat, and 0 is Sunday"
STEP = "the step after its / must be a whole number from 1 up"
RANGE = "a range goes from the lower value to the higher"
DURATION = "it must be a Go duration: numbers with the units h, m, s, ms, us or ns, such as 1h30m or 90s"
DESCRIPTOR = (
    "it must be one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly, or @every and a duration"
)
ZONE = "it must be a name such as Europe/Berlin, UTC or Local"


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (None, f"a schedule is text, not NoneType; {HOW}"),
        (5, f"a schedule is text, not int; {HOW}"),
        (b"* * * * *", f"a schedule is text, not bytes; {HOW}"),
        ("", f"the schedule is empty; {HOW}"),
        (" \t", f"the schedule is empty; {HOW}"),
    ],
)
def test_what_is_no_text_is_refused(spec: Any, complaint: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(complaint)}$"):
        parse_schedule(spec)


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        # How many fields
        ("*", f"1 field; {FIVE}"),
        ("* * * *", f"4 fields; {FIVE}"),
        ("0 * * * * *", f"6 fields; {FIVE}"),
        (" @daily", f"1 field; {FIVE}"),
        (" TZ=UTC * * * * *", f"6 fields; {FIVE}"),
        ("TZ=UTC TZ=UTC * * * * *", f"6 fields; {FIVE}"),
        ("TZ=UTC ", f"0 fields; {FIVE}"),
        # Each field's range
        ("60 * * * *", "'60' as its minute; it must be from 0 to 59"),
        ("* 24 * * *", "'24' as its hour; it must be from 0 to 23"),
        ("* * 0 * *", "'0' as its day of the month; it must be from 1 to 31"),
        ("* * 32 * *", "'32' as its day of the month; it must be from 1 to 31"),
        ("* * * 0 *", "'0' as its month; it must be from 1 to 12 or jan to dec"),
        ("* * * 13 *", "'13' as its month; it must be from 1 to 12 or jan to dec"),
        ("* * * * 7", f"'7' as its day of the week; {WEEKDAY}"),
        ("* * * * 5-7", f"'5-7' as its day of the week; {WEEKDAY}"),
        ("60/2 * * * *", "'60/2' as its minute; it must be from 0 to 59"),
        ("5,61,3 * * * *", "'61' as its minute; it must be from 0 to 59"),
        # What is no value
        ("x * * * *", f"'x' as its minute; it must be from 0 to 59{ALSO}"),
        ("jan * * * *", f"'jan' as its minute; it must be from 0 to 59{ALSO}"),
        ("* * * january *", f"'january' as its month; it must be from 1 to 12 or jan to dec{ALSO}"),
        ("* * * * tues", f"'tues' as its day of the week; {WEEKDAY}{ALSO}"),
        ("* L * * *", f"'L' as its hour; it must be from 0 to 23{ALSO}"),
        ("1.5 * * * *", f"'1.5' as its minute; it must be from 0 to 59{ALSO}"),
        ("1_0 * * * *", f"'1_0' as its minute; it must be from 0 to 59{ALSO}"),
        ("٣ * * * *", f"'٣' as its minute; it must be from 0 to 59{ALSO}"),
        ("-5 * * * *", f"'-5' as its minute; it must be from 0 to 59{ALSO}"),
        ("5- * * * *", f"'5-' as its minute; it must be from 0 to 59{ALSO}"),
        ("1-2-3 * * * *", f"'1-2-3' as its minute; it must be from 0 to 59{ALSO}"),
        ("** * * * *", f"'**' as its minute; it must be from 0 to 59{ALSO}"),
        ("5-* * * * *", f"'5-*' as its minute; it must be from 0 to 59{ALSO}"),
        ("/5 * * * *", f"'/5' as its minute; it must be from 0 to 59{ALSO}"),
        ("99999999999999999999 * * * *", f"'99999999999999999999' as its minute; it must be from 0 to 59{ALSO}"),
        # Steps and ranges
        ("*/0 * * * *", f"'*/0' as its minute; {STEP}"),
        ("*/ * * * *", f"'*/' as its minute; {STEP}"),
        ("*/x * * * *", f"'*/x' as its minute; {STEP}"),
        ("*/-2 * * * *", f"'*/-2' as its minute; {STEP}"),
        ("1/2/3 * * * *", f"'1/2/3' as its minute; {STEP}"),
        ("30-10 * * * *", f"'30-10' as its minute; {RANGE}"),
        ("* * * * fri-sun", f"'fri-sun' as its day of the week; {RANGE}"),
        # What Go takes, and fires never or at other times than it seems to say
        (", * * * *", "',' as its minute; it must be from 0 to 59, or *"),
        ("0 0 , * 1", "',' as its day of the month; it must be from 1 to 31, or *"),
        ("*-5 * * * *", f"'*-5' as its minute; it must be from 0 to 59{ALSO}"),
        ("0 0 30 2 *", "'30' as its day of the month; no month of '2' has that day, so it would never come"),
        ("0 0 31 4,jun ?", "'31' as its day of the month; no month of '4,jun' has that day, so it would never come"),
        # Descriptors and intervals
        ("@reboot", f"'@reboot' as its descriptor; {DESCRIPTOR}"),
        ("@Daily", f"'@Daily' as its descriptor; {DESCRIPTOR}"),
        ("@daily ", f"'@daily ' as its descriptor; {DESCRIPTOR}"),
        ("@every", f"'@every' as its descriptor; {DESCRIPTOR}"),
        ("@every ", f"'' as its interval; {DURATION}"),
        ("@every 5", f"'5' as its interval; {DURATION}"),
        ("@every 5 minutes", f"'5 minutes' as its interval; {DURATION}"),
        ("@every 1d", f"'1d' as its interval; {DURATION}"),
        ("@every  1h", f"' 1h' as its interval; {DURATION}"),
        ("@every 1h-5m", f"'1h-5m' as its interval; {DURATION}"),
        ("@every .h", f"'.h' as its interval; {DURATION}"),
        ("@every 1H", f"'1H' as its interval; {DURATION}"),
        ("@every " + "1" * 5000 + "s", f"'{'1' * 5000}s' as its interval; {DURATION}"),
        ("@every 0", "'0' as its interval; it must be more than 0"),
        ("@every 0s", "'0s' as its interval; it must be more than 0"),
        ("@every -1h", "'-1h' as its interval; it must be more than 0"),
        ("@every 2562048h", "'2562048h' as its interval; the longest of Go's durations is 2562047h"),
        # Time zones
        ("TZ=Europe/Berlin", f"nothing after its time zone; {HOW}"),
        ("TZ=UTC\t0 5 * * *", f"'UTC\\t0' as its time zone; {ZONE}"),
        ("TZ=Mars/Olympus 0 5 * * *", f"'Mars/Olympus' as its time zone; {ZONE}"),
        ("CRON_TZ=Europe @daily", f"'Europe' as its time zone; {ZONE}"),
        ("TZ=../Europe/Berlin @daily", f"'../Europe/Berlin' as its time zone; {ZONE}"),
        ("TZ=/etc/localtime @daily", f"'/etc/localtime' as its time zone; {ZONE}"),
        ("TZ=tzdata.zi @daily", f"'tzdata.zi' as its time zone; {ZONE}"),
        ("TZ=+02:00 @every 1h", f"'+02:00' as its time zone; {ZONE}"),
        ("TZ=Europe/Berlin\0 @daily", f"'Europe/Berlin\\x00' as its time zone; {ZONE}"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_spec_the_field_the_value_and_what_would_be_right(spec: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_schedule(spec)

    assert str(caught.value) == f"the schedule {spec!r} has {complaint}"


def test_a_day_that_comes_in_leap_years_alone_is_taken() -> None:
    # 2100 is no leap year: Go, which looks five years ahead, finds nothing here
    assert ticks("TZ=UTC 0 0 29 2 *", datetime(2096, 3, 1, tzinfo=UTC), 1) == [datetime(2104, 2, 29, tzinfo=UTC)]


def test_a_day_that_no_month_has_is_taken_where_a_day_of_the_week_comes_instead() -> None:
    assert ticks("TZ=UTC 0 0 31 feb sun", datetime(2025, 2, 1, tzinfo=UTC), 1) == [datetime(2025, 2, 2, tzinfo=UTC)]


@pytest.fixture
def no_zones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without any time zone database. Zones that were used before stay known."""
    before = zoneinfo.TZPATH
    monkeypatch.setitem(sys.modules, "tzdata", None)
    zoneinfo.reset_tzpath(to=[tmp_path])
    yield
    zoneinfo.reset_tzpath(to=before)


def test_a_machine_without_time_zones_is_told_what_to_install(no_zones: None) -> None:
    with pytest.raises(ConfigError, match=r"has 'Antarctica/Troll' as its time zone; .*: pip install tzdata$"):
        parse_schedule("TZ=Antarctica/Troll @daily")

    assert parse_schedule("TZ=UTC @daily") != parse_schedule("TZ=Local @daily")
