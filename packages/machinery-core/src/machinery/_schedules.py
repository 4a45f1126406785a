"""When periodic tasks tick: the row of instants that a schedule names, the same on every server.

Three kinds of rows. `IntervalSchedule` counts from the Unix epoch. The other two look at a clock on the wall, which a change
of the clocks sets forward (a gap: times it never shows) or back (a fold: times it shows twice):

- `FixedSchedule` has fixed times of day. Each comes exactly once a day: at the end of the gap where the clock never shows it, at
  its first showing where the clock shows it twice.
- `WildcardSchedule` runs on through the hours, and so goes by what the clock shows: both showings, and nothing in a gap.

What text means which schedule is `_cron`'s affair.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, date, datetime, time, timedelta, tzinfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)

_SHORTEST_STRETCH = _DAY
"""A zone never sets its clocks twice within this span."""

_FARTHEST_AHEAD = _DAY
"""No clock is as far ahead of UTC."""


class Schedule(ABC):
    """A row of ticks. Frozen, safe to use from any thread; schedules of one text are equal."""

    __slots__ = ()

    @abstractmethod
    def next(self, after: datetime) -> datetime | None:
        """The first tick later than ``after`` (aware), in UTC; ``None`` where dates end (year 9999) before one."""

    def last(self, before: datetime, within: timedelta) -> datetime | None:
        """The latest tick at or before ``before`` (aware) and later than ``before - within``, in UTC; ``None``: there is none.

        Takes a few dozen steps of `next`, however many ticks there are.
        """
        reach = min(_MINUTE, within)
        while reach > timedelta(0):
            tick = self.next(before - reach)
            if tick is not None and tick <= before:
                return self._latest(tick, before)
            if reach == within:
                return None
            reach = min(reach * 4, within)
        return None

    def _latest(self, tick: datetime, before: datetime) -> datetime:
        """The latest tick at or before ``before``, given one of them: halves what lies between until nothing does."""
        silent = before  # no tick is later than this one and still not later than `before`
        while (later := self.next(tick)) is not None and later <= before:
            middle = later + (silent - later) / 2
            beyond = self.next(middle)
            if beyond is not None and beyond <= before:
                tick = beyond
            else:
                tick, silent = later, middle
        return tick


@dataclass(frozen=True, slots=True)
class IntervalSchedule(Schedule):
    """A tick at every whole multiple of ``interval`` (whole seconds, at least one) since 1970 UTC."""

    interval: timedelta

    def next(self, after: datetime) -> datetime | None:
        """Counts."""
        try:
            return _EPOCH + ((after - _EPOCH) // self.interval + 1) * self.interval
        except OverflowError:
            return None


@dataclass(frozen=True, slots=True)
class Pattern:
    """The minutes that the five fields name, on a wall of no particular place: naive times. No field is empty."""

    minutes: tuple[int, ...]
    """Ascending, as are the hours."""
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    either_day: bool
    """Days of the month and of the week are both restricted: a date needs to be among one of them, not both."""

    def first_from(self, wall: datetime) -> datetime | None:
        """The first of the minutes that is not earlier than ``wall`` (naive); ``None`` from the year 9999 on."""
        if wall.year == MAXYEAR:
            return None
        start = wall.replace(second=0, microsecond=0)
        if start < wall:
            start += _MINUTE
        day = start.date()
        if self._is_day(day) and (found := self._time_from(start.hour, start.minute)):
            return datetime.combine(day, found)
        later = self._day_after(day)
        return None if later is None else datetime.combine(later, time(self.hours[0], self.minutes[0]))

    def _time_from(self, hour: int, minute: int) -> time | None:
        if hour in self.hours and minute <= self.minutes[-1]:
            return time(hour, self.minutes[bisect_left(self.minutes, minute)])
        later = bisect_right(self.hours, hour)
        return time(self.hours[later], self.minutes[0]) if later < len(self.hours) else None

    def _day_after(self, day: date) -> date | None:
        day += _DAY
        while day.year < MAXYEAR:
            if day.month not in self.months:
                day = (day.replace(day=28) + 4 * _DAY).replace(day=1)
            elif self._is_day(day):
                return day
            else:
                day += _DAY
        return None

    def _is_day(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return of_month or of_week if self.either_day else of_month and of_week


@dataclass(frozen=True, slots=True)
class FixedSchedule(Schedule):
    """Fixed times of day, each exactly once a day; several that fall into one gap are one tick, at its end."""

    pattern: Pattern
    zone: tzinfo | None
    """``None``: this machine's local time."""

    def next(self, after: datetime) -> datetime | None:
        """Goes through the times on the wall.

        What the clock showed before ``after``'s own time is past, whichever showing that was; of later times, those whose
        first showing is past are passed over.
        """
        if after.year == MAXYEAR:
            return None
        after = _whole_second(after)
        wall = self.pattern.first_from(_wall_at(after, self.zone) + _SECOND)
        while wall is not None:
            tick = _first_showing(wall, self.zone)
            if tick > after:
                return tick
            wall = self.pattern.first_from(wall + _SECOND)
        return None


@dataclass(frozen=True, slots=True)
class WildcardSchedule(Schedule):
    """Whenever the clock on the wall shows one of the pattern's minutes."""

    pattern: Pattern
    zone: tzinfo | None
    """``None``: this machine's local time."""

    def next(self, after: datetime) -> datetime | None:
        """Goes from one change of the clocks to the next: in between, the clock shows every minute once and in order."""
        if after.year == MAXYEAR:
            return None
        start = _whole_second(after) + _SECOND
        while True:
            wall = _wall_at(start, self.zone)
            found = self.pattern.first_from(wall)
            if found is None:
                return None
            tick = start + (found - wall)
            change = _first_change(start, tick, self.zone)
            if change is None:
                return tick
            start = change


def _whole_second(instant: datetime) -> datetime:
    """In UTC and without its fraction: all ticks and all changes of clocks are at whole seconds."""
    return instant.astimezone(UTC).replace(microsecond=0)


def _wall_at(instant: datetime, zone: tzinfo | None) -> datetime:
    """What the zone's clock shows, naive."""
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def _first_showing(wall: datetime, zone: tzinfo | None) -> datetime:
    """The first instant (UTC) at which the zone's clock shows ``wall``, or the end of the gap that swallows it.

    Goes from change to change, too: what ``fold`` picks is not to be relied on in local time where a gap is as long as a day.
    """
    start = wall.replace(tzinfo=UTC) - _FARTHEST_AHEAD
    while (shown := _wall_at(start, zone)) < wall:
        instant = start + (wall - shown)
        change = _first_change(start, instant, zone)
        if change is None:
            return instant
        start = change
    return start


def _first_change(start: datetime, end: datetime, zone: tzinfo | None) -> datetime | None:
    """The first instant after ``start`` and not after ``end`` (both UTC) at which the zone sets its clocks."""
    if zone is UTC:
        return None
    offset = start.astimezone(zone).utcoffset()
    while start < end:
        probe = min(start + _SHORTEST_STRETCH, end)
        if probe.astimezone(zone).utcoffset() != offset:
            return _narrowed(start, probe, zone)
        start = probe
    return None


def _narrowed(before: datetime, after: datetime, zone: tzinfo | None) -> datetime:
    """The instant of the change between ``before`` and ``after``, which is the first to have ``after``'s offset."""
    offset = before.astimezone(zone).utcoffset()
    while (span := after - before) > _SECOND:
        middle = before + timedelta(seconds=span // _SECOND // 2)
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after
