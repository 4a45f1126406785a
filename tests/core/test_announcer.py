"""The announcer: what runs or waits for long is seen by everyone, and never after its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from machinery import Server, Signature, State
from machinery.errors import BackendUnavailable
from tests.core.gate import Gate
from tests.core.observed import Journal
from tests.core.worker_parts import Parts
from tests.interop.eventually import eventually


@pytest.fixture
def announcing(parts: Parts) -> Iterator[Parts]:
    """`parts` with the announcer's thread."""
    thread = threading.Thread(target=parts.announcer.run)
    thread.start()
    yield parts
    parts.announcer.stop()
    thread.join(10)
    assert not thread.is_alive()


def start(parts: Parts, gate: Gate) -> str:
    (run,) = parts.send_and_receive([gate.task.signature()])
    parts.executor.start([run])
    gate.wait_until_entered()
    return run.signature.uuid


@pytest.fixture
def only_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has to wait for its thread on a busy machine is not announced."""
    monkeypatch.setattr("machinery._worker._announcer.WAITING", 60)


@pytest.mark.usefixtures("only_started")
def test_started_is_written_once(announcing: Parts, gate: Gate, journal: Journal) -> None:
    start(announcing, gate)
    eventually(lambda: journal.of("save"))
    gate.opened.set()
    eventually(lambda: announcing.ended)
    assert journal.of("save") == ["save STARTED gated"]


@pytest.mark.usefixtures("only_started")
def test_started_is_tried_again_while_the_task_runs(
    announcing: Parts, server: Server, gate: Gate, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("machinery._worker._announcer.AGAIN", 0.01)
    journal.fail("save", BackendUnavailable("away"), ZeroDivisionError("a defect"))
    uuid = start(announcing, gate)
    eventually(lambda: server.result(uuid).state is State.STARTED)
    assert journal.of("save?", "save") == ["save? STARTED gated", "save? STARTED gated", "save STARTED gated"]


def test_a_run_that_has_ended_is_not_started(parts: Parts, gate: Gate, journal: Journal) -> None:
    gate.opened.set()
    (run,) = parts.run([gate.task.signature()])
    parts.announcer._write([run], [run])
    assert journal.of("save") == []


def test_a_run_that_was_handed_back_is_neither_started_nor_received(parts: Parts, gate: Gate, journal: Journal) -> None:
    (run,) = parts.send_and_receive([gate.task.signature()])
    run.abandoned = True
    parts.announcer._write([run], [run])
    assert journal.of("save") == []


def test_what_waits_is_received_after_a_while(announcing: Parts, server: Server, gate: Gate) -> None:
    start(announcing, gate)
    (waiting,) = announcing.send_and_receive([Signature("gated")])
    announcing.executor.start([waiting])
    eventually(lambda: server.result(waiting.signature.uuid).state is State.RECEIVED)
    assert waiting.noted


def test_it_sleeps_while_nothing_is_left_to_say(announcing: Parts, gate: Gate) -> None:
    start(announcing, gate)
    eventually(lambda: not announcing.started.is_set())


def test_it_can_be_stopped_at_any_moment(parts: Parts) -> None:
    for _ in range(100):
        parts.started.set()
        announcer = type(parts.announcer)(
            parts.executor, parts.settler, parts.server.backend, parts.hooks, parts.started
        )
        thread = threading.Thread(target=announcer.run)
        thread.start()
        time.sleep(0)
        announcer.stop()
        thread.join(10)
        assert not thread.is_alive()
