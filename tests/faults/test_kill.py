"""Workers and servers are killed under load; a ledger outside the system counts what ran."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from machinery import AsyncResult, Server, Signature
from tests.faults.ledger import entries
from tests.services.redis import RedisServer

pytestmark = pytest.mark.slow

TASKS = 2000


class Workers:
    """Worker processes of the application, in process groups of their own."""

    def __init__(self, url: str, folder: Path, **environment: str) -> None:
        self._environment = {**os.environ, "SERVICE_URL": url, "LEDGER": str(folder / "ledger"), **environment}
        self._log = folder / "workers.log"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "machinery",
                    "worker",
                    "tests.faults.application:server",
                    "-c",
                    "4",
                    "-l",
                    "WARNING",
                ],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def stop(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A service with a short lease, so that a dead worker is noticed within seconds."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'tasks.db'}?lease=2"
    return f"{request.getfixturevalue('redis_database')}?lease=2"


@pytest.fixture
def workers(url: str, tmp_path: Path) -> Iterator[Workers]:
    made = Workers(url, tmp_path)
    yield made
    made.stop()


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def signatures() -> list[Signature]:
    """A mixture: plain tasks with a successor, coroutines, tasks that are retried."""
    made: list[Signature] = []
    for number in range(TASKS):
        if number % 10 == 0:
            made.append(Signature("work_twice", [number], retry_count=1))
        elif number % 5 == 0:
            made.append(Signature("work_async", [number]))
        elif number % 7 == 0:
            made.append(Signature("work", [number], on_success=[Signature("follow", [number])]))
        else:
            made.append(Signature("work", [number]))
    return made


def expected(of: Sequence[Signature] | None = None) -> set[str]:
    """What the ledger says when all of them have run, or those given."""
    found: set[str] = set()
    for signature in signatures() if of is None else of:
        number = signature.args[0].value
        found.add({"work": "work", "work_async": "async", "work_twice": "twice"}[signature.name] + f"-{number}")
        found.update(f"follow-{number}" for _ in signature.on_success)
    return found


def assert_all_succeeded(results: list[AsyncResult[object]]) -> None:
    for number, result in enumerate(results):
        assert result.get(timeout=60) == number


def test_nothing_is_lost_when_a_worker_is_killed(url: str, workers: Workers, ledger: Path) -> None:
    # Given two workers in the middle of a mixed load
    with Server.from_url(url) as server:
        victim = workers.start()
        workers.start()
        results = server.send_tasks(signatures())
        wait_until(lambda: len(entries(ledger)) > TASKS // 10, "a tenth of the tasks ran")

        # When one is killed
        victim.kill()
        victim.wait()

        # Then the other one finishes everything
        missing = expected()
        wait_until(lambda: missing <= set(entries(ledger)), f"all ran; log: {workers.log()}")
        assert_all_succeeded(results)
        # What the dead one had run and not acknowledged may come again yet.
        wait_until(lambda: server.pending_tasks() == [], f"nothing is left; log: {workers.log()}", 30)
        assert server.dead_tasks() == []

    # And only what the dead one held ran twice
    twice = [entry for entry, count in entries(ledger).items() if count > 1]
    assert len(twice) <= 600, "more ran twice than one worker can hold"


def test_a_worker_that_is_told_to_stop_under_load_hands_everything_over(
    url: str, workers: Workers, ledger: Path
) -> None:
    # Given a worker in the middle of its load
    with Server.from_url(url) as server:
        first = workers.start()
        results = server.send_tasks(signatures())
        wait_until(lambda: len(entries(ledger)) > TASKS // 10, "a tenth of the tasks ran")

        # When it is told to stop, and another takes over
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 0
        workers.start()

        # Then all of it ran, and nothing ran twice
        assert_all_succeeded(results)
        wait_until(lambda: expected() <= set(entries(ledger)), "all ran")
    assert max(entries(ledger).values()) == 1


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_nothing_is_lost_when_redis_restarts_under_load(
    redis_server: RedisServer, tmp_path: Path, ledger: Path, *, kill: bool
) -> None:
    # Given a durable Redis (append-only file, fsync always) and two workers in the middle of a mixed load
    url = f"{redis_server.url}/0?lease=2"
    workers = Workers(url, tmp_path)
    try:
        with Server.from_url(url) as server:
            workers.start()
            workers.start()
            results = server.send_tasks(signatures())
            wait_until(lambda: len(entries(ledger)) > TASKS // 10, "a tenth of the tasks ran")

            # When it goes down and comes up again
            redis_server.restart(kill=kill)

            # Then every task finishes, and no worker is stuck: both still work
            wait_until(lambda: expected() <= set(entries(ledger)), f"all ran; log: {workers.log()}")
            assert_all_succeeded(results)
            more = server.send_tasks([Signature("work", [number]) for number in range(TASKS, TASKS + 200)])
            assert [result.get(timeout=30) for result in more] == list(range(TASKS, TASKS + 200))
    finally:
        workers.stop()
