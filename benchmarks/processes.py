"""Starting programs, and an end of all of them that is certain."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[1]
"""The repository: what is started finds ``benchmarks`` there."""


_INHERITED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""With the variable, this project alone would be compiled anew at each start: what pip has installed is compiled already."""


class ProgramFailed(Exception):
    """A program ended with an error, or took too long; the text has the end of what it said."""


class TookTooLong(ProgramFailed):
    """A program did not end in its time."""


class Running:
    """A started program with all that it starts itself: a process group."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def has_ended(self) -> bool:
        """Whether the program has ended by itself."""
        return self.process.poll() is not None

    def last_words(self, characters: int = 600) -> str:
        """The end of what it said."""
        return self._output.read_text("utf-8", "replace")[-characters:].strip()

    def end(self, patience: float = 0) -> None:
        """End it and all that it started: SIGTERM and ``patience`` seconds to go by itself, then SIGKILL. May be called again."""
        if patience:
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(self.process.pid, signal.SIGTERM)
                self.process.wait(patience)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Processes:
    """All that the benchmark has started. Leaving the block ends what still runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: list[Running] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for running in self._all:
            running.end()

    def start(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Running:
        """Start a program in a process group of its own, which Ctrl-C does not reach."""
        output = self._folder / f"output-{len(self._all)}"
        with output.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=self._folder,
                env={**_INHERITED, "PYTHONPATH": str(ROOT), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running = Running(process, output)
        self._all.append(running)
        return running

    def output_of(self, command: Sequence[str], environment: Mapping[str, str] | None = None, *, timeout: float) -> str:
        """Run a program to its end and return what it said. Raises `ProgramFailed`."""
        running = self.start(command, environment)
        try:
            status = running.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TookTooLong(f"{_short(command)} took more than {timeout:.0f} s") from None
        finally:
            running.end()
        if status:
            raise ProgramFailed(f"{_short(command)} ended with {status}: {running.last_words()}")
        return running.last_words(characters=1 << 30)


def free_port() -> int:
    """A port of the loopback interface on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _short(command: Sequence[str]) -> str:
    return " ".join([Path(command[0]).name, *command[1:]])[:120]
