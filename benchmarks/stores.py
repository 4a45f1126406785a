"""Measure the result backends beside each other: ``make bench-stores``, or ``make bench-stores ARGS='--rounds 1 redis mongodb'``.

Records are written and read in batches of a hundred and one by one, by one thread; then a worker in the same process runs a chord
of 1,000, with Redis as broker. Each server is started for the run alone, on the loopback interface, unless its URL is in the
environment. What is shown are medians of the rounds, in which the stores take turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from machinery import Server, Signature, State, TaskResult, TaskState, chord
from machinery.abc import Backend, Config
from tests.services import dynamodb, memcached, mongo, rabbitmq, redis
from tests.services.chain import Source, Unobtainable

BATCH = 100
CHORD = 1_000
BATCHES = 20
SINGLES = 300
COLUMNS = {
    "submit_per_s": "submitted /s",
    "save_per_s": "saved /s",
    "load_per_s": "loaded /s",
    "single_per_s": "saved one by one /s",
    "chord_s": "chord of 1,000 s",
}


@dataclass(frozen=True, slots=True)
class Store:
    """Where a result backend's service comes from, and how much of each it is given."""

    sources: Mapping[str, Source]
    share: float = 1.0
    """Of the batches and single records: slow stores are given fewer."""


STORES = {
    "redis": Store(redis.SOURCES),
    "mongodb": Store(mongo.SOURCES),
    "memcached": Store(memcached.SOURCES),
    "dynamodb": Store(dynamodb.SOURCES, 0.25),
    "rabbitmq": Store(rabbitmq.SOURCES, 0.25),
}


@dataclass(slots=True)
class Row:
    """What was measured of one store: a value for each round."""

    values: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, value: float) -> None:
        """What one round has come to."""
        self.values.setdefault(name, []).append(value)


def main(arguments: Sequence[str]) -> int:
    """Carry out the command line."""
    parser = argparse.ArgumentParser(
        prog="make bench-stores", description="Measure the result backends beside each other."
    )
    parser.add_argument("stores", nargs="*", metavar="STORE", help=f"of {', '.join(STORES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (default 5)")
    given = parser.parse_args(arguments)
    if unknown := set(given.stores) - set(STORES):
        parser.error(f"there is no store {', '.join(sorted(unknown))}; there are {', '.join(STORES)}")
    names = given.stores or list(STORES)
    rows = {name: Row() for name in names}
    with ExitStack() as services:
        try:
            broker = services.enter_context(_served(redis.SOURCES))
        except Unobtainable as error:
            print(f"bench-stores: {error}", file=sys.stderr)
            return 1
        configs: dict[str, Config] = {}
        for name in names:
            try:
                url = services.enter_context(_served(STORES[name].sources))
            except Unobtainable as error:
                rows[name].notes.append(str(error))
            else:
                configs[name] = _configured(name, broker, url)
        for _ in range(given.rounds):
            for name, config in configs.items():
                _measure(config, STORES[name].share, rows[name])
    print(_table(rows))
    return 0


@contextmanager
def _served(sources: Mapping[str, Source]) -> Iterator[str]:
    """The service's URL, from the environment or from a server of our own."""
    for name in ("environment", "program"):
        with ExitStack() as stack:
            try:
                url = stack.enter_context(sources[name]())
            except Unobtainable:
                if name == "program":
                    raise
                continue
            yield url
            return


def _configured(name: str, broker: str, url: str) -> Config:
    own = uuid4().hex
    sections: dict[str, Mapping[str, Any]] = {"amqp": {"exchange": f"exchange-{own}", "binding_key": f"key-{own}"}}
    if name == "redis":
        url = f"{url.rstrip('/')}/1"
    elif name == "mongodb":
        url = f"{url.rstrip('/')}/bench_{own}"
    elif name == "dynamodb":
        os.environ.update(dynamodb.credentials())
        sections["dynamodb"] = dynamodb.create_tables(url)
    return Config(broker=f"{broker.rstrip('/')}/0", result_backend=url, default_queue=f"bench-{own}", sections=sections)


def _measure(config: Config, share: float, row: Row) -> None:
    with Server.from_config(config) as server:
        backend = server.backend
        backend.load(["warm"])
        batches = [[f"task_{uuid4()}" for _ in range(BATCH)] for _ in range(max(2, int(BATCHES * share)))]
        singles = [f"task_{uuid4()}" for _ in range(max(20, int(SINGLES * share)))]
        count = BATCH * len(batches)
        row.add("submit_per_s", count / _seconds(lambda: [backend.submit(_pending(ids)) for ids in batches]))
        row.add("save_per_s", count / _seconds(lambda: [backend.save(_done(ids)) for ids in batches]))
        row.add("load_per_s", count / _seconds(lambda: [_load(backend, ids) for ids in batches]))
        row.add("single_per_s", len(singles) / _seconds(lambda: [backend.save(_done([uuid])) for uuid in singles]))
        row.add("chord_s", _chord(server))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _pending(ids: Sequence[str]) -> list[TaskState]:
    return [TaskState(uuid, "add") for uuid in ids]


def _done(ids: Sequence[str]) -> list[TaskState]:
    return [TaskState(uuid, "", State.SUCCESS, (TaskResult("int64", 42),)) for uuid in ids]


def _load(backend: Backend, ids: Sequence[str]) -> int:
    found = [state for state in backend.load(ids) if state is not None and state.is_success]
    if len(found) < len(ids):
        raise RuntimeError("a record was lost")
    return len(found)


def _chord(server: Server) -> float:
    def double(number: int) -> int:
        return 2 * number

    def total(*numbers: int) -> int:
        return sum(numbers)

    server.register_tasks({"double": double, "total": total})
    members = [Signature("double", [number]) for number in range(CHORD)]
    with server.new_worker("bench", 4):
        start = time.perf_counter()
        came = server.send_chord(chord(members, Signature("total"))).get(timeout=300)
        taken = time.perf_counter() - start
    if came != CHORD * (CHORD - 1):
        raise RuntimeError(f"the chord came to {came}")
    return taken


def _table(rows: Mapping[str, Row]) -> str:
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "| --- |" + " --- |" * len(COLUMNS)]
    for name, row in rows.items():
        cells = [_cell(name, row.values.get(column)) for column, name in COLUMNS.items()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [f"{name}: {note}" for name, row in rows.items() for note in row.notes]
    return "\n".join(lines)


def _cell(name: str, values: Sequence[float] | None) -> str:
    if not values:
        return "-"
    median = statistics.median(values)
    return f"{median:.2f}" if name.endswith(" s") else f"{median:,.0f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
