"""Several worker processes under one supervisor: it starts them, starts dead ones again, and passes signals on."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from machinery._retry import Backoff

if TYPE_CHECKING:
    from types import FrameType

CONFIG_ERROR_STATUS = 2
"""A process that ends with this will not do better when started again."""
LOOK = 0.1
"""Seconds between two looks at the processes."""
SETTLED_IN = 10.0
"""Seconds: a process that lived longer is started again at once."""


class Supervisor:
    """Keeps ``count`` copies of ``command`` running until told to quit."""

    def __init__(self, command: Sequence[str], count: int, logger: logging.Logger) -> None:
        self._command = list(command)
        self._logger = logger
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._born: dict[int, float] = {}
        self._backoffs = [Backoff(base=0.2, cap=30.0) for _ in range(count)]
        self._due = dict.fromkeys(range(count), 0.0)
        """Place → when to start its process, monotonic seconds."""
        self._signals = 0
        self._status = 0

    def run(self) -> int:
        """Supervise; returns the exit status. Handles SIGINT and SIGTERM: the first drains, the second leaves at once."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while True:
                if not self._signals:
                    self._start_due()
                for place, process in list(self._processes.items()):
                    code = process.poll()
                    if code is not None:
                        self._bury(place, process, code)
                if self._signals and not self._processes:
                    return self._status
                time.sleep(LOOK)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start_due(self) -> None:
        now = time.monotonic()
        for place in [place for place, when in self._due.items() if when <= now]:
            del self._due[place]
            self._start(place)

    def _bury(self, place: int, process: subprocess.Popen[bytes], code: int) -> None:
        """A process has ended: that was to be, or all are to end, or a new one takes its place."""
        del self._processes[place]
        if process.stdin is not None:
            process.stdin.close()
        if self._signals:
            # Told to end before it could listen, it ended all the same.
            self._status = max(self._status, 0 if -code in {signal.SIGINT, signal.SIGTERM} else abs(code))
        elif code == CONFIG_ERROR_STATUS:
            self._logger.error("worker process %d ended with a configuration error; stopping", process.pid)
            self._status = code
            self._pass_on(signal.SIGTERM)
        else:
            if time.monotonic() - self._born[place] > SETTLED_IN:
                self._backoffs[place].reset()
            pause = self._backoffs[place].next()
            self._logger.error("worker process %d ended with status %d; a new one in %.1f s", process.pid, code, pause)
            self._due[place] = time.monotonic() + pause

    def _start(self, place: int) -> None:
        # A session of its own, so that Ctrl-C reaches it once, through us. Its standard input ends when we die, however we do.
        process = subprocess.Popen(self._command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603 - our own command
        self._processes[place] = process
        self._born[place] = time.monotonic()
        if self._signals:  # it came while this one was not among those to pass it on to
            process.terminate()
        self._logger.info("worker process %d started", process.pid)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a signal handler
        self._pass_on(signal.Signals(number))

    def _pass_on(self, number: signal.Signals) -> None:
        self._signals += 1
        for process in list(self._processes.values()):
            process.send_signal(number)


def worker_command(arguments: Sequence[str]) -> list[str]:
    """The command that runs one supervised worker process with these arguments of ``machinery worker``."""
    return [sys.executable, "-m", "machinery", "worker", *arguments, "--supervised"]


def quit_with_parent(quit_worker: Callable[[], None]) -> None:
    """Call ``quit_worker`` when standard input ends, which is when the supervisor has died."""

    def watch() -> None:
        try:
            # Not through sys.stdin: a thread that waits in its buffer makes the interpreter abort when it ends.
            while os.read(0, 1024):
                pass
        except (OSError, ValueError):
            pass
        quit_worker()

    threading.Thread(target=watch, name="machinery-parent-watch", daemon=True).start()
