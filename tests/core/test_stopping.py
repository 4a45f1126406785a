"""How a worker stops without losing anything."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from functools import partial

import pytest

from machinery import (
    Config,
    Server,
    State,
    Worker,
)
from machinery.errors import BackendUnavailable, ConfigError, Unsupported
from tests.core.gate import Gate
from tests.core.observed import Journal, ObservedBackend, ObservedBroker
from tests.interop.eventually import eventually


def quit_and_join(worker: Worker, timeout: float = 15) -> None:
    worker.quit()
    assert worker.join(timeout)


def test_quitting_lets_running_tasks_finish_and_hands_back_what_has_not_started(
    server: Server, broker: ObservedBroker, gate: Gate, journal: Journal
) -> None:
    @server.task
    def behind() -> None:
        pass

    worker = server.new_worker("test", 1)
    worker._executor.mean_duration = 1e-9  # it takes tasks for short ones, and fetches all
    running = gate.task.send()
    waiting = [behind.send() for _ in range(3)]
    worker.start()
    gate.wait_until_entered()

    # When
    worker.quit()
    eventually(lambda: len(journal.of("nack")) == 3)
    assert not worker.join(0)
    gate.opened.set()
    assert worker.join(10)

    # Then
    assert running.get(timeout=1) == "through"
    assert len(server.pending_tasks()) == 3
    assert all(not result.task_state().is_completed for result in waiting)
    assert journal.of("ack") == ["ack gated"]


def test_what_still_runs_after_the_drain_timeout_is_handed_back_and_no_crash(
    broker: ObservedBroker, backend: ObservedBackend
) -> None:
    server = Server(Config(drain_timeout=0.05), broker, backend)
    gate = Gate(server)
    worker = server.new_worker("test", 1)
    worker.start()
    result = gate.task.send()
    gate.wait_until_entered()
    eventually(lambda: result.state is State.STARTED)

    # When
    quit_and_join(worker)

    # Then
    assert result.state is State.RECEIVED
    assert len(server.pending_tasks()) == 1
    gate.opened.set()
    with server.new_worker("next", 1):
        assert result.get(timeout=10) == "through"
    assert result.task_state().crashes == 0
    assert gate.runs == 2


def test_coroutines_that_still_run_after_the_drain_timeout_are_cancelled_and_handed_back(
    broker: ObservedBroker, backend: ObservedBackend
) -> None:
    server = Server(Config(drain_timeout=0.05), broker, backend)
    entered = threading.Semaphore(0)
    cancelled: list[bool] = []

    @server.task
    async def endless() -> None:
        entered.release()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    worker = server.new_worker("test", 1)
    worker.start()
    result = endless.send()
    assert entered.acquire(timeout=10)
    quit_and_join(worker)

    assert cancelled == [True]
    assert result.state is State.RECEIVED
    assert len(server.pending_tasks()) == 1


def test_quitting_twice_leaves_at_once(server: Server, gate: Gate) -> None:
    worker = server.new_worker("test", 1)
    worker.start()
    result = gate.task.send()
    gate.wait_until_entered()

    worker.quit()
    assert not worker.join(0.05)
    worker.quit()
    assert worker.join(10)
    assert not result.task_state().is_completed
    assert len(server.pending_tasks()) == 1


def test_quitting_while_a_service_is_away_ends_after_the_drain_timeout(
    broker: ObservedBroker, backend: ObservedBackend, journal: Journal
) -> None:
    server = Server(Config(drain_timeout=0.1), broker, backend)

    @server.task
    def good() -> int:
        return 1

    worker = server.new_worker("test", 1)
    journal.be_away("save", BackendUnavailable("away"))
    result = good.send()
    worker.start()
    eventually(lambda: journal.of("save?"))
    quit_and_join(worker)

    # Then the message is there for the next worker
    journal.come_back()
    with server.new_worker("next", 1):
        assert result.get(timeout=10) == 1


def test_what_ends_while_it_is_handed_back_is_either_settled_or_run_again(
    broker: ObservedBroker, backend: ObservedBackend
) -> None:
    server = Server(Config(drain_timeout=0), broker, backend)
    started = threading.Semaphore(0)

    @server.task
    def brief() -> None:
        started.release()
        threading.Event().wait(0.001)

    results = server.send_tasks([brief.signature() for _ in range(300)])
    for _ in range(20):
        worker = server.new_worker("test", 4)
        worker.start()
        if server.pending_tasks(limit=1):
            assert started.acquire(timeout=10)
        quit_and_join(worker)
    with server.new_worker("last", 4):
        for result in results:
            result.get(timeout=10)
    assert server.pending_tasks() == []


def test_a_worker_that_quits_under_load_loses_nothing_and_runs_nothing_twice(server: Server) -> None:
    runs: list[int] = []

    @server.task
    def count(number: int) -> None:
        runs.append(number)

    def has_gone_on(before: int) -> bool:
        return len(runs) > before or not server.pending_tasks(limit=1)

    results = server.send_tasks([count.signature(number) for number in range(3000)])
    while server.pending_tasks(limit=1):
        worker = server.new_worker("test", 4)
        worker.start()
        eventually(partial(has_gone_on, len(runs)))
        quit_and_join(worker)
    for result in results:
        result.get(timeout=10)
    assert sorted(runs) == list(range(3000))


def test_a_worker_starts_once(server: Server) -> None:
    worker = server.new_worker("test", 1)
    with worker, pytest.raises(ConfigError, match="started before"):
        worker.start()


def test_a_worker_told_to_quit_before_it_starts_does_not_start(server: Server) -> None:
    worker = server.new_worker("test", 1)
    worker.quit()
    worker.launch()
    assert worker.join(0)
    assert not worker._fetching


def test_a_worker_whose_start_fails_can_be_quit(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(queue: str, name: str) -> None:
        raise Unsupported(f"no consumer of {queue} for {name}")

    monkeypatch.setattr(server.broker, "consumer", refuse)
    worker = server.new_worker("test", 1)
    with pytest.raises(Unsupported):
        worker.start()
    quit_and_join(worker)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains(server: Server, gate: Gate, number: signal.Signals) -> None:
    result = gate.task.send()
    worker = server.new_worker("test", 1)

    def conduct() -> None:
        gate.wait_until_entered()
        os.kill(os.getpid(), number)
        eventually(worker._quitting.is_set)
        gate.opened.set()

    conductor = threading.Thread(target=conduct)
    conductor.start()
    before = signal.getsignal(number)
    worker.launch()
    conductor.join()

    assert result.get(timeout=1) == "through"
    assert signal.getsignal(number) is before


def test_the_second_signal_leaves_at_once(server: Server, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("machinery._worker._worker.ECHO", 0)
    result = gate.task.send()
    worker = server.new_worker("test", 1)

    def conduct() -> None:
        gate.wait_until_entered()
        os.kill(os.getpid(), signal.SIGTERM)
        eventually(worker._quitting.is_set)
        os.kill(os.getpid(), signal.SIGTERM)

    conductor = threading.Thread(target=conduct)
    conductor.start()
    worker.launch()
    conductor.join()

    assert not result.task_state().is_completed


def test_signals_are_left_alone_where_the_configuration_says_so(
    broker: ObservedBroker, backend: ObservedBackend
) -> None:
    server = Server(Config(no_unix_signals=True), broker, backend)
    worker = server.new_worker("test", 1)
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def look(me: Worker) -> bool:
        seen.append(signal.getsignal(signal.SIGTERM))
        me.quit()
        return False

    worker.set_pre_consume_handler(look)
    worker.launch()
    assert seen[0] is before
