"""``machinery worker -p 2``: several worker processes under one supervisor."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

APPLICATION = """
from machinery import Server

server = Server.from_url("sqlite:///tasks.db")
"""


class Supervisor:
    """The command as a process, and what it has logged so far."""

    def __init__(self, folder: Path) -> None:
        (folder / "supervised.py").write_text(APPLICATION, "utf-8")
        command = [sys.executable, "-m", "machinery", "worker", "supervised:server", "-c", "1", "-p", "2"]
        self.process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(iter(self.process.stderr.readline, ""))

    @property
    def pids(self) -> list[int]:
        """The workers that have begun, in order."""
        return [
            int(pid) for pid in re.findall(r"<Worker worker@[^:>]*:(\d+):\w+ of [^>]*> starts", "".join(self.lines))
        ]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert condition(), "".join(self.lines)

    def end(self) -> int:
        self.process.terminate()
        status = self.process.wait(20)
        self._reader.join(20)
        return status


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path)
    try:
        made.wait_for(lambda: len(made.pids) == 2)
        yield made
    finally:
        made.process.kill()
        made.process.wait(20)
        made.wait_for(lambda: not any(map(is_alive, made.pids)))
        assert made.process.stderr is not None
        made.process.stderr.close()


def test_all_workers_stop_and_the_exit_status_is_0_when_told_to_end(supervisor: Supervisor) -> None:
    assert supervisor.end() == 0
    log = "".join(supervisor.lines)
    assert log.count("has stopped") == 2
    assert "Fatal" not in log


def test_a_worker_that_dies_is_started_again(supervisor: Supervisor) -> None:
    os.kill(supervisor.pids[0], signal.SIGKILL)
    supervisor.wait_for(lambda: len(supervisor.pids) == 3)
    assert supervisor.end() == 0


def test_the_workers_leave_when_the_supervisor_is_killed(supervisor: Supervisor) -> None:
    supervisor.process.kill()
    supervisor.wait_for(lambda: not any(map(is_alive, supervisor.pids)))
