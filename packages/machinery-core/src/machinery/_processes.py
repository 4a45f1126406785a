"""Several worker processes under one supervisor: it starts them, starts dead ones again, and passes signals on."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from machinery._retry import Backoff

if TYPE_CHECKING:
    from types import FrameType

CONFIG_ERROR_STATUS = 2
"""A process that ends with this will not do better when started again."""
SETTLED_IN = 10.0
"""Seconds: a process that lived longer is started again at once."""


class Supervisor:
    """Keeps ``count`` copies of ``command`` running until told to quit."""

    def __init__(self, command: Sequence[str], count: int, logger: logging.Logger) -> None:
        self._command = list(command)
        self._count = count
        self._logger = logger
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._born: dict[int, float] = {}
        self._backoffs = [Backoff(base=0.2, cap=30.0) for _ in range(count)]
        self._signals = 0
        self._wake = threading.Event()

    def run(self) -> int:
        """Supervise; returns the exit status. Handles SIGINT and SIGTERM: the first drains, the second leaves at once."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        due = dict.fromkeys(range(self._count), 0.0)
        status = 0
        try:
            while True:
                if not self._signals:
                    for place in [place for place, when in due.items() if when <= time.monotonic()]:
                        del due[place]
                        self._start(place)
                for place, process in list(self._processes.items()):
                    code = process.poll()
                    if code is None:
                        continue
                    del self._processes[place]
                    if self._signals:
                        status = max(status, abs(code))
                        continue
                    if code == CONFIG_ERROR_STATUS:
                        self._logger.error("a worker process ended with a configuration error; stopping")
                        status = code
                        self._pass_on(signal.SIGTERM)
                        continue
                    if time.monotonic() - self._born[place] > SETTLED_IN:
                        self._backoffs[place].reset()
                    pause = self._backoffs[place].next()
                    self._logger.error("worker process %d ended with status %d; a new one in %.1f s", process.pid, code, pause)
                    due[place] = time.monotonic() + pause
                if not self._processes and (self._signals or status):
                    return status
                self._wake.wait(0.1)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, place: int) -> None:
        # A session of its own, so that Ctrl-C reaches it once, through us. Its standard input ends when we die, however we do.
        process = subprocess.Popen(self._command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603 - our own command
        self._processes[place] = process
        self._born[place] = time.monotonic()
        self._logger.info("worker process %d started", process.pid)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a signal handler
        self._pass_on(signal.Signals(number))

    def _pass_on(self, number: signal.Signals) -> None:
        self._signals += 1
        for process in list(self._processes.values()):
            process.send_signal(number)
        self._wake.set()


def worker_command(arguments: Sequence[str]) -> list[str]:
    """The command that runs one supervised worker process with these arguments of ``machinery worker``."""
    return [sys.executable, "-m", "machinery", "worker", *arguments, "--supervised"]


def quit_with_parent(quit_worker: object) -> None:
    """Call ``quit_worker`` when standard input ends, which is when the supervisor has died."""

    def watch() -> None:
        try:
            while sys.stdin.buffer.read(1024):
                pass
        except (OSError, ValueError):
            pass
        quit_worker()  # type: ignore[operator]

    threading.Thread(target=watch, name="machinery-parent-watch", daemon=True).start()
