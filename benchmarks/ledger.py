"""The ledger of calls: which tasks were called, when and at what cost, kept outside the system under test.

A worker process writes each call of a task into a file that is mapped into its memory: less than a microsecond a call, the same
for every Python peer, and what is written outlives the process however it ends. The queue has no part in it, so that what a
queue lost or ran twice shows here. The benchmark reads the files while they grow.

Standard library only: this runs inside the environment of each peer.
"""

from __future__ import annotations

import itertools
import mmap
import os
import struct
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RECORD = struct.Struct("=qqq")
"""The task's number; when it was called (monotonic ns, one clock for all processes; 0: free); CPU (ns; 0: not taken)."""

CPU_EVERY = 64
"""One call in so many notes the CPU time as well, which is a system call."""


class Ledger:
    """The calls of one worker process. The file is made at the first call, by the process that makes it (workers fork)."""

    def __init__(self, folder: Path, capacity: int) -> None:
        self._folder = folder
        self._capacity = capacity
        self._next = itertools.count().__next__
        self._map: mmap.mmap | None = None
        self._opening = threading.Lock()

    def note(self, number: int) -> None:
        """Write down that task ``number`` is called now; negative numbers (warming up) are left out. Safe from any thread."""
        records = self._map or self._open()
        if number < 0:
            return
        index = self._next()
        cpu = 0 if index % CPU_EVERY else time.process_time_ns()
        RECORD.pack_into(records, index * RECORD.size, number, time.monotonic_ns(), cpu)

    def _open(self) -> mmap.mmap:
        with self._opening:
            if self._map is None:
                with (self._folder / str(os.getpid())).open("w+b") as file:
                    file.truncate(self._capacity * RECORD.size)
                    self._map = mmap.mmap(file.fileno(), 0)
            return self._map


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a task."""

    number: int
    at: int
    """Monotonic nanoseconds."""
    cpu: int
    """CPU nanoseconds that its process had used by then; 0 where this was not taken."""


@dataclass(frozen=True, slots=True)
class Process:
    """The calls of one process, in their order."""

    pid: int
    calls: Sequence[Call]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the tasks that were sent."""

    sent: int = 0
    lost: int = 0
    """Never called."""
    duplicated: int = 0
    """Calls beyond a task's first."""
    unknown: int = 0
    """Calls of tasks that nobody sent."""

    def __add__(self, other: Verdict) -> Verdict:
        """What became of both their tasks."""
        return Verdict(
            self.sent + other.sent,
            self.lost + other.lost,
            self.duplicated + other.duplicated,
            self.unknown + other.unknown,
        )


def count_calls(folder: Path) -> int:
    """How many calls there are so far."""
    return sum(_count(path) for path in folder.iterdir())


def read_pids(folder: Path) -> list[int]:
    """The processes that have called a task, be it to warm up."""
    return [int(path.name) for path in folder.iterdir()]


def read_calls(folder: Path) -> list[Process]:
    """All calls so far; processes that made none are not there."""
    processes = []
    for path in sorted(folder.iterdir()):
        contents = path.read_bytes()[: _count(path) * RECORD.size]
        calls = [Call(*record) for record in RECORD.iter_unpack(contents)]
        if calls:
            processes.append(Process(int(path.name), calls))
    return processes


def judge(processes: Sequence[Process], sent: range) -> Verdict:
    """Hold the calls against the numbers of the tasks that were sent."""
    seen = Counter(call.number for process in processes for call in process.calls)
    known = sum(number in sent for number in seen)
    calls_of_known = sum(count for number, count in seen.items() if number in sent)
    return Verdict(
        sent=len(sent),
        lost=len(sent) - known,
        duplicated=calls_of_known - known,
        unknown=len(seen) - known,
    )


def _count(path: Path) -> int:
    """The number of the first free record: they are taken in order."""
    with path.open("rb") as file:
        low, high = 0, os.fstat(file.fileno()).st_size // RECORD.size
        while low < high:
            middle = (low + high) // 2
            file.seek(middle * RECORD.size)
            _, at, _ = RECORD.unpack(file.read(RECORD.size))
            low, high = (middle + 1, high) if at else (low, middle)
        return low
