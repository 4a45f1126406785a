"""The scheduler: when it has a thread, and what comes and goes while it has one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from machinery.errors import BrokerUnavailable
from tests.core.stations import NOON, Row, Station, entry
from tests.interop.eventually import eventually

pytestmark = pytest.mark.usefixtures("long_farewell")

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def station() -> Iterator[Station]:
    """One that nobody holds yet; it is 12:00."""
    with Station() as made:
        yield made


def test_nothing_is_fired_and_there_is_no_thread_until_somebody_wants_it(station: Station) -> None:
    station.add("* * * * *", missed="once")
    station.clock.advance(DAY)
    assert not station.has_thread()
    assert station.fired == []


def test_there_is_no_thread_while_nothing_is_registered(station: Station) -> None:
    station.scheduler.hold()
    assert not station.has_thread()
    station.add("* * * * *")
    assert station.has_thread()
    station.scheduler.remove("report")
    eventually(lambda: not station.has_thread())
    station.add("* * * * *")
    station.advance(MINUTE)
    assert station.times == [NOON + MINUTE]


def test_the_thread_ends_with_the_last_who_wanted_it(station: Station) -> None:
    station.add("* * * * *")
    station.scheduler.hold()
    station.scheduler.hold()
    thread = station.scheduler._thread
    station.scheduler.release()
    station.advance(MINUTE)
    assert len(station.fired) == 1
    station.scheduler.release()
    assert thread is not None
    assert not thread.is_alive()
    assert not station.has_thread()
    station.clock.advance(10 * MINUTE)
    assert len(station.fired) == 1


def test_one_release_too_many_changes_nothing(station: Station) -> None:
    station.add("* * * * *")
    station.scheduler.release()
    station.scheduler.hold()
    station.advance(MINUTE)
    assert station.times == [NOON + MINUTE]


@pytest.mark.parametrize(("missed", "fired"), [("skip", [1, 6]), ("once", [1, 5.5, 6])])
def test_who_comes_again_begins_anew(station: Station, missed: str, fired: list[float]) -> None:
    station.add("* * * * *", missed="once" if missed == "once" else "skip")
    station.scheduler.hold()
    station.clock.await_look()
    station.fired.clear()  # of 12:00, where that is made up for
    station.advance(MINUTE)
    station.scheduler.release()
    station.clock.advance(timedelta(minutes=4, seconds=30))
    station.scheduler.hold()
    station.clock.await_look()
    station.advance(30 * SECOND)
    assert station.times == [NOON + timedelta(minutes=minutes) for minutes in fired]


def test_who_comes_again_at_once_fires_nothing_twice(station: Station) -> None:
    station.add("* * * * *", missed="once")
    for _ in range(5):
        station.scheduler.hold()
        station.clock.await_look()
        station.scheduler.release()
    assert station.times == [NOON]


def test_what_is_registered_meanwhile_is_fired_too(station: Station) -> None:
    station.add("@yearly", "far")
    station.scheduler.hold()
    station.clock.await_look()
    station.add("* * * * *", "near")
    station.advance(MINUTE)
    assert station.fired == [("near", NOON + MINUTE)]


def test_what_was_removed_is_not_fired_any_more(station: Station) -> None:
    station.add("* * * * *", "removed")
    station.add("* * * * *", "kept")
    station.scheduler.hold()
    station.clock.await_look()
    assert station.scheduler.remove("removed")
    assert not station.scheduler.remove("removed")
    station.advance(MINUTE)
    assert station.fired == [("kept", NOON + MINUTE)]


def test_what_was_removed_while_its_service_is_away_is_not_tried_again(station: Station) -> None:
    station.add("@hourly")
    station.add("@yearly", "other")
    station.scheduler.hold()
    station.plan.fail_until_mended("send")
    station.advance_in_steps(HOUR, MINUTE)
    station.scheduler.remove("report")
    station.plan.mend()
    tries = station.plan.count("send")
    station.advance_in_steps(5 * MINUTE, 15 * SECOND)
    assert station.plan.count("send") == tries


def test_the_last_to_let_go_waits_for_a_firing_that_has_begun(station: Station) -> None:
    # Given a firing that ends only once everybody has let go
    begun = threading.Event()

    def send() -> None:
        begun.set()
        eventually(lambda: not station.scheduler._users)

    station.add("* * * * *", send=send)
    station.scheduler.hold()
    station.clock.advance(MINUTE)
    assert begun.wait(10)

    # When the last one lets go, then it is over
    station.scheduler.release()
    assert station.times == [NOON + MINUTE]
    assert not station.has_thread()


def test_who_lets_go_while_firing_does_not_wait_for_itself(station: Station) -> None:
    station.add("* * * * *", send=station.scheduler.release)
    station.scheduler.hold()
    station.clock.advance(MINUTE)
    eventually(lambda: not station.has_thread())
    assert station.times == [NOON + MINUTE]


@pytest.mark.parametrize("fails", [False, True], ids=["sent", "failing"])
def test_who_comes_again_while_firing_goes_on_with_the_next_tick(station: Station, fails: bool) -> None:
    # Given a firing in the middle of which everybody lets go and somebody comes again
    def begin_anew() -> None:
        station.scheduler.release()
        station.scheduler.hold()
        if fails and not station.fired:
            fails_once.append(None)
            if len(fails_once) == 1:
                raise BrokerUnavailable("away")

    fails_once: list[None] = []
    station.add("* * * * *", send=begin_anew)
    station.scheduler.hold()
    station.advance_in_steps(2 * MINUTE, 30 * SECOND)

    # Then the next tick is fired, and this one not once more
    assert station.times == [NOON + MINUTE, NOON + 2 * MINUTE][fails:]


def test_a_schedule_that_is_over_when_somebody_comes_again_is_left_out(station: Station) -> None:
    station.scheduler.add(entry(station, Row(NOON + MINUTE)))
    station.scheduler.hold()
    station.advance(MINUTE)
    station.scheduler.release()
    station.scheduler.hold()
    station.advance(DAY)
    assert station.times == [NOON + MINUTE]


def test_what_has_no_tick_any_more_when_the_thread_comes_to_it_is_left(station: Station) -> None:
    ended = entry(station, Row())
    station.scheduler._come_to(ended)
    assert station.fired == []
    assert ended.attempt is None
