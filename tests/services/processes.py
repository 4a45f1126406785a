"""Starting server programs: where they are, a free port, and an end that is certain."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from tests.services.chain import Unobtainable

SHOP = Path(__file__).parents[2] / ".workshop" / "services"
"""Where ``scripts/services`` puts what no system has packages of."""
BETWEEN_LOOKS = 0.01
"""Seconds between two looks whether a program that was just started answers."""
TO_END = 60.0
"""Seconds that a server may take to end well on a busy machine: one that is killed meanwhile was not stopped."""


def installed(name: str, pattern: str) -> Path:
    """The one file that ``scripts/services`` has installed for the service. Raises `Unobtainable`."""
    for found in sorted((SHOP / name).glob(pattern)):
        return found
    raise Unobtainable(f"there is no {pattern.rsplit('/', 1)[-1]} in {SHOP / name}; scripts/services puts it there")


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def comes_up(answers: Callable[[], bool], patience: float = 60.0) -> bool:
    """Whether a server answers within the time that one takes to start on a busy machine."""
    deadline = time.monotonic() + patience
    while not answers():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


class ServerProcess:
    """A server program that a test may stop, kill and restart, in its own process group; within a ``with`` block it runs.

    ``patience``: seconds that it may take to start.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, answers: Callable[[], bool], patience: float = 60.0
    ) -> None:
        self._command = list(command)
        self._folder = folder
        self._answers = answers
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it answers."""
        if self.is_running:
            raise RuntimeError("it is running already")
        with (self._folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=dict(os.environ),  # another thread may change it while this one makes a process
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = time.monotonic() + self._patience
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self._command[0]} did not start:\n{(self._folder / 'output').read_text()}")
            time.sleep(BETWEEN_LOOKS)

    def stop(self) -> None:
        """SIGTERM, as an operator would, and wait for the end; SIGKILL when it does not come."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, as the kernel would, and wait for the end."""
        self._end(signal.SIGKILL)

    def restart(self, *, kill: bool = False) -> None:
        """Down and up again."""
        if kill:
            self.kill()
        else:
            self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: it holds its connections and answers nothing."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)  # until then it may answer yet

    def resume(self) -> None:
        """SIGCONT: it goes on."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            os.killpg(process.pid, how)
            process.wait(TO_END)
        except ProcessLookupError:
            process.wait()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
