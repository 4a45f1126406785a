"""Three server processes on one Redis fire each tick once, whatever happens to one of them, and to Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from machinery import Server
from tests.faults.ledger import entries
from tests.faults.noting_tasks import add_tasks
from tests.interop.eventually import eventually
from tests.services.redis import RedisServer

pytestmark = pytest.mark.slow

WORKER = [sys.executable, "-m", "machinery", "worker", "tests.faults.ticking:server", "-c", "2", "-l", "INFO"]
SCRIPT = [sys.executable, "-m", "tests.faults.ticking"]
TICKS = 5
EVERY = timedelta(seconds=1)


class Servers:
    """Server processes of `tests.faults.ticking`, and what their ledger says."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.ledger = folder / "ledger"
        self._log = folder / "servers.log"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *commands: list[str]) -> None:
        for command in commands:
            with self._log.open("ab") as log:
                self._processes.append(
                    subprocess.Popen(
                        command,
                        env={**os.environ, "SERVICE_URL": self.url, "LEDGER": str(self.ledger)},
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )

    def kill_one(self) -> None:
        victim = self._processes.pop(0)
        victim.kill()
        victim.wait()

    def stop(self) -> None:
        """All of them, well."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                # One that has only begun to start has no handler yet.
                assert process.wait(60) in {0, -signal.SIGTERM}, self._log.read_text(errors="replace")[-3000:]
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
        self._processes.clear()

    def kill(self) -> None:
        while self._processes:
            self.kill_one()

    def fired(self, name: str) -> Counter[datetime]:
        """How often each tick of that name was fired."""
        found = Counter[datetime]()
        for entry, count in entries(self.ledger).items():
            kind, what, *tick = entry.split("/")
            if (kind, what) == ("fired", name):
                found[datetime.fromisoformat(tick[0])] += count
        return found

    def ran(self, task: str) -> set[str]:
        """The ids of that task's runs."""
        return {entry.split("/")[2] for entry in entries(self.ledger) if entry.startswith(f"ran/{task}/")}

    def await_ticks(self, count: int = TICKS) -> None:
        """Until so many more have passed, one right after the other: where all are held up for seconds, some are left out."""
        before = {name: set(self.fired(name)) for name in ("report", "chord")}
        eventually(lambda: all(longest_row(set(self.fired(name)) - old) >= count for name, old in before.items()))

    def finish(self) -> None:
        """Stop all, and have what is left in the queue run."""
        self.stop()
        with Server.from_url(self.url) as server:
            add_tasks(server, self.ledger)
            with server.new_worker("last", 2):
                eventually(lambda: not server.pending_tasks() and len(self.ran("part")) == 2 * len(self.ran("total")))


@pytest.fixture
def servers(redis_database: str, tmp_path: Path) -> Iterator[Servers]:
    made = Servers(redis_database, tmp_path)
    yield made
    made.kill()


def longest_row(ticks: set[datetime]) -> int:
    """How many of these follow each other without a gap, at most."""
    longest = row = 0
    for tick in sorted(ticks):
        row = row + 1 if tick - EVERY in ticks else 1
        longest = max(longest, row)
    return longest


def test_three_servers_of_two_programs_fire_each_tick_once(servers: Servers) -> None:
    # Given three servers
    servers.start(WORKER, WORKER, SCRIPT)

    # When some ticks have passed
    servers.await_ticks(8)
    servers.finish()

    # Then each was fired once, and what was sent ran once
    for name, task in (("report", "report"), ("chord", "total")):
        assert set(servers.fired(name).values()) == {1}
        assert len(servers.ran(task)) == len(servers.fired(name))
    assert set(entries(servers.ledger).values()) == {1}


def test_ticks_go_on_when_a_server_is_killed(servers: Servers) -> None:
    # Given three servers of which one is killed, wherever it is just then, and comes again; three times
    servers.url += "?lease=1"
    servers.start(WORKER, WORKER, SCRIPT)
    servers.await_ticks(2)
    for command in (WORKER, WORKER, SCRIPT):
        servers.kill_one()
        servers.await_ticks(2)
        servers.start(command)
    servers.finish()

    # Then no tick was fired twice, though a server may have died of one between its lock and sending
    for name, task in (("report", "report"), ("chord", "total")):
        assert set(servers.fired(name).values()) == {1}
        assert 0 <= len(servers.ran(task)) - len(servers.fired(name)) <= 3, "sent, and killed before it said so"


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_ticks_go_on_when_redis_restarts(redis_server: RedisServer, tmp_path: Path, *, kill: bool) -> None:
    # Given three servers on a durable Redis that is away for some ticks
    servers = Servers(f"{redis_server.url}/0?lease=1", tmp_path)
    try:
        servers.start(WORKER, WORKER, SCRIPT)
        servers.await_ticks(3)
        redis_server.kill() if kill else redis_server.stop()
        before = max(servers.fired("report"))
        eventually(lambda: datetime.now(UTC) - before > timedelta(seconds=4))
        redis_server.start()

        # When it is back, then ticks go on
        servers.await_ticks()
        servers.finish()
    finally:
        servers.kill()

    # And none was fired twice
    for name, task in (("report", "report"), ("chord", "total")):
        fired = servers.fired(name)
        assert set(fired.values()) == {1}
        assert 0 <= len(servers.ran(task)) - len(fired) <= 1, "sent without an answer, and so sent again"
