"""The callables that an application hangs into a worker; none of them can hurt it."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from machinery import (
    Server,
    Signature,
    State,
    TaskFailed,
    Worker,
)
from tests.interop.eventually import eventually


def test_handlers_are_called_before_and_after_every_run(server: Server) -> None:
    calls: list[str] = []

    @server.task
    def good() -> None:
        calls.append("run")

    worker = server.new_worker("test", 1)
    worker.set_pre_task_handler(lambda signature: calls.append(f"before {signature.name}"))
    worker.set_post_task_handler(lambda signature: calls.append(f"after {signature.name}"))
    with worker:
        good.send().get(timeout=10)
        eventually(lambda: len(calls) == 3)
    assert calls == ["before good", "run", "after good"]


def test_the_error_handler_gets_the_exception_and_the_signature(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[tuple[BaseException, str]] = []

    @server.task
    def bad() -> None:
        raise ValueError("no good")

    worker = server.new_worker("test", 1)
    worker.set_error_handler(lambda error, signature: failures.append((error, signature.name if signature else "")))
    with worker:
        with pytest.raises(TaskFailed):
            bad.send().get(timeout=10)
        ((error, name),) = eventually(lambda: failures)

    assert isinstance(error, ValueError)
    assert name == "bad"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_the_error_handler_hears_of_failures_without_an_exception(server: Server) -> None:
    failures: list[BaseException] = []

    @server.task
    def stale() -> None:
        pass

    stale.options(expires=datetime.now(UTC)).send()
    worker = server.new_worker("test", 1)
    worker.set_error_handler(lambda error, _: failures.append(error))
    with worker:
        eventually(lambda: failures)
    assert isinstance(failures[0], TaskFailed)
    assert "expired" in str(failures[0])


def test_without_an_error_handler_a_failure_is_logged_with_id_and_traceback(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    @server.task
    def bad() -> None:
        raise ValueError("no good")

    with server.new_worker("test", 1):
        result = bad.send()
        with pytest.raises(TaskFailed):
            result.get(timeout=10)
        (record,) = eventually(lambda: [each for each in caplog.records if each.levelno == logging.ERROR])
    assert result.uuid in record.getMessage()
    assert record.exc_info is not None


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_handlers_that_raise_hurt_nobody(server: Server, kind: type[BaseException]) -> None:
    @server.task
    def good() -> int:
        return 1

    @server.task
    def bad() -> None:
        raise ValueError("no good")

    def fail(*args: object) -> Any:
        raise kind("handler")

    worker = server.new_worker("test", 1)
    worker.set_error_handler(fail)
    worker.set_post_task_handler(fail)
    worker.set_pre_consume_handler(fail)
    with worker:
        for _ in range(3):
            assert good.send().get(timeout=10) == 1
            with pytest.raises(TaskFailed, match="no good"):
                bad.send().get(timeout=10)


def test_a_pre_task_handler_that_raises_fails_the_run(server: Server) -> None:
    @server.task
    def good() -> int:
        return 1

    def refuse(signature: Signature) -> None:
        raise PermissionError(f"no {signature.name} today")

    worker = server.new_worker("test", 1)
    worker.set_pre_task_handler(refuse)
    with worker, pytest.raises(TaskFailed, match="no good today"):
        good.send().get(timeout=10)


def test_a_pre_consume_handler_holds_fetching_back(server: Server) -> None:
    may_consume = threading.Event()
    asked: list[Worker] = []

    @server.task
    def good() -> int:
        return 1

    def ask(worker: Worker) -> bool:
        asked.append(worker)
        return may_consume.is_set()

    worker = server.new_worker("test", 1)
    worker.set_pre_consume_handler(ask)
    with worker:
        result = good.send()
        eventually(lambda: len(asked) >= 2)
        assert result.state is State.PENDING
        may_consume.set()
        assert result.get(timeout=10) == 1
    assert asked[0] is worker


def test_a_pre_publish_handler_that_raises_in_the_worker_loses_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("machinery._worker._fetcher.LATER", timedelta(milliseconds=50))
    is_broken = threading.Event()
    is_broken.set()
    runs: list[str] = []

    @server.task
    def first() -> None:
        runs.append("first")

    @server.task
    def second() -> None:
        runs.append("second")

    def handle(signature: Signature) -> None:
        if signature.name == "second" and is_broken.is_set():
            raise SystemExit("a defect")

    server.set_pre_task_handler(handle)
    first.options(on_success=Signature("second")).send()
    with server.new_worker("test", 1):
        eventually(lambda: runs)
        assert first.send().get(timeout=10) is None
        is_broken.clear()
        eventually(lambda: "second" in runs)
    assert runs.count("first") == 2  # a redelivery of what has ended is not run again
