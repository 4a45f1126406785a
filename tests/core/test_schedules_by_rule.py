"""Schedules of all kinds around changes of the clocks, against the rules themselves and against another implementation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from machinery._cron import parse_schedule
from tests.core.clock_changes import (
    DAY,
    HOUR,
    MINUTE,
    Pattern,
    changes,
    local_zone,
    needs_tzset,
    patterns,
    steady,
    text_of,
    ticks,
)


def is_named(pattern: Pattern, wall: datetime) -> bool:
    """Whether the five fields name what the clock shows."""
    minutes, hours, days, months, weekdays = pattern
    of_month = days is None or wall.day in days
    of_week = weekdays is None or wall.isoweekday() % 7 in weekdays
    return (
        (minutes is None or wall.minute in minutes)
        and (hours is None or wall.hour in hours)
        and (months is None or wall.month in months)
        and (of_month or of_week if days is not None and weekdays is not None else of_month and of_week)
    )


def ticks_by_definition(pattern: Pattern, zone: str, after: datetime, until: datetime) -> list[datetime]:
    """Watches the clock, minute by minute.

    A wildcard ticks whenever the clock shows what it names. A fixed time ticks when the clock first comes to it or past it.
    """
    wild = pattern[0] is None or pattern[1] is None
    found, instant, latest = [], after - 2 * DAY, None
    while instant <= until:
        wall = instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)
        if wild:
            ticks = is_named(pattern, wall)
        else:
            new = [wall] if latest is None else minutes_between(latest, wall)
            ticks = any(is_named(pattern, minute) for minute in new)
            latest = wall if latest is None else max(latest, wall)
        if ticks and instant > after:
            found.append(instant)
        instant += MINUTE
    return found


def minutes_between(wall: datetime, other: datetime) -> list[datetime]:
    """The minutes after ``wall``, up to and with ``other``."""
    return [wall + n * MINUTE for n in range(1, (other - wall) // MINUTE + 1)]


@settings(steady, max_examples=150)
@given(pattern=patterns(), change=changes, hours=st.integers(-30, 30), minutes=st.integers(0, 59))
def test_around_a_change_the_clock_itself_says_when_it_ticks(
    pattern: Pattern, change: tuple[str, datetime], hours: int, minutes: int
) -> None:
    # Given patterns that name the days around the change
    zone, instant = change
    after = instant + hours * HOUR + minutes * MINUTE
    until = max(after + 6 * HOUR, instant + 6 * HOUR)
    days = {(instant + n * DAY).day for n in (-2, -1, 0, 1, 2)}
    pattern = (*pattern[:2], pattern[2] and pattern[2] | days, pattern[3] and pattern[3] | {instant.month}, pattern[4])

    # Then
    schedule = parse_schedule(f"TZ={zone} {' '.join(map(text_of, pattern))}")
    assert ticks(schedule, after, until) == ticks_by_definition(pattern, zone, after, until)


# ----------------------------------------------------------------------------------------- against another implementation


def items(low: int, high: int, *, steps: bool = True) -> st.SearchStrategy[str]:
    """An item that both grammars read alike: of the day of the week, cronsim takes 7 too, and so counts its steps from 0 to 7."""
    single = st.integers(low, high).map(str)
    spans = st.tuples(st.integers(low, high), st.integers(low, high)).map(lambda pair: f"{min(pair)}-{max(pair)}")
    if not steps:
        return single | spans
    step = st.integers(1, 20)
    wide_spans = st.tuples(st.integers(low, high - 1), st.integers(1, high - low)).map(
        lambda pair: f"{pair[0]}-{min(high, pair[0] + pair[1])}"
    )  # a range of one value is one value to cronsim, and goes on to the end when it has a step
    stepped = st.tuples(single | wide_spans, step).map(lambda pair: f"{pair[0]}/{pair[1]}")
    return single | spans | stepped


def lists(low: int, high: int, *, steps: bool = True) -> st.SearchStrategy[str]:
    return st.lists(items(low, high, steps=steps), min_size=1, max_size=3).map(",".join)


clock_fields = st.one_of(st.just("*"), st.integers(1, 70).map("*/{}".format))
"""With a star."""


@st.composite
def shared_specs(draw: st.DrawFn) -> str:
    """Five fields that robfig's cron and cronsim read alike.

    A star with a step makes the other day field count *too* there, and *instead* here: so the other one is a star then.
    """
    minute = draw(clock_fields | lists(0, 59))
    hour = draw(clock_fields | lists(0, 23))
    day = draw(st.just("*") | lists(1, 28))
    weekday = draw(st.just("*") | lists(0, 6, steps=False) | st.sampled_from(["mon-fri", "SUN", "tue,Thu"]))
    if weekday == "*" and draw(st.booleans()):
        day = draw(st.integers(2, 20).map("*/{}".format))
    month = draw(st.just("*") | lists(1, 12) | st.sampled_from(["jan-mar,JUL", "*/3"]))
    return f"{minute} {hour} {day} {month} {weekday}"


AMISS_IN_CRONSIM = {"Australia/Lord_Howe", "America/Caracas", "America/St_Johns"}
"""Changes of half an hour or within one: there its wildcards leave out ticks, tick twice or never come back."""


def is_shown(moment: datetime) -> bool:
    """Whether a clock of its zone ever shows it."""
    return moment == moment.astimezone(UTC).astimezone(moment.tzinfo)


@settings(steady, max_examples=200)
@given(
    spec=shared_specs(),
    change=changes,
    minutes=st.integers(-5000, 5000) | st.integers(-5_000_000, 5_000_000),
)
def test_cronsim_ticks_at_the_same_instants(spec: str, change: tuple[str, datetime], minutes: int) -> None:
    # Given an instant around a change of clocks, or some years off
    zone, instant = change
    minute, hour = spec.split()[:2]
    assume(zone not in AMISS_IN_CRONSIM or not (minute.startswith("*") or hour.startswith("*")))
    after = instant + minutes * MINUTE
    theirs = CronSim(spec, after.astimezone(ZoneInfo(zone)))
    later = list(
        islice((tick for tick in theirs if tick > after), 4)
    )  # in a fold's second showing, it begins in the first
    assume(all(is_shown(tick) for tick in later))  # of a gap at midnight, it takes the midnight for a time
    expected = [tick.astimezone(UTC) for tick in later]

    # Then
    assert ticks(parse_schedule(f"TZ={zone} {spec}"), after, expected[-1]) == expected


@needs_tzset
@settings(steady, max_examples=150)
@given(pattern=patterns(), change=changes, minutes=st.integers(-3000, 3000))
def test_local_time_is_as_good_as_its_zone(pattern: Pattern, change: tuple[str, datetime], minutes: int) -> None:
    zone, instant = change
    after = instant + minutes * MINUTE
    spec = " ".join(map(text_of, (*pattern[:2], None, None, pattern[4])))
    with local_zone(zone):
        found = ticks(parse_schedule(spec), after, after + 8 * HOUR)
        latest = parse_schedule(f"TZ=Local {spec}").last(after, 8 * HOUR)

    assert found == ticks(parse_schedule(f"TZ={zone} {spec}"), after, after + 8 * HOUR)
    assert latest == parse_schedule(f"TZ={zone} {spec}").last(after, 8 * HOUR)


@settings(steady, max_examples=150)
@given(
    pattern=patterns(),
    change=changes,
    minutes=st.integers(-3000, 3000),
    span=st.timedeltas(timedelta(0), 2 * DAY),
)
def test_the_latest_tick_is_the_last_of_all(
    pattern: Pattern, change: tuple[str, datetime], minutes: int, span: timedelta
) -> None:
    zone, instant = change
    before = instant + minutes * MINUTE
    spec = " ".join(map(text_of, (*pattern[:2], None, None, pattern[4])))
    schedule = parse_schedule(f"TZ={zone} {spec}")
    every = ticks(schedule, before - span, before)
    assert schedule.last(before, span) == (every[-1] if every else None)
