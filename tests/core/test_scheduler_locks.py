"""The scheduler's locks: one firing for each tick, whichever servers there are, and what happens when a lock fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise, permutations

import pytest

from machinery._scheduler import lock_key, tick_key
from machinery.abc import Lock
from machinery.errors import BrokerUnavailable, Closed
from machinery.memory import MemoryLock, MemoryLocks
from machinery.testing import FaultPlan, ManualClock
from tests.core.stations import NOON, GoLock, GoLocks, Station, WatchedClock, WatchedLock

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
GOS, TICKS = "machinery_lock_", "machinery:tick:"

Fired = tuple[datetime, datetime]
Skewed = Callable[[timedelta, ManualClock, Callable[[ManualClock], Lock]], list[Fired]]


@pytest.fixture
def clock() -> ManualClock:
    """That of the service which has the locks."""
    return ManualClock(NOON)


@pytest.fixture
def locks(clock: ManualClock) -> MemoryLocks:
    """What all servers share."""
    return MemoryLocks(clock)


@pytest.fixture
def station(locks: MemoryLocks) -> Iterator[Station]:
    """One that runs, with a minutely task and a lock under observation."""
    with running(Station(WatchedLock(MemoryLock(locks)))) as made:
        yield made


@pytest.fixture
def other(locks: MemoryLocks) -> Iterator[Station]:
    """Another server that runs, with the same task."""
    with running(Station(WatchedLock(MemoryLock(locks)))) as made:
        yield made


@contextmanager
def running(station: Station) -> Iterator[Station]:
    with station:
        station.add("* * * * *", "pname")
        station.scheduler.hold()
        yield station


def lock_of(station: Station) -> WatchedLock:
    assert isinstance(station.lock, WatchedLock)
    return station.lock


@pytest.fixture
def pass_time(clock: ManualClock) -> Callable[..., None]:
    """Turn the service's clock and those of some servers, one after the other."""

    def turn(span: timedelta, *stations: Station) -> None:
        clock.advance(span)
        for station in stations:
            station.advance(span)

    return turn


# -------------------------------------------------------------------------------------------------------------- keys


def test_gos_key_and_value(clock: ManualClock) -> None:
    # Given the server of golden G20, at 12:30:30
    clock.advance(timedelta(minutes=30, seconds=30))
    lock = WatchedLock(MemoryLock(MemoryLocks(clock)))
    with running(Station(lock, WatchedClock(clock.now()))) as station:
        # When it comes to the tick of 12:31
        clock.advance(30 * SECOND)
        station.advance(30 * SECOND)

    # Then it takes that key until the next tick, less a nanosecond
    (taken,) = lock.taken(GOS)
    assert taken.key == "machinery_lock_workerpname* * * * *"
    assert taken.token is not None
    assert taken.token.value == "1709296319999999999"
    assert taken.until == datetime(2024, 3, 1, 12, 32, tzinfo=UTC)


def test_the_key_of_the_tick_names_queue_task_schedule_and_tick_and_is_kept_for_a_day(
    station: Station, pass_time: Callable[..., None]
) -> None:
    pass_time(MINUTE, station)
    (taken,) = lock_of(station).taken(TICKS)
    assert taken.key == "machinery:tick:machinery_tasks:pname:* * * * *:2024-03-01T12:01:00+00:00"
    assert timedelta(hours=24) < taken.until - station.clock.now() < timedelta(hours=25)


def test_both_locks_stay_when_the_task_is_sent(
    station: Station, locks: MemoryLocks, pass_time: Callable[..., None]
) -> None:
    pass_time(MINUTE, station)
    assert [key.partition("1" if key.startswith(TICKS) else "*")[0] for key in locks.held] == [
        "machinery_lock_workerpname",
        "machinery:tick:machinery_tasks:pname:* * * * *:2024-03-0",
    ]


def test_the_keys_of_different_things_differ() -> None:
    texts = ["a", "a:b", "b", "b:c", "c", "a%3Ab", "%", ":"]
    keys = {tick_key(queue, name, "@daily", NOON) for queue, name in permutations(texts, 2)}
    assert len(keys) == len(texts) * (len(texts) - 1)


def test_gos_key_has_nothing_between_its_parts() -> None:
    assert lock_key("a", "b", "@daily") == lock_key("", "ab", "@daily") == "machinery_lock_ab@daily"


# ------------------------------------------------------------------------------------------------------- two servers


def test_one_of_two_servers_fires_each_tick(station: Station, other: Station, pass_time: Callable[..., None]) -> None:
    for number in range(60):
        pass_time(30 * SECOND, *((station, other) if number % 3 else (other, station)))
    assert sorted(station.times + other.times) == [NOON + number * MINUTE for number in range(1, 31)]
    assert station.fired
    assert other.fired


def test_servers_that_come_to_a_tick_at_the_same_moment_fire_it_once(
    station: Station, other: Station, clock: ManualClock
) -> None:
    for number in range(1, 31):
        clock.advance(MINUTE)
        station.clock.advance(MINUTE)
        other.clock.advance(MINUTE)
        station.clock.await_look()
        other.clock.await_look()
        assert len(station.fired + other.fired) == number


def test_programs_of_one_application_fire_a_tick_once(
    station: Station, other: Station, pass_time: Callable[..., None]
) -> None:
    other.program = "beat"
    pass_time(MINUTE, station, other)
    assert len(station.fired + other.fired) == 1


def test_applications_with_queues_of_their_own_each_fire(
    station: Station, other: Station, pass_time: Callable[..., None]
) -> None:
    other.program, other.queue = "beat", "others"
    pass_time(MINUTE, station, other)
    assert len(station.fired) == len(other.fired) == 1


def test_what_another_server_has_fired_is_not_made_up_for(
    station: Station, locks: MemoryLocks, pass_time: Callable[..., None]
) -> None:
    pass_time(MINUTE, station)
    late = Station(MemoryLock(locks), WatchedClock(station.clock.now() + 30 * SECOND))
    late.add("* * * * *", "pname", missed="once")
    late.scheduler.hold()
    late.clock.await_look()
    late.scheduler.release()
    assert late.fired == []


def test_what_was_fired_within_a_day_is_not_made_up_for_by_a_server_whose_clock_is_slow(
    clock: ManualClock, locks: MemoryLocks
) -> None:
    # Given a task that is seldom due, which was fired a day and some seconds ago
    first = Station(MemoryLock(locks), WatchedClock(NOON - SECOND))
    first.add("0 12 1 * *", "pname")
    first.scheduler.hold()
    first.advance(SECOND)
    first.scheduler.release()
    assert len(first.fired) == 1
    clock.advance(timedelta(hours=24, seconds=30))

    # When a server comes for which it was less than a day ago
    slow = Station(MemoryLock(locks), WatchedClock(clock.now() - MINUTE))
    slow.add("0 12 1 * *", "pname", missed="once")
    slow.scheduler.hold()
    slow.clock.await_look()
    slow.scheduler.release()

    # Then it knows
    assert slow.fired == []


SKEWS = [timedelta(seconds=0.4), 31 * SECOND, MINUTE, 90 * SECOND, timedelta(minutes=10), 3 * HOUR]


@pytest.fixture(params=["one program", "two programs"])
def skewed(request: pytest.FixtureRequest) -> Skewed:
    """An hour of servers of which one is fast, one right, one slow: the ticks they fired, and when that was by the right one."""

    def pass_an_hour(skew: timedelta, clock: ManualClock, lock_by: Callable[[ManualClock], Lock]) -> list[Fired]:
        fired: list[Fired] = []
        stations: list[Station] = []
        for number, ahead in enumerate((skew, timedelta(0), -skew)):
            hands = WatchedClock(NOON + ahead)
            program = f"worker{number % 2}" if request.param == "two programs" else "worker"
            made = Station(lock_by(hands), hands, program)

            def note(station: Station = made) -> None:
                tick = station.scheduler._entries["pname"].tick
                assert tick is not None
                fired.append((tick, clock.now()))

            made.add("* * * * *", "pname", send=note)
            made.scheduler.hold()
            stations.append(made)
        for _ in range(60 * 6):
            clock.advance(10 * SECOND)
            for station in stations:
                station.advance(10 * SECOND)
        for station in stations:
            station.scheduler.release()
        return fired

    return pass_an_hour


@pytest.mark.parametrize("skew", SKEWS, ids=str)
def test_servers_whose_clocks_differ_never_fire_a_tick_twice(
    clock: ManualClock, locks: MemoryLocks, skew: timedelta, skewed: Skewed
) -> None:
    ticks = [tick for tick, _ in skewed(skew, clock, lambda _: MemoryLock(locks))]
    assert ticks
    assert len(set(ticks)) == len(ticks)


@pytest.mark.parametrize("skew", SKEWS, ids=str)
def test_servers_whose_clocks_differ_never_fire_a_tick_twice_by_gos_lock_and_leave_no_gap(
    clock: ManualClock, skew: timedelta, skewed: Skewed
) -> None:
    # Given a lock which each takes over by its own clock
    locks = GoLocks(clock)
    fired = skewed(skew, clock, lambda hands: GoLock(locks, hands))

    # Then no tick is fired twice, and in every minute there is one
    ticks = [tick for tick, _ in fired]
    assert len(set(ticks)) == len(ticks)
    times = [NOON, *(time for _, time in fired), NOON + HOUR]
    assert max(later - earlier for earlier, later in pairwise(times)) <= MINUTE + 10 * SECOND


# --------------------------------------------------------------------------------------------------------- failing


def test_what_one_server_cannot_send_another_one_can(
    station: Station, other: Station, clock: ManualClock, pass_time: Callable[..., None]
) -> None:
    # Given a server whose broker is away at the tick
    station.plan.fail_until_mended("send")
    pass_time(MINUTE, station)
    assert station.plan.count("send") == 1

    # When another one comes to the tick a little later
    other.advance(MINUTE)
    assert other.times == [NOON + MINUTE]

    # Then the first does not send it when it can
    station.plan.mend()
    for _ in range(20):
        pass_time(SECOND, station, other)
    assert station.fired == []
    assert len(other.fired) == 1


def test_what_cannot_be_sent_for_good_is_left_to_others_too(
    station: Station, other: Station, pass_time: Callable[..., None]
) -> None:
    station.plan.fail("send", error=ZeroDivisionError("a defect of this version"))
    pass_time(MINUTE, station)
    other.advance(MINUTE)
    assert len(other.fired) == 1


FAULTS: dict[str, Callable[[FaultPlan], None]] = {
    "Go's lock is away": lambda plan: plan.fail("try_acquire", times=3),
    "the answer about Go's lock is lost": lambda plan: plan.lose_reply("try_acquire"),
    "every answer about Go's lock is lost for a while": lambda plan: plan.lose_reply("try_acquire", times=3),
    "the tick's lock is away": lambda plan: plan.fail("try_acquire", nth=2),
    "the answer about the tick's lock is lost": lambda plan: plan.lose_reply("try_acquire", nth=2),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lock_that_fails_at_the_tick_is_tried_again(
    station: Station, other: Station, fault: str, pass_time: Callable[..., None]
) -> None:
    FAULTS[fault](lock_of(station).plan)
    pass_time(MINUTE, station)
    assert station.fired == []
    for _ in range(10):
        pass_time(SECOND, station)
    assert len(station.fired) == 1

    # And a server that comes now does not do it once more
    other.advance(MINUTE + 10 * SECOND)
    assert other.fired == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lock_that_fails_for_one_server_does_not_make_it_fire_what_another_one_fires(
    station: Station, other: Station, fault: str, pass_time: Callable[..., None]
) -> None:
    FAULTS[fault](lock_of(station).plan)
    other.program = "beat"
    pass_time(MINUTE, station, other)
    for _ in range(50):
        pass_time(SECOND, station, other)
    assert len(station.fired + other.fired) == 1


@pytest.mark.parametrize(
    "fault",
    [partial(FaultPlan.fail, method="release"), partial(FaultPlan.lose_reply, method="release")],
    ids=["away", "answer lost"],
)
def test_a_lock_that_is_away_when_sending_has_failed_holds_nobody_off(
    station: Station, fault: Callable[..., None], pass_time: Callable[..., None]
) -> None:
    # Given broker and lock in one service, which goes away between the lock and the sending
    station.plan.fail("send", times=2)
    fault(lock_of(station).plan, times=3)
    pass_time(MINUTE, station)
    assert station.plan.count("send") == 1

    # When it is back, then the tick is fired
    for _ in range(20):
        pass_time(SECOND, station)
    assert len(station.fired) == 1


def test_a_lock_that_was_closed_is_an_error_for_good(
    station: Station, pass_time: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    lock_of(station).plan.fail("try_acquire", error=Closed("this lock was closed"))
    pass_time(MINUTE, station)
    for _ in range(30):
        pass_time(SECOND, station)
    assert station.fired == []
    assert f"pname could not be sent at its tick of {(NOON + MINUTE).isoformat()}" in caplog.messages
    pass_time(30 * SECOND, station)
    assert station.times == [NOON + 2 * MINUTE]


def test_what_was_claimed_for_a_tick_that_is_over_is_not_let_go_for_the_next(
    station: Station, pass_time: Callable[..., None]
) -> None:
    # Given a lock and a broker that are away until the next tick
    lock_of(station).plan.fail_until_mended("release")
    station.plan.fail("send", error=BrokerUnavailable("away"))
    pass_time(MINUTE, station)
    pass_time(SECOND, station)
    assert station.fired == []
    pass_time(59 * SECOND, station)

    # Then that one is fired all the same
    assert station.times == [NOON + 2 * MINUTE]


def test_a_firing_is_noted_once_for_each_try(station: Station, pass_time: Callable[..., None]) -> None:
    station.plan.fail("send", times=2)
    pass_time(MINUTE, station)
    for _ in range(5):
        pass_time(SECOND, station)
    ticks = [taking for taking in lock_of(station).takings if taking.key.startswith(TICKS)]
    assert len(ticks) == 3
    assert len({taking.token.value for taking in ticks if taking.token}) == 3
