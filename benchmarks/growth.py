"""How this project's costs grow: with the backlog, the group, the delayed set, the message and the distance to Redis.

Each curve is a row of points; a point is a measurement of its own, on an empty database.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from urllib.parse import urlsplit

from redis import Redis

from benchmarks.environments import Environment
from benchmarks.ledger import Verdict
from benchmarks.options import Sizes
from benchmarks.processes import ProgramFailed, Running
from benchmarks.stand import Outcome, Stand, TooSlow, Workers, cpu_of, rate_of

QUEUE = "machinery_tasks"
POSTPONED = "{machinery_tasks}:machinery:postponed"
"""Where messages are, once their worker has ended well: in its queue, or handed back for later."""

FAR = 3600.0
"""Seconds until the delayed tasks that only wait are due."""

LARGEST = 1 << 26
"""Bytes of all messages of one point together."""

DRAIN_PATIENCE = 20.0
PINGS = 200


def measure_backlog(stand: Stand, environment: Environment, sizes: Sizes, size: float) -> Outcome:
    """Drain the first tasks of a backlog of ``size``; what was not called must still be in the queue."""
    backlog = int(size)
    count = min(backlog, sizes.tasks)
    stand.redis.empty()
    sent = stand.client(environment, "send-batch", count=backlog)
    cpu = stand.redis.cpu_seconds()
    with stand.workers(environment, backlog) as workers:
        workers.wait_for_calls(count)
        cpu = stand.redis.cpu_seconds() - cpu
        called = sum(len(process.calls) for process in workers.calls())
        workers.end(DRAIN_PATIENCE)
        processes = workers.calls()
    left = stand.redis.command("LLEN", QUEUE) + stand.redis.command("ZCARD", POSTPONED)
    distinct = {call.number for process in processes for call in process.calls}
    calls = sum(len(process.calls) for process in processes)
    values = {
        "send_us": sent["seconds"] / backlog * 1e6,
        "drain_us": 1e6 / rate_of(processes),
        "worker_cpu_us": cpu_of(processes),
        "redis_cpu_us": cpu / called * 1e6,
    }
    return Outcome(values, Verdict(backlog, backlog - left - len(distinct), calls - len(distinct)))


def measure_group(stand: Stand, environment: Environment, sizes: Sizes, size: float) -> Outcome:
    """Send and drain tasks in groups of ``size``."""
    members = int(size)
    count = max(members, sizes.tasks // 2 // members * members)
    stand.redis.empty()
    sent = stand.client(environment, "send-groups", count=count, size=members)
    return _drained(stand, environment, count, {"send_us": sent["seconds"] / count * 1e6})


def measure_waiting(stand: Stand, environment: Environment, sizes: Sizes, size: float) -> Outcome:
    """Promote tasks that are due at once, while ``size`` others wait for a later time."""
    count = sizes.delayed
    stand.redis.empty()
    stand.client(environment, "send-later", count=int(size), lead=FAR)
    with stand.workers(environment, count) as workers:
        stand.client(environment, "wait-ready")
        told = stand.client(environment, "send-later", count=count, lead=3.0 + count / 5000)
        if told["done"] > told["due"]:
            raise TooSlow("the tasks were due before all were sent")
        time.sleep(max(0, told["due"] - time.monotonic_ns()) / 1e9)
        workers.wait_for_calls(count)
        processes = workers.calls()
        verdict = workers.judge(count)
    last = max(process.calls[-1].at for process in processes)
    values = {
        "send_us": told["seconds"] / count * 1e6,
        "promote_us": (last - told["due"]) / count / 1000,
        "worker_cpu_us": cpu_of(processes),
    }
    return Outcome(values, verdict)


def measure_message(stand: Stand, environment: Environment, sizes: Sizes, size: float) -> Outcome:
    """Send and drain messages with an argument of ``size`` KiB."""
    characters = int(size * 1024)
    count = min(sizes.tasks, LARGEST // characters)
    stand.redis.empty()
    sent = stand.client(environment, "send-sized", count=count, characters=characters)
    return _drained(stand, environment, count, {"send_us": sent["seconds"] / count * 1e6})


def measure_distance(stand: Stand, environment: Environment, sizes: Sizes, size: float) -> Outcome:
    """Drain with ``size`` ms more between the worker and Redis, sent over the short way; 0: without the proxy."""
    with far_redis(stand, size) if size else nullcontext(stand.redis.url) as url:
        outcome = _drained_over(stand, environment, sizes.tasks, url)
    if not size:  # the proxy itself, which must not be what is measured
        with far_redis(stand, 0) as url:
            outcome.values["proxied_drain_us"] = _drained_over(stand, environment, sizes.tasks, url).values["drain_us"]
    return outcome


def _drained_over(stand: Stand, environment: Environment, count: int, url: str) -> Outcome:
    stand.redis.empty()
    stand.client(environment, "send-batch", count=count)
    values = {"round_trip_ms": _round_trip(url)}
    with stand.workers(environment, count, url=url) as workers:
        return _collected(stand, workers, count, values)


@contextmanager
def far_redis(stand: Stand, milliseconds: float) -> Iterator[str]:
    """The URL of the Redis behind a cable on which a round trip takes so much longer."""
    at = urlsplit(stand.redis.url)
    proxy = stand.processes.start(
        [
            *(sys.executable, "-m", "benchmarks.delaying_proxy"),
            *(at.hostname or "127.0.0.1", str(at.port or 6379), str(milliseconds)),
        ]
    )
    try:
        user, _, _ = at.netloc.rpartition("@")
        yield at._replace(netloc=f"{user}{'@' if user else ''}127.0.0.1:{_port_of(proxy)}").geturl()
    finally:
        proxy.end()


def _port_of(proxy: Running) -> int:
    until = time.monotonic() + 10
    while not (said := proxy.last_words()).isdigit():
        if proxy.has_ended or time.monotonic() > until:
            raise ProgramFailed(f"the delaying proxy did not start: {said}")
        time.sleep(0.01)
    return int(said)


def _round_trip(url: str) -> float:
    """Milliseconds that a PING takes, most often."""
    with Redis.from_url(url) as client:
        taken = []
        for _ in range(PINGS):
            start = time.perf_counter()
            client.ping()
            taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1000


def _drained(stand: Stand, environment: Environment, count: int, values: dict[str, float]) -> Outcome:
    with stand.workers(environment, count) as workers:
        return _collected(stand, workers, count, values)


def _collected(stand: Stand, workers: Workers, count: int, values: dict[str, float]) -> Outcome:
    cpu = stand.redis.cpu_seconds()
    workers.wait_for_calls(count)
    cpu = stand.redis.cpu_seconds() - cpu
    processes = workers.calls()
    verdict = workers.judge(count)
    drained = {
        "drain_us": 1e6 / rate_of(processes),
        "worker_cpu_us": cpu_of(processes),
        "redis_cpu_us": cpu / count * 1e6,
    }
    return Outcome(values | drained, verdict)


@dataclass(frozen=True, slots=True)
class Curve:
    """One row of points."""

    measure: Callable[[Stand, Environment, Sizes, float], Outcome]
    title: str
    sizes_of: Callable[[Sizes], tuple[float, ...]]
    values: tuple[str, ...]
    """What is shown of each point, in this order."""


CURVES = {
    "backlog": Curve(
        measure_backlog,
        "messages in the queue",
        lambda sizes: sizes.backlogs,
        ("send_us", "drain_us", "worker_cpu_us", "redis_cpu_us"),
    ),
    "group": Curve(
        measure_group,
        "members of a group",
        lambda sizes: sizes.groups,
        ("send_us", "drain_us", "worker_cpu_us", "redis_cpu_us"),
    ),
    "waiting": Curve(
        measure_waiting,
        "delayed tasks that wait",
        lambda sizes: sizes.waiting,
        ("send_us", "promote_us", "worker_cpu_us"),
    ),
    "message": Curve(
        measure_message,
        "KiB of a message",
        lambda sizes: sizes.kibibytes,
        ("send_us", "drain_us", "worker_cpu_us", "redis_cpu_us"),
    ),
    "distance": Curve(
        measure_distance,
        "ms more between worker and Redis",
        lambda sizes: sizes.milliseconds,
        ("round_trip_ms", "drain_us", "proxied_drain_us", "worker_cpu_us", "redis_cpu_us"),
    ),
}
"""All of them by the name that ``--only`` takes."""
