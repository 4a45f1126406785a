"""The keeper: leases, chores, the watchdog, and what waits in vain."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import pytest

from machinery import Config, Server, Signature
from machinery._worker._fetcher import Fetcher
from machinery.errors import BrokerUnavailable
from tests.core.observed import Journal, ObservedBackend, ObservedBroker, ObservedConsumer
from tests.core.worker_parts import Parts
from tests.interop.eventually import eventually


@pytest.fixture
def server(journal: Journal, backend: ObservedBackend) -> Iterator[Server]:
    broker = ObservedBroker(journal, leases=timedelta(seconds=0.3))
    made = Server(Config(), broker, backend)
    made.register_task("noop", lambda: None)
    yield made
    broker.close()


@pytest.fixture
def keeping(parts: Parts) -> Iterator[Parts]:
    """`parts` with the keeper's thread."""
    thread = threading.Thread(target=parts.keeper.run)
    thread.start()
    yield parts
    parts.keeper.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_all_leases_are_renewed_in_one_call_at_a_third_of_their_term(
    keeping: Parts, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    calls: list[float] = []
    renew = keeping.keeper._renew

    def observed_renew(fetcher: Fetcher, now: float) -> None:
        looks.append(now)
        renew(fetcher, now)

    monkeypatch.setattr(keeping.keeper, "_renew", observed_renew)
    journal.pause("extend", lambda: calls.append(looks[-1]))  # counted from the look, which may be a while ago
    keeping.send_and_receive([Signature("noop")] * 3)
    eventually(lambda: len(calls) >= 4)
    between = [later - earlier for earlier, later in itertools.pairwise(calls)]
    assert min(between) > 0.09
    assert journal.of("extend")[-3:] == ["extend noop"] * 3


def test_what_is_no_longer_ours_is_not_held(keeping: Parts) -> None:
    (run,) = keeping.send_and_receive([Signature("noop")])
    assert keeping.fetcher.owns(run)
    keeping.consumer.not_ours.append(run.delivery)
    eventually(lambda: not keeping.fetcher.held)
    assert not keeping.fetcher.owns(run)


@pytest.mark.parametrize("error", [BrokerUnavailable("away"), ZeroDivisionError("a defect")])
def test_a_renewal_that_fails_is_tried_again(keeping: Parts, journal: Journal, error: Exception) -> None:
    keeping.send_and_receive([Signature("noop")])  # what holds nothing renews nothing
    journal.be_away("extend", error)
    eventually(lambda: len(journal.of("extend?")) >= 3)
    journal.come_back()
    eventually(lambda: journal.of("extend"))


def test_chores_are_done_as_often_as_the_consumer_wants(keeping: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[object] = [BrokerUnavailable("away"), ZeroDivisionError("a defect")]
    calls: list[float] = []

    def maintain(self: ObservedConsumer) -> float | None:
        calls.append(time.monotonic())
        if answers and isinstance(error := answers.pop(), Exception):
            raise error
        return 0.02 if len(calls) < 8 else None

    def was_called(times: int) -> bool:
        return len(calls) >= times

    monkeypatch.setattr(ObservedConsumer, "maintain", maintain)
    keeping.keeper._chores[keeping.fetcher] = 0.0
    eventually(lambda: calls)
    for seen in (1, 2):  # a second later, or five: no need to wait for that
        keeping.keeper._chores[keeping.fetcher] = 0.0
        eventually(partial(was_called, seen + 1))
    eventually(partial(was_called, 8))
    eventually(lambda: keeping.keeper._chores[keeping.fetcher] == float("inf"))


def test_the_watchdog_cuts_off_a_fetch_that_does_not_answer(keeping: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("machinery._worker._keeper.WATCHDOG", 0.1)
    keeping.consumer.hangs.set()
    fetching = threading.Thread(target=keeping.fetcher.run)
    fetching.start()
    eventually(lambda: keeping.consumer.reset_count)
    keeping.fetcher.stop()
    fetching.join(10)
    assert not fetching.is_alive()


def test_the_watchdog_leaves_a_service_alone_that_is_known_to_be_away(parts: Parts) -> None:
    parts.fetcher.last_look = time.monotonic() - 1000
    assert parts.fetcher.is_silent(60)
    parts.patience._struggling.add(object())
    assert not parts.fetcher.is_silent(60)


def test_a_connection_that_cannot_be_cut_is_reported(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: ObservedConsumer) -> None:
        raise BrokerUnavailable("away")

    monkeypatch.setattr(ObservedConsumer, "reset", refuse)
    parts.fetcher.reconnect()
    assert "cannot reconnect" in caplog.text


def test_what_waits_in_vain_is_handed_back(keeping: Parts, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("machinery._worker._keeper.STALE", 0.05)
    keeping.executor.slots = 0
    keeping.executor.start(keeping.send_and_receive([Signature("noop")] * 2))
    eventually(lambda: journal.of("nack"))
    assert journal.of("nack") == ["nack noop"] * 2
    assert not keeping.fetcher.held


def test_who_holds_nothing_renews_nothing(keeping: Parts, journal: Journal) -> None:
    time.sleep(0.4)  # more than a term
    assert journal.of("extend") == []
    keeping.send_and_receive([Signature("noop")])
    eventually(lambda: journal.of("extend"))


def test_a_service_that_is_away_is_complained_of_once_and_again_when_it_goes_away_again(
    parts: Parts, journal: Journal, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def maintain(self: ObservedConsumer) -> float | None:
        journal.note("maintain")
        return 0.0

    def look(times: int) -> list[float]:
        """Several looks, however soon; the pauses between two attempts at the chores."""
        pauses: list[float] = []
        for _ in range(times):
            parts.keeper._renewals[parts.fetcher] = parts.keeper._chores[parts.fetcher] = 0.0
            parts.keeper._renew(parts.fetcher, time.monotonic())
            parts.keeper._maintain(parts.fetcher, time.monotonic())
            pauses.append(parts.keeper._chores[parts.fetcher] - time.monotonic())
        return pauses

    monkeypatch.setattr(ObservedConsumer, "maintain", maintain)
    parts.send_and_receive([Signature("noop")])
    for outage in (1, 2):
        # When it goes away
        for operation in ("extend", "maintain"):
            journal.be_away(operation, BrokerUnavailable("away"))
        pauses = look(20)

        # Then that is said once, the chores are tried more and more rarely, and the leases as often as before
        assert caplog.text.count("cannot look after") == outage
        assert caplog.text.count("cannot renew the leases") == outage
        assert pauses[0] < 1 < pauses[-1] <= 10
        assert parts.keeper._renewals[parts.fetcher] - time.monotonic() <= 0.3 / 6
        journal.come_back()
        look(1)
