"""The supervisor by itself: what it makes of the ways in which its processes end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from machinery._processes import CONFIG_ERROR_STATUS, Supervisor, worker_command
from tests.interop.eventually import eventually

LOGGER = logging.getLogger("machinery")


def script(text: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", text, *arguments]


def test_a_configuration_error_stops_all_of_them(caplog: pytest.LogCaptureFixture) -> None:
    supervisor = Supervisor(script(f"import sys; sys.exit({CONFIG_ERROR_STATUS})"), 2, LOGGER)
    assert supervisor.run() == CONFIG_ERROR_STATUS
    assert "configuration error; stopping" in caplog.text


def test_one_that_ends_is_started_again_with_growing_pauses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runs = tmp_path / "runs"
    ends = script("import sys; open(sys.argv[1], 'a').write('x'); sys.exit(7)", str(runs))
    supervisor = Supervisor(ends, 1, LOGGER)

    def end() -> None:
        eventually(lambda: runs.exists() and len(runs.read_text("utf-8")) >= 3)
        os.kill(os.getpid(), signal.SIGTERM)

    ender = threading.Thread(target=end)
    ender.start()
    supervisor.run()
    ender.join()
    assert caplog.text.count("ended with status 7; a new one in") >= 2


def test_signals_are_passed_on_and_the_handlers_of_before_come_back(tmp_path: Path) -> None:
    waits = script(
        "import pathlib, signal, sys, threading\n"
        "stop = threading.Event()\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "sys.stdin.read()\n",
        str(tmp_path / "up"),
    )
    before = signal.getsignal(signal.SIGTERM)
    supervisor = Supervisor(waits, 1, LOGGER)

    def end() -> None:
        eventually((tmp_path / "up").exists)
        os.kill(os.getpid(), signal.SIGTERM)

    ender = threading.Thread(target=end)
    ender.start()
    assert supervisor.run() == 3
    ender.join()
    assert signal.getsignal(signal.SIGTERM) is before


def test_one_that_is_told_to_end_before_it_listens_has_ended_well() -> None:
    supervisor = Supervisor(script("import sys; sys.stdin.read()"), 2, LOGGER)

    def end() -> None:
        eventually(lambda: len(supervisor._processes) == 2)
        os.kill(os.getpid(), signal.SIGTERM)

    ender = threading.Thread(target=end)
    ender.start()
    assert supervisor.run() == 0
    ender.join()


def test_a_signal_that_comes_while_one_starts_reaches_it_too() -> None:
    supervisor = Supervisor(script("import sys; sys.stdin.read()"), 1, LOGGER)
    supervisor._pass_on(signal.SIGTERM)
    supervisor._start(0)
    assert supervisor.run() == 0


def test_a_supervised_worker_is_the_same_command() -> None:
    command = worker_command(["app:server", "-c", "3"])
    assert command == [sys.executable, "-m", "machinery", "worker", "app:server", "-c", "3", "--supervised"]
