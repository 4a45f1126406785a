"""The test stand: one Redis, and for each measurement an empty database, a fresh ledger, a sending side and workers.

In a run on RabbitMQ there is one of that, too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from benchmarks.environments import Environment
from benchmarks.ledger import Process, Verdict, count_calls, judge, read_calls, read_pids
from benchmarks.peers import Kind
from benchmarks.processes import Processes, Running
from benchmarks.rabbitmq_service import RabbitmqService
from benchmarks.redis_service import RedisService

LIMIT = 90.0
"""Seconds that anything may take. What still goes on then is too slow to be measured."""

SILENCE = 15.0
"""Seconds without a call after which no further one is expected: what has not been called is lost."""

GRACE = 0.25
"""Seconds in which a task that ran twice shows."""

BETWEEN_LOOKS = 0.02
SPARE_CALLS = 10_000
"""Room in a ledger for calls that should not be."""


class TooSlow(Exception):
    """It was still going on when its time was up. Nothing is known to be lost, and nothing is measured."""


class TasksLost(Exception):
    """Tasks that were sent were never called."""


@dataclass(slots=True)
class Outcome:
    """What one measurement found."""

    values: dict[str, float]
    """By the name of the column."""
    verdict: Verdict = field(default_factory=Verdict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pace:
    """What a peer keeps up with, in tasks a second."""

    send: float
    drain: float


class Workers:
    """The worker processes of one measurement, and their ledger."""

    def __init__(self, running: Sequence[Running], ledger: Path) -> None:
        self.running = running
        self._ledger = ledger

    def wait_for_calls(self, count: int) -> None:
        """Return once there were so many calls. Raises `TooSlow`, and `TasksLost` when no more come."""
        start = changed = time.monotonic()
        before = 0
        while (now := count_calls(self._ledger)) < count:
            at = time.monotonic()
            if now != before:
                before, changed = now, at
            if any(each.has_ended for each in self.running):
                raise TasksLost(f"a worker ended after {now} of {count} calls: {self._last_words()}")
            if at - changed > SILENCE:
                raise TasksLost(f"{now} of {count} were called, and for {SILENCE:.0f} s no more: {self._last_words()}")
            if at - start > LIMIT:
                raise TooSlow(f"{now} of {count} were called within {LIMIT:.0f} s")
            time.sleep(BETWEEN_LOOKS)

    def require_progress(self, count: int) -> None:
        """Raise `TasksLost` when calls are missing and none has come for a while."""
        calls = [call.at for process in self.calls() for call in process.calls]
        if len(calls) < count and time.monotonic_ns() - max(calls, default=0) > SILENCE * 1e9:
            raise TasksLost(
                f"{len(calls)} of {count} were called, and for {SILENCE:.0f} s no more: {self._last_words()}"
            )

    def calls(self) -> list[Process]:
        """All calls so far."""
        return read_calls(self._ledger)

    def judge(self, sent: int) -> Verdict:
        """What became of the tasks 0 … ``sent - 1``: after a moment in which some may run again, and a while for missing ones."""
        until = time.monotonic() + SILENCE
        time.sleep(GRACE)
        while (verdict := judge(self.calls(), range(sent))).lost and time.monotonic() < until:
            time.sleep(GRACE)
        return verdict

    def pids(self) -> list[int]:
        """The processes that run tasks."""
        return read_pids(self._ledger)

    def end(self, patience: float) -> None:
        """Tell the workers to end and give them so many seconds."""
        for running in self.running:
            running.end(patience)

    def _last_words(self) -> str:
        return " / ".join(each.last_words() for each in self.running)


class Stand:
    """What a measurement has at hand."""

    def __init__(
        self,
        processes: Processes,
        redis: RedisService,
        folder: Path,
        *,
        rabbitmq: RabbitmqService | None = None,
        without: str = "",
    ) -> None:
        self.processes = processes
        self.redis = redis
        self.folder = folder
        self.rabbitmq = rabbitmq
        """Where the queues are; ``None``: in Redis, as the results are in any case."""
        self.without = without
        """The idea that this project does without; see `ideas`."""
        self.paces: dict[str, Pace] = {}
        """What was seen of each peer in this run; see `measures.measure_drain`."""

    def empty(self) -> None:
        """From now on there are no queues and no results."""
        self.redis.empty()
        if self.rabbitmq is not None:
            self.rabbitmq.empty()

    def cpu_seconds(self) -> dict[str, float]:
        """The CPU time that each service has used so far."""
        used = {"redis": self.redis.cpu_seconds()}
        return used if self.rabbitmq is None else used | {"rabbitmq": self.rabbitmq.cpu_seconds()}

    def new_folder(self) -> Path:
        """An empty folder."""
        return Path(mkdtemp(dir=self.folder))

    def client(
        self, environment: Environment, word: str, *, kind: Kind | None = None, url: str = "", **arguments: Any
    ) -> dict[str, Any]:
        """Run the sending side and return what it tells. Raises `ProgramFailed`."""
        told = self.processes.output_of(
            environment.client(word, arguments), self._variables(environment, kind, url), timeout=LIMIT
        )
        line = next(line for line in reversed(told.splitlines()) if line.startswith("{"))
        answer: dict[str, Any] = json.loads(line)
        return answer

    @contextmanager
    def workers(
        self, environment: Environment, expected: int, *, kind: Kind | None = None, processes: int = 1, url: str = ""
    ) -> Iterator[Workers]:
        """So many worker processes, with a ledger for the calls that are expected. They have ended when the block is left."""
        ledger = self.new_folder()
        variables = self._variables(environment, kind, url) | {
            "BENCH_LEDGER": str(ledger),
            "BENCH_CAPACITY": str(expected + SPARE_CALLS),
        }
        command = environment.peer.workers[kind or environment.peer.kind]
        commands = [environment.worker(command, url or self.redis.url, number) for number in range(processes)]
        workers = Workers([self.processes.start(each, variables) for each in commands], ledger)
        try:
            yield workers
        finally:
            workers.end(0)

    def _variables(self, environment: Environment, kind: Kind | None, url: str) -> dict[str, str]:
        broker = self.redis.url if self.rabbitmq is None else self.rabbitmq.url
        return {
            "BENCH_URL": url or self.redis.url,
            "BENCH_BROKER": url or broker,
            "BENCH_KIND": kind or environment.peer.kind,
            "BENCH_WITHOUT": self.without,
        }


def rate_of(processes: Sequence[Process]) -> float:
    """Calls in a second, from when all of the processes had begun to the last call."""
    start = max(process.calls[0].at for process in processes)
    ends = [call.at for process in processes for call in process.calls if call.at > start]
    return len(ends) / (max(ends) - start) * 1e9 if ends else 0.0


def cpu_of(processes: Sequence[Process]) -> float:
    """CPU microseconds for each call, all threads of the processes, between the first and the last time it was noted."""
    spent = calls = 0
    for process in processes:
        noted = [(index, call.cpu) for index, call in enumerate(process.calls) if call.cpu]
        calls += noted[-1][0] - noted[0][0]
        spent += noted[-1][1] - noted[0][1]
    return spent / calls / 1000 if calls else 0.0


def memory_of(pids: Sequence[int], line: str) -> float:
    """MiB of real memory: now (``VmRSS``) or at most so far (``VmHWM``), of the processes that run tasks together; 0: unknown."""
    kibibytes = 0
    for pid in pids:
        with suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text("ascii")
            kibibytes += next(int(text.split()[1]) for text in status.splitlines() if text.startswith(line))
    return kibibytes / 1024
