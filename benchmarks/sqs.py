"""Measure SQS: this project, a bare loop on boto3 and Celery: ``make bench-sqs``, or ``make bench-sqs ARGS='--rounds 1'``.

The queues are in ministack, a double of SQS that is started for the run alone, on the loopback interface, and the results in a
Redis. What is shown are medians of the rounds, in which all take turns. Absolute numbers say nothing about AWS, where a request
takes longer; what a task costs the client is the same there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.environments import Environment, NoEnvironment, make_environment
from benchmarks.peers import BARE, HIREDIS, OURS, PEERS, REDIS, Peer
from benchmarks.processes import Processes, ProgramFailed
from benchmarks.redis_service import NoRedis, RedisService, open_redis
from benchmarks.stand import TasksLost, TooSlow, Workers
from tests.services.chain import Unobtainable
from tests.services.dynamodb import ENVIRONMENT
from tests.services.sqs import Queues, SqsServer

TIMEOUT = 120.0
SPARE_CALLS = 10_000
SINGLES = 300
"""Sent one by one, at least: what the first one costs beyond the others is not to be seen."""
WANTED = 0.7
"""Of what the bare loop drains."""
COLUMNS = {
    "send_per_s": "send one by one, /s",
    "send_cpu_us": "CPU of the sender, one by one, µs",
    "batch_per_s": "send in batches, /s",
    "batch_cpu_us": "CPU of the sender, in batches, µs",
    "drain_per_s": "drain, /s",
    "drain_cpu_us": "CPU of the worker, µs",
    "trip_ms": "round trip, idle, p50, ms",
}
LOOP = ("python", "-m", "benchmarks.adapters.bare_sqs")
BARE_THREADS = f"{BARE}, 4 threads"
SQS_PEERS = {
    peer.name: peer
    for peer in (
        replace(
            PEERS[OURS], can=frozenset({"batch", "trip"}), told=("machinery-core", "machinery-broker-sqs", "boto3")
        ),
        replace(
            PEERS[BARE],
            adapter="bare_sqs",
            workers={"threads": (*LOOP, "1")},
            can=frozenset({"batch"}),
            told=("boto3",),
        ),
        replace(
            PEERS[BARE],
            name=BARE_THREADS,
            adapter="bare_sqs",
            workers={"threads": (*LOOP, "4")},
            can=frozenset({"batch"}),
            told=("boto3",),
        ),
        replace(
            PEERS["celery"],
            name="celery-sqs",
            adapter="celery",
            requirements=("celery[redis,sqs]==5.7.0", HIREDIS, REDIS),
            can=frozenset({"trip"}),
            told=("celery", "kombu", "boto3"),
        ),
    )
}
"""Who is measured. The loop with more threads is only drained: it sends like the other."""


@dataclass(slots=True)
class Row:
    """What was measured of one of them: a value for each round."""

    values: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, value: float) -> None:
        """What one round has come to."""
        self.values.setdefault(name, []).append(value)

    def median(self, name: str) -> float | None:
        """Of all rounds."""
        found = self.values.get(name)
        return statistics.median(found) if found else None


class Stand:
    """One ministack and one Redis; for each measurement an empty queue, an empty database and a fresh ledger."""

    def __init__(self, processes: Processes, redis: RedisService, folder: Path, tasks: int) -> None:
        self.tasks = tasks
        self._processes = processes
        self._redis = redis
        self._folder = folder

    def measure(self, environment: Environment, row: Row) -> None:
        """All that this one can do."""
        peer = environment.peer
        count = max(100, int(self.tasks * peer.share))
        singles = max(SINGLES, count // 5)
        if peer.name != BARE_THREADS:
            self._with_server(lambda server: self._send(environment, server, row, "send-each", "send", singles))
        if "batch" in peer.can and peer.name != BARE_THREADS:
            self._with_server(lambda server: self._send(environment, server, row, "send-batch", "batch", count))
        self._with_server(lambda server: self._drain(environment, server, row, count))
        if "trip" in peer.can:
            self._with_server(lambda server: self._trip(environment, server, row, max(20, singles // 5)))

    def _with_server(self, measure: Callable[[SqsServer], None]) -> None:
        self._redis.empty()
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        with SqsServer(folder, durable=False) as server:
            queues = Queues(server.url)
            for name in ("machinery_tasks", "celery"):
                queues.create(name)
            queues.close()
            measure(server)

    def _send(self, environment: Environment, server: SqsServer, row: Row, word: str, name: str, count: int) -> None:
        told = self._client(environment, server, word, count)
        row.add(f"{name}_per_s", count / told["seconds"])
        row.add(f"{name}_cpu_us", told["cpu"] / count * 1e6)

    def _drain(self, environment: Environment, server: SqsServer, row: Row, count: int) -> None:
        self._client(environment, server, "send-batch" if "batch" in environment.peer.can else "send-each", count)
        with_workers = self._workers(environment, server, count)
        try:
            with_workers.wait_for_calls(count)
            verdict = with_workers.judge(count)
            if verdict.lost or verdict.duplicated:
                row.notes.append(f"lost {verdict.lost}, ran twice {verdict.duplicated} of {count}")
            (process,) = with_workers.calls()
            span = (process.calls[-1].at - process.calls[0].at) / 1e9
            row.add("drain_per_s", (len(process.calls) - 1) / span)
            with_cpu = [(at, call.cpu) for at, call in enumerate(process.calls) if call.cpu]
            (first, begun), (last, ended) = with_cpu[0], with_cpu[-1]
            row.add("drain_cpu_us", (ended - begun) / (last - first) / 1e3)
        finally:
            with_workers.end(0)

    def _trip(self, environment: Environment, server: SqsServer, row: Row, count: int) -> None:
        workers = self._workers(environment, server, count)
        try:
            told = self._client(environment, server, "round-trips", count)
            row.add("trip_ms", statistics.median(told["milliseconds"]))
        finally:
            workers.end(0)

    def _workers(self, environment: Environment, server: SqsServer, count: int) -> Workers:
        ledger = Path(tempfile.mkdtemp(dir=self._folder))
        command = environment.worker(environment.peer.workers["threads"], server.url, 0)
        variables = {**self._variables(server), "BENCH_LEDGER": str(ledger), "BENCH_CAPACITY": str(count + SPARE_CALLS)}
        return Workers([self._processes.start(command, variables)], ledger)

    def _client(self, environment: Environment, server: SqsServer, word: str, count: int) -> dict[str, Any]:
        command = environment.client(word, {"count": count})
        said = self._processes.output_of(command, self._variables(server), timeout=TIMEOUT)
        told: dict[str, Any] = json.loads(said.splitlines()[-1])
        return told

    def _variables(self, server: SqsServer) -> Mapping[str, str]:
        return {**ENVIRONMENT, "BENCH_URL": self._redis.url, "BENCH_BROKER": server.url, "BENCH_KIND": "threads"}


def main(arguments: Sequence[str]) -> int:
    """Carry out the command line."""
    parser = argparse.ArgumentParser(prog="make bench-sqs", description="Measure SQS beside a bare loop and Celery.")
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {'; '.join(SQS_PEERS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured (default 3)")
    parser.add_argument("--tasks", type=int, default=5_000, help="how many tasks are drained (default 5,000)")
    given = parser.parse_args(arguments)
    if unknown := set(given.peers) - set(SQS_PEERS):
        parser.error(f"there is no peer {', '.join(sorted(unknown))}; there are {'; '.join(SQS_PEERS)}")
    names = given.peers or list(SQS_PEERS)
    rows = {name: Row() for name in names}
    os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
    with tempfile.TemporaryDirectory(prefix="machinery-bench-") as folder, Processes(Path(folder)) as processes:
        try:
            stand = Stand(processes, open_redis(processes), Path(folder), given.tasks)
            environments = _environments([SQS_PEERS[name] for name in names], processes, rows)
            for turn in range(given.rounds):
                for environment in environments[turn % len(environments) :] + environments[: turn % len(environments)]:
                    try:
                        stand.measure(environment, rows[environment.peer.name])
                    except (TasksLost, TooSlow, ProgramFailed) as error:
                        rows[environment.peer.name].notes.append(str(error))
        except (NoRedis, Unobtainable, ProgramFailed) as error:
            print(f"bench-sqs: {error}", file=sys.stderr)
            return 1
    print(_table(rows))
    return 0


def _environments(peers: Sequence[Peer], processes: Processes, rows: Mapping[str, Row]) -> list[Environment]:
    made: list[Environment] = []
    for peer in peers:
        try:
            made.append(make_environment(peer, processes))
        except (NoEnvironment, ProgramFailed) as error:
            rows[peer.name].notes.append(str(error))
    return made


def _table(rows: Mapping[str, Row]) -> str:
    lines = ["| | " + " | ".join(rows) + " |", "| --- |" + " ---: |" * len(rows)]
    for column, title in COLUMNS.items():
        lines.append(f"| {title} | {' | '.join(_cell(row.median(column)) for row in rows.values())} |")
    lines += [f"{name}: {note}" for name, row in rows.items() for note in row.notes]
    yardsticks = [
        value for name in (BARE, BARE_THREADS) if name in rows and (value := rows[name].median("drain_per_s"))
    ]
    if OURS in rows and yardsticks and (ours := rows[OURS].median("drain_per_s")):
        share = ours / max(yardsticks)
        lines.append(f"drain beside the faster loop: {share:.0%}, wanted {WANTED:.0%}")
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"  # noqa: PLR2004 - three digits are enough


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
