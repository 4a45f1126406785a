"""The scheduler: when it fires, and what it does with ticks that are missed, with errors, and with a clock that is set."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from machinery._scheduler import Missed
from machinery._schedules import Schedule
from machinery.errors import BrokerUnavailable, MachineryError, MessageTooLarge, PublishError
from tests.core.stations import NOON, Row, Station, entry

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def station() -> Iterator[Station]:
    """One that nobody holds yet; it is 12:00."""
    with Station() as made:
        yield made


# ------------------------------------------------------------------------------------------------------------- ticks


def test_a_tick_is_fired_when_it_comes_and_not_before(station: Station) -> None:
    station.add("* * * * *")
    station.scheduler.hold()
    station.clock.await_look()
    assert station.fired == []
    station.advance(timedelta(seconds=59, microseconds=999_999))
    assert station.fired == []
    station.advance(timedelta(microseconds=1))
    assert station.times == [NOON + MINUTE]


def test_every_tick_is_fired_once(station: Station) -> None:
    station.add("* * * * *")
    station.scheduler.hold()
    station.advance_in_steps(5 * MINUTE, 20 * SECOND)
    assert station.times == [NOON + number * MINUTE for number in (1, 2, 3, 4, 5)]


def test_each_periodic_task_has_its_own_ticks(station: Station) -> None:
    station.add("* * * * *", "often")
    station.add("@every 90s", "seldom")
    station.scheduler.hold()
    station.advance_in_steps(3 * MINUTE, 30 * SECOND)
    assert sorted(station.fired, key=lambda firing: firing[1]) == [
        ("often", NOON + MINUTE),
        ("seldom", NOON + 90 * SECOND),
        ("often", NOON + 2 * MINUTE),
        *sorted([("often", NOON + 3 * MINUTE), ("seldom", NOON + 3 * MINUTE)], key=station.fired.index),
    ]


def test_a_schedule_that_ends_has_no_more_ticks_and_leaves_the_others_alone(station: Station) -> None:
    station.add("* * * * *", "other")
    station.scheduler.add(entry(station, Row(NOON + MINUTE)))
    station.scheduler.hold()
    station.advance_in_steps(3 * MINUTE, MINUTE)
    assert [name for name, _ in station.fired].count("row") == 1
    assert [name for name, _ in station.fired].count("other") == 3
    assert station.scheduler.remove("row")


def test_a_schedule_that_never_comes_is_waited_for_without_a_fuss(station: Station) -> None:
    station.scheduler.add(entry(station, Row()))
    station.scheduler.hold()
    station.advance(DAY)
    assert station.fired == []


def test_a_schedule_with_a_defect_does_not_stop_the_others(station: Station, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Schedule):
        def next(self, after: datetime) -> datetime | None:
            if after > NOON:
                raise ZeroDivisionError
            return NOON + MINUTE

    station.add("* * * * *", "other")
    station.scheduler.add(entry(station, Broken(), "broken"))
    station.scheduler.hold()
    station.advance_in_steps(3 * MINUTE, MINUTE)
    assert station.fired == [("other", NOON + number * MINUTE) for number in (1, 2, 3)]
    assert "broken is not fired any more" in caplog.messages


# ------------------------------------------------------------------------------------------------------ missed ticks


def test_a_tick_that_somebody_comes_to_within_a_minute_is_not_missed(station: Station) -> None:
    station.add("@hourly")
    station.scheduler.hold()
    station.advance(HOUR + timedelta(seconds=59.9))
    assert station.times == [NOON + HOUR + timedelta(seconds=59.9)]


@pytest.mark.parametrize("late", [HOUR + MINUTE, 3 * HOUR + 10 * MINUTE], ids=["one", "several"])
def test_missed_ticks_are_skipped_and_the_next_one_is_fired(
    station: Station, late: timedelta, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a process that is suspended over its ticks
    station.add("@hourly")
    station.scheduler.hold()
    station.clock.await_look()
    station.advance(late)
    following = NOON + HOUR * (late // HOUR + 1)

    # Then nothing is fired before the next tick, and the log says so
    assert station.fired == []
    said = f"report missed its tick of {(NOON + HOUR).isoformat()}; next is that of {following.isoformat()}"
    assert said in caplog.messages
    station.advance(following - station.clock.now())
    assert station.times == [following]


def test_of_several_ticks_that_came_meanwhile_the_latest_is_fired_if_it_is_not_missed(station: Station) -> None:
    station.add("* * * * *")
    station.scheduler.hold()
    station.clock.await_look()
    station.advance(timedelta(minutes=5, seconds=30))
    station.advance(30 * SECOND)
    assert station.times == [NOON + timedelta(minutes=5, seconds=30), NOON + 6 * MINUTE]


def test_of_missed_ticks_the_latest_is_made_up_for_where_that_is_asked_for(station: Station) -> None:
    station.add("@hourly", missed="once")
    station.scheduler.hold()
    station.clock.await_look()
    station.fired.clear()  # that of 12:00
    station.advance(3 * HOUR + 10 * MINUTE)
    assert station.times == [NOON + 3 * HOUR + 10 * MINUTE]
    station.advance(50 * MINUTE)
    assert station.times[1:] == [NOON + 4 * HOUR]


def test_what_came_before_anybody_was_there_is_made_up_for_at_the_start(station: Station) -> None:
    station.add("0 6 * * *", "once", missed="once")
    station.add("0 6 * * *", "skip", missed="skip")
    station.scheduler.hold()
    station.clock.await_look()
    assert station.fired == [("once", NOON)]


@pytest.mark.parametrize(
    ("tick", "made_up_for"), [(NOON - DAY + SECOND, True), (NOON - DAY, False)], ids=["today", "longer ago"]
)
def test_only_what_came_in_the_last_day_is_made_up_for_at_the_start(
    station: Station, tick: datetime, made_up_for: bool
) -> None:
    station.scheduler.add(entry(station, Row(tick, NOON + 10 * DAY), missed=Missed.ONCE))
    station.scheduler.hold()
    station.clock.await_look()
    assert len(station.fired) == made_up_for


def test_only_what_came_in_the_last_day_is_made_up_for_by_a_process_that_was_suspended(station: Station) -> None:
    station.scheduler.add(entry(station, Row(NOON + DAY, NOON + 10 * DAY), missed=Missed.ONCE))
    station.scheduler.hold()
    station.clock.await_look()
    station.advance(3 * DAY)
    assert station.fired == []
    station.advance(7 * DAY)
    assert station.times == [NOON + 10 * DAY]


def test_a_missed_last_tick_of_a_schedule_is_the_end_of_it(station: Station, caplog: pytest.LogCaptureFixture) -> None:
    station.scheduler.add(entry(station, Row(NOON + HOUR)))
    station.scheduler.hold()
    station.clock.await_look()
    station.advance(2 * HOUR)
    assert station.fired == []
    assert f"row missed its tick of {(NOON + HOUR).isoformat()}; next is none" in caplog.messages


def test_ticks_that_come_while_another_task_is_being_sent_are_not_missed(station: Station) -> None:
    # Given a sending that takes 90 s, and an hourly tick in between
    station.add("@every 1h", "slow", send=lambda: station.clock.advance(90))
    station.scheduler.add(entry(station, Row(NOON + HOUR + 10 * SECOND), "other"))
    station.scheduler.hold()
    station.clock.await_look()

    # Then that tick is fired when the thread comes to it
    station.advance(HOUR)
    assert station.fired == [("slow", NOON + HOUR + 90 * SECOND), ("other", NOON + HOUR + 90 * SECOND)]


# ----------------------------------------------------------------------------------------------------------- failing


def test_what_cannot_be_sent_is_tried_again_until_it_can(station: Station, caplog: pytest.LogCaptureFixture) -> None:
    station.add("@hourly")
    station.scheduler.hold()
    station.plan.fail_until_mended("send")
    station.advance_in_steps(HOUR, MINUTE)
    station.advance_in_steps(10 * MINUTE, 15 * SECOND)
    assert station.plan.count("send") > 10
    assert station.fired == []
    assert f"report cannot be sent at its tick of {(NOON + HOUR).isoformat()} yet: send was to fail" in caplog.messages

    station.plan.mend()
    station.advance(15 * SECOND)
    assert station.times == [NOON + timedelta(hours=1, minutes=10, seconds=15)]
    station.advance_in_steps(48 * MINUTE, MINUTE)
    assert len(station.fired) == 1


def test_when_the_next_tick_comes_it_is_tried_instead_and_at_once(station: Station) -> None:
    # Given a broker that is away for a whole minute, so that the pauses between the tries have grown
    station.add("* * * * *")
    station.scheduler.hold()
    station.plan.fail_until_mended("send")
    station.advance_in_steps(2 * MINUTE - SECOND, SECOND)
    assert station.plan.count("send") > 4
    station.plan.mend()
    tries = station.plan.count("send")

    # When it is back at the next tick, then that one is fired, and the one before is not
    station.clock.advance(SECOND)
    station.clock.await_look()
    assert station.times == [NOON + 2 * MINUTE]
    assert station.plan.count("send") == tries + 1


@pytest.mark.parametrize(
    "error",
    [
        PublishError("refused", {0: BrokerUnavailable("away"), 3: BrokerUnavailable("away")}),
        BrokerUnavailable("away"),
    ],
    ids=["of some messages", "of all"],
)
def test_an_error_that_passes_is_tried_again(station: Station, error: Exception) -> None:
    station.add("@hourly")
    station.scheduler.hold()
    station.plan.fail("send", error=error)
    station.advance_in_steps(HOUR, MINUTE)
    assert station.fired == []
    station.advance(SECOND)
    assert len(station.fired) == 1


@pytest.mark.parametrize(
    "error",
    [
        PublishError("refused", {0: BrokerUnavailable("away"), 1: MessageTooLarge("too large", {})}),
        PublishError("refused", {}),
        MachineryError("no"),
        ZeroDivisionError("a defect"),
        SystemExit(3),
    ],
    ids=["partly for good", "for good", "ours", "a defect", "an exit"],
)
def test_an_error_for_good_is_logged_and_the_next_tick_is_fired(
    station: Station, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    station.add("* * * * *")
    station.scheduler.hold()
    station.plan.fail("send", error=error)
    station.advance_in_steps(MINUTE + 30 * SECOND, 15 * SECOND)
    assert station.plan.count("send") == 1
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == f"report could not be sent at its tick of {(NOON + MINUTE).isoformat()}"
    assert record.exc_info
    assert record.exc_info[1] is error
    station.advance(30 * SECOND)
    assert station.times == [NOON + 2 * MINUTE]


# --------------------------------------------------------------------------------------------------------- the clock


def test_a_clock_that_is_set_back_a_little_fires_nothing_twice(station: Station) -> None:
    station.add("* * * * *")
    station.scheduler.hold()
    station.advance(MINUTE)
    station.clock.set_back(30 * SECOND)
    station.advance_in_steps(90 * SECOND, 15 * SECOND)
    assert station.times == [NOON + MINUTE, NOON + 2 * MINUTE]


def test_what_was_fired_before_the_clock_was_set_back_is_not_fired_again(
    station: Station, caplog: pytest.LogCaptureFixture
) -> None:
    station.add("* * * * *")
    station.scheduler.hold()
    station.advance_in_steps(10 * MINUTE, MINUTE)
    station.clock.set_back(10 * MINUTE)
    station.advance_in_steps(12 * MINUTE, MINUTE)
    assert station.times == [NOON + number * MINUTE for number in range(1, 13)]
    assert any(message.startswith("the clock was set back from ") for message in caplog.messages)


def test_a_clock_that_was_wrong_by_years_holds_nothing_up_once_it_is_right(station: Station) -> None:
    station.clock.advance(4000 * DAY)
    station.add("@daily")
    station.add("* * * * *", "often")
    station.scheduler.hold()
    station.clock.await_look()
    station.clock.set_back(4000 * DAY)
    station.advance(MINUTE)
    assert station.fired == [("often", NOON + MINUTE)]
    station.advance(12 * HOUR - MINUTE)
    assert ("report", NOON + 12 * HOUR) in station.fired


def test_a_clock_that_is_set_forward_makes_ticks_missed(station: Station) -> None:
    station.add("@hourly")
    station.scheduler.hold()
    station.clock.await_look()
    station.advance(100 * DAY + timedelta(minutes=30))
    assert station.fired == []
    station.advance(30 * MINUTE)
    assert station.times == [NOON + 100 * DAY + HOUR]
