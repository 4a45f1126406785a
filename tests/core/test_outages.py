"""Services that are away, and defects of plug-ins: the worker waits, and nothing is lost."""

from __future__ import annotations

import pytest

from machinery import (
    Server,
    chain,
)
from machinery.errors import BackendUnavailable, BrokerUnavailable, ConfigError
from tests.core.observed import Journal, ObservedBroker
from tests.interop.eventually import eventually


def test_a_backend_that_is_away_is_waited_for(server: Server, journal: Journal) -> None:
    @server.task
    def good() -> int:
        return 1

    troubles: list[BaseException] = []
    worker = server.new_worker("test", 1)
    worker.set_error_handler(lambda error, _: troubles.append(error))
    with worker:
        journal.be_away("save", BackendUnavailable("away"))
        result = good.send()
        eventually(lambda: len(troubles) >= 3)
        assert not journal.of("ack")

        journal.come_back()
        assert result.get(timeout=10) == 1
        eventually(lambda: journal.of("ack"))
    assert isinstance(troubles[0], BackendUnavailable)


def test_a_broker_that_is_away_is_waited_for(server: Server, journal: Journal) -> None:
    runs: list[str] = []

    @server.task
    def first() -> None:
        runs.append("first")

    @server.task
    def second() -> None:
        runs.append("second")

    with server.new_worker("test", 1):
        sent = server.send_chain(chain(first.signature(), second.signature()))
        for operation in ("publish", "ack", "receive"):
            journal.fail(operation, BrokerUnavailable("away"), BrokerUnavailable("away"))
        sent.get(timeout=10)
        eventually(lambda: len(journal.of("ack")) == 2)
    assert runs == ["first", "second"]


def test_fetching_stops_at_twice_the_slots_while_nothing_can_be_settled(server: Server, journal: Journal) -> None:
    @server.task
    def good() -> None:
        pass

    with server.new_worker("test", 4) as worker:
        good.send().get(timeout=10)
        eventually(lambda: len(journal.of("ack")) == 1)
        journal.be_away("save", BackendUnavailable("away"))
        good.send()
        eventually(lambda: worker._patience.struggling)
        good.send()  # ends the fetch that was under way before
        eventually(lambda: len(worker._fetchers[0].held) == 2)
        results = server.send_tasks([good.signature() for _ in range(50)])
        eventually(lambda: len(worker._fetchers[0].held) >= 5)
        most = max(len(worker._fetchers[0].held) for _ in range(2000))
        journal.come_back()
        for result in results:
            result.get(timeout=10)
    assert most <= 8


def test_a_defect_of_a_plug_in_does_not_end_fetching(
    server: Server, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    @server.task
    def good() -> int:
        return 1

    journal.fail("receive", ZeroDivisionError("a defect"))
    with server.new_worker("test", 1):
        assert good.send().get(timeout=10) == 1
    assert "fetching from machinery_tasks failed" in caplog.text


def test_a_server_that_is_closed_under_its_worker_ends_fetching(server: Server, broker: ObservedBroker) -> None:
    with server.new_worker("test", 1) as worker:
        broker.close()
        eventually(lambda: not worker._fetching[0].is_alive())


def test_a_refusal_is_said_in_one_line_and_does_not_end_fetching(
    server: Server, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    @server.task
    def good() -> int:
        return 1

    journal.fail("receive", ConfigError("wrong password"))
    with server.new_worker("test", 1):
        assert good.send().get(timeout=10) == 1
    assert "wrong password" in caplog.text
    assert "Traceback" not in caplog.text
