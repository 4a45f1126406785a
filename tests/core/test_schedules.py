"""When schedules tick: intervals, days, and the days on which clocks are changed."""

from __future__ import annotations

from datetime import MAXYEAR, UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machinery._cron import parse_schedule
from machinery._schedules import IntervalSchedule, Schedule
from tests.core.clock_changes import DAY, HOUR, MINUTE, at, local_zone, needs_tzset, steady, ticks

# --------------------------------------------------------------------------------------------------------- intervals


def test_an_interval_ticks_at_multiples_since_the_epoch() -> None:
    schedule = parse_schedule("@every 90m")

    assert ticks(schedule, at("2025-01-01T00:00:00.000001Z"), at("2025-01-01T05:00:00Z")) == [
        at("2025-01-01T01:30:00Z"),
        at("2025-01-01T03:00:00Z"),
        at("2025-01-01T04:30:00Z"),
    ]
    assert schedule.next(at("1969-12-31T23:00:00Z")) == at("1970-01-01T00:00:00Z")
    assert parse_schedule("@every 7s").next(at("1970-01-01T00:00:08Z")) == at("1970-01-01T00:00:14Z")


@steady
@given(
    seconds=st.integers(1, 10**9),
    after=st.datetimes(datetime(1900, 1, 1), datetime(2500, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis adds it
)
def test_an_interval_names_the_same_ticks_whoever_asks_and_when(seconds: int, after: datetime) -> None:
    interval = timedelta(seconds=seconds)
    tick = IntervalSchedule(interval).next(after)

    assert tick is not None
    assert after < tick <= after + interval
    assert not (tick - at("1970-01-01T00:00:00Z")) % interval
    assert IntervalSchedule(interval).next(tick - interval) == tick


# ------------------------------------------------------------------------------------------------- changes of the clocks

BERLIN_SPRING = at("2025-03-30T01:00:00Z")  # 02:00 becomes 03:00
BERLIN_AUTUMN = at("2025-10-26T01:00:00Z")  # 03:00 becomes 02:00


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("30 2 * * *", ["03-29T01:30", "03-30T01:00", "03-31T00:30"]),
        ("0 2 * * *", ["03-29T01:00", "03-30T01:00", "03-31T00:00"]),
        ("0 3 * * *", ["03-29T02:00", "03-30T01:00", "03-31T01:00"]),
        ("15,45 2 * * *", ["03-29T01:15", "03-29T01:45", "03-30T01:00", "03-31T00:15", "03-31T00:45"]),
        ("30 1-3 30 * *", ["03-30T00:30", "03-30T01:00", "03-30T01:30"]),
        ("0-59/20 2 30 * *", ["03-30T01:00"]),
        ("30 */2 30 * *", ["03-29T23:30", *(f"03-30T{hour:02}:30" for hour in range(2, 22, 2))]),
        ("*/20 2 30 * *", []),
        ("*/20 1-3 30 * *", ["03-30T00:00", "03-30T00:20", "03-30T00:40", "03-30T01:00", "03-30T01:20", "03-30T01:40"]),
    ],
)
def test_a_time_in_the_gap_comes_at_its_end_and_a_wildcard_not_at_all(spec: str, expected: list[str]) -> None:
    schedule = parse_schedule(f"TZ=Europe/Berlin {spec}")
    found = ticks(schedule, at("2025-03-29T00:59:59Z"), at("2025-03-31T02:00:00Z"))
    assert found == [at(f"2025-{text}:00Z") for text in expected]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("30 2 * * *", ["10-25T00:30", "10-26T00:30", "10-27T01:30"]),
        ("0 2 * * *", ["10-26T00:00", "10-27T01:00"]),
        ("0 3 * * *", ["10-25T01:00", "10-26T02:00"]),
        ("15,45 2 26 * *", ["10-26T00:15", "10-26T00:45"]),
        ("0-59/20 2 26 * *", ["10-26T00:00", "10-26T00:20", "10-26T00:40"]),
        ("30 1-3 26 * *", ["10-25T23:30", "10-26T00:30", "10-26T02:30"]),
        ("*/30 2 26 * *", ["10-26T00:00", "10-26T00:30", "10-26T01:00", "10-26T01:30"]),
        ("*/30 1-3 26 * *", [
            "10-25T23:00", "10-25T23:30", "10-26T00:00", "10-26T00:30",
            "10-26T01:00", "10-26T01:30", "10-26T02:00", "10-26T02:30",
        ]),
    ],
)  # fmt: skip
def test_a_time_in_the_fold_comes_at_its_first_showing_and_a_wildcard_at_both(spec: str, expected: list[str]) -> None:
    schedule = parse_schedule(f"TZ=Europe/Berlin {spec}")
    found = ticks(schedule, at("2025-10-25T00:00:00Z"), at("2025-10-27T01:59:59Z"))
    assert found == [at(f"2025-{text}:00Z") for text in expected]


def test_an_hourly_schedule_ticks_every_hour_of_the_days_with_23_and_25() -> None:
    schedule = parse_schedule("TZ=Europe/Berlin @hourly")

    for change in (BERLIN_SPRING, BERLIN_AUTUMN):
        assert ticks(schedule, change - 5 * HOUR, change + 5 * HOUR) == [change + n * HOUR for n in range(-4, 6)]


def test_a_time_in_the_fold_does_not_come_again_for_who_asks_between_its_showings() -> None:
    schedule = parse_schedule("TZ=Europe/Berlin 30 2 * * *")

    assert schedule.next(at("2025-10-26T02:29:59+02:00")) == at("2025-10-26T02:30:00+02:00")
    assert schedule.next(at("2025-10-26T02:30:00+02:00")) == at("2025-10-27T02:30:00+01:00")
    assert schedule.next(at("2025-10-26T02:15:00+01:00")) == at("2025-10-27T02:30:00+01:00")


@pytest.mark.parametrize(
    ("zone", "spec", "after", "expected"),
    [
        # Half an hour: 02:00 becomes 02:30 in October and 01:30 in April
        ("Australia/Lord_Howe", "15 2 5 10 *", "2025-01-01T00:00:00Z", ["2025-10-04T15:30:00Z"]),
        ("Australia/Lord_Howe", "45 1 6 4 *", "2025-01-01T00:00:00Z", ["2025-04-05T14:45:00Z", "2026-04-05T15:15:00Z"]),
        ("Australia/Lord_Howe", "*/15 1 6 4 *", "2025-04-05T14:15:00Z",
         ["2025-04-05T14:30:00Z", "2025-04-05T14:45:00Z", "2025-04-05T15:00:00Z", "2025-04-05T15:15:00Z"]),
        ("Australia/Lord_Howe", "0 * * * *", "2025-04-05T13:30:00Z", ["2025-04-05T14:00:00Z", "2025-04-05T15:30:00Z"]),
        ("Australia/Lord_Howe", "0 * * * *", "2025-10-04T14:30:00Z", ["2025-10-04T16:00:00Z", "2025-10-04T17:00:00Z"]),
        # Midnight becomes 01:00
        ("America/Sao_Paulo", "0 0 15 10 *", "2017-01-01T00:00:00Z", ["2017-10-15T03:00:00Z"]),
        ("America/Sao_Paulo", "* 0 15 10 *", "2017-01-01T00:00:00Z", ["2018-10-15T03:00:00Z"]),
        ("America/Sao_Paulo", "59,0 * 15 10 *", "2017-01-01T00:00:00Z", ["2017-10-15T03:00:00Z", "2017-10-15T03:59:00Z"]),
        # Midnight becomes 23:00 of the day before, on which the 17th of February 2018 has 25 hours
        ("America/Sao_Paulo", "30 23 * * *", "2018-02-17T12:00:00Z", ["2018-02-18T01:30:00Z", "2018-02-19T02:30:00Z"]),
        ("America/Sao_Paulo", "*/30 23 * * *", "2018-02-17T12:00:00Z",
         ["2018-02-18T01:00:00Z", "2018-02-18T01:30:00Z", "2018-02-18T02:00:00Z", "2018-02-18T02:30:00Z"]),
        # A minute past midnight becomes 23:01 of the day before, which the clock then shows again
        ("America/St_Johns", "* 23 6 11 *", "2010-11-07T02:28:30Z", ["2010-11-07T02:29:00Z", "2010-11-07T02:31:00Z"]),
        ("America/St_Johns", "0,1 0 7 11 *", "2010-11-07T02:00:00Z", ["2010-11-07T02:30:00Z", "2010-11-07T03:31:00Z"]),
        ("America/St_Johns", "* 0 7 11 *", "2010-11-07T02:00:00Z",
         ["2010-11-07T02:30:00Z", "2010-11-07T03:30:00Z", "2010-11-07T03:31:00Z"]),
        # The 30th of December 2011 was left out
        ("Pacific/Apia", "0 10 * * *", "2011-12-29T12:00:00Z",
         ["2011-12-29T20:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T20:00:00Z"]),
        ("Pacific/Apia", "0 10 30 12 *", "2011-12-29T12:00:00Z", ["2011-12-30T10:00:00Z", "2012-12-29T20:00:00Z"]),
        ("Pacific/Apia", "0 */12 30,31 12 *", "2011-12-29T12:00:00Z", ["2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"]),
        # Clocks that were not whole minutes from UTC: noon by the sun became noon of the zone
        ("Europe/Berlin", "2 0 1 4 *", "1893-03-01T00:00:00Z", ["1893-03-31T23:06:32Z"]),
        ("Europe/Berlin", "*/4 0 1 4 *", "1893-03-31T23:00:00Z", ["1893-03-31T23:08:00Z", "1893-03-31T23:12:00Z"]),
    ],
)  # fmt: skip
def test_every_kind_of_change_is_honoured(zone: str, spec: str, after: str, expected: list[str]) -> None:
    schedule = parse_schedule(f"TZ={zone} {spec}")
    found, instant = [], at(after)
    for _ in expected:
        following = schedule.next(instant)
        assert following is not None
        found.append(following)
        instant = following
    assert found == [at(text) for text in expected]


# --------------------------------------------------------------------------------------------------------- local time


@needs_tzset
def test_local_time_is_what_it_is_when_asked() -> None:
    schedule = parse_schedule("30 8 * * *")

    with local_zone("Asia/Tokyo"):
        assert schedule.next(at("2025-01-01T00:00:00Z")) == at("2025-01-01T23:30:00Z")
    with local_zone("America/New_York"):
        assert schedule.next(at("2025-01-01T00:00:00Z")) == at("2025-01-01T13:30:00Z")


# ------------------------------------------------------------------------------------------------------- the latest tick


def test_the_latest_tick_is_at_the_instant_or_before_and_not_too_old() -> None:
    schedule = parse_schedule("TZ=UTC 30 8 * * *")
    tick = at("2025-01-01T08:30:00Z")

    assert schedule.last(tick, DAY) == tick
    assert schedule.last(tick - timedelta(microseconds=1), DAY) == tick - DAY
    assert schedule.last(tick + HOUR, HOUR) is None
    assert schedule.last(tick + HOUR, HOUR + timedelta(microseconds=1)) == tick
    assert schedule.last(tick + 10 * HOUR, DAY) == tick
    assert schedule.last(tick, timedelta(0)) is None
    assert schedule.last(tick, -DAY) is None


@pytest.mark.parametrize(
    "spec", ["* * * * *", "0-59 0-23 * * *", "@every 1s", "TZ=Europe/Berlin * 2 * * *", "* * 1 * *"]
)
def test_the_latest_tick_takes_few_steps_however_many_there_are(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    schedule = parse_schedule(spec)
    before = at("2025-02-03T12:00:30Z")
    asked = []
    kind = type(schedule)
    following = kind.next

    def counted(self: Schedule, after: datetime) -> datetime | None:
        asked.append(after)
        return following(self, after)

    monkeypatch.setattr(kind, "next", counted)

    # When
    latest = schedule.last(before, 5 * DAY)

    # Then
    assert latest is not None
    assert len(asked) < 100
    monkeypatch.undo()
    assert ticks(schedule, latest - MINUTE, before)[-1] == latest


# ------------------------------------------------------------------------------------------------------------- the edges


@pytest.mark.parametrize(
    ("spec", "latest"),
    [
        ("@every 1h", "2025-01-01T02:00:00Z"),
        ("TZ=UTC 0 1 * * *", "2025-01-01T01:00:00Z"),
        ("TZ=UTC * 1 * * *", "2025-01-01T01:59:00Z"),
    ],
)
def test_an_instant_in_any_zone_will_do(spec: str, latest: str) -> None:
    schedule = parse_schedule(spec)
    after = datetime(2025, 1, 1, 9, 0, tzinfo=timezone(timedelta(hours=9)))

    assert schedule.next(after) == at("2025-01-01T01:00:00Z")
    assert schedule.last(after + 2 * HOUR, DAY) == at(latest)


@pytest.mark.parametrize(
    "spec", ["@every 1000h", "30 8 * * *", "* * * * *", "TZ=Asia/Tokyo * * 1 1 *", "TZ=Asia/Tokyo 0 0 29 2 *"]
)
def test_no_schedule_goes_beyond_the_calendar(spec: str) -> None:
    schedule, end = parse_schedule(spec), datetime.max.replace(tzinfo=UTC)

    assert schedule.next(end) is None
    assert (schedule.next(datetime(MAXYEAR - 1, 12, 31, 23, 59, tzinfo=UTC)) or end).year == MAXYEAR
    assert len(ticks(schedule, datetime(MAXYEAR - 1, 12, 30, tzinfo=UTC), end)) < 3 * DAY / MINUTE


@pytest.mark.parametrize("spec", ["@every 1h30m", "30 8 * * *", "TZ=Europe/Berlin * * 1 jan-mar mon"])
def test_schedules_of_one_text_are_equal(spec: str) -> None:
    assert parse_schedule(spec) == parse_schedule(spec)
    assert hash(parse_schedule(spec)) == hash(parse_schedule(spec))
    assert parse_schedule(spec) != parse_schedule("@every 7h")
