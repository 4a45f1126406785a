"""What is measured of each peer. Every function is one measurement: one fresh database, one row's part of the table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from benchmarks.environments import Environment
from benchmarks.ledger import Verdict
from benchmarks.options import Sizes
from benchmarks.peers import Kind, Peer
from benchmarks.processes import TookTooLong
from benchmarks.stand import LIMIT, Outcome, Pace, Stand, TooSlow, cpu_of, memory_of, rate_of

WARMING_UP = 0.1
"""The part of the round trips that is left out: the first ones."""

IMPORT = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
IDEA_COLUMNS = ("send_per_s", "threads_drain_per_s", "threads_cpu_us", "redis_cpu_us", "p50_ms", "small_chord_s")
"""What is shown of this project without one of its ideas."""
SPARE = 2.0
MOST_OF_TIME = 3.0
"""Delayed tasks are due so many seconds, and so many times what sending as many others took, after the first is sent."""


def measure_drain(stand: Stand, environment: Environment, sizes: Sizes) -> Outcome:
    """Send one by one; then one worker process drains the queue."""
    peer = environment.peer
    count = sizes.tasks_of(peer)
    stand.empty()
    sent = stand.client(environment, "send-each", count=count)
    outcome = _drain(stand, environment, count, peer.kind)
    outcome.values |= {"send_per_s": count / sent["seconds"], "send_cpu_us": sent["cpu"] / count * 1e6}
    stand.paces[peer.name] = Pace(outcome.values["send_per_s"], outcome.values["drain_per_s"])
    return _named(outcome, {"drain_per_s": f"{peer.kind}_drain_per_s", "worker_cpu_us": f"{peer.kind}_cpu_us"})


def measure_other_kind(stand: Stand, environment: Environment, sizes: Sizes) -> Outcome:
    """The same for the other kind of task."""
    peer = environment.peer
    kind = list(peer.workers)[1]
    count = sizes.tasks_of(peer)
    stand.empty()
    stand.client(environment, "send-batch" if "batch" in peer.can else "send-each", kind=kind, count=count)
    outcome = _drain(stand, environment, count, kind)
    names = {"drain_per_s": f"{kind}_drain_per_s", "worker_cpu_us": f"{kind}_cpu_us"}
    return _named(Outcome({name: outcome.values[name] for name in names}, outcome.verdict), names)


def measure_two(stand: Stand, environment: Environment, sizes: Sizes) -> Outcome:
    """Send many at a time, where there is such a call; then two worker processes drain the queue."""
    peer = environment.peer
    count = sizes.tasks_of(peer) * 2
    has_batch = "batch" in peer.can
    stand.empty()
    sent = stand.client(environment, "send-batch" if has_batch else "send-each", count=count)
    with stand.workers(environment, count, processes=2) as workers:
        workers.wait_for_calls(count)
        processes = workers.calls()
        outcome = Outcome({}, workers.judge(count))
    if len(processes) > 1:
        outcome.values["two_drain_per_s"] = rate_of(processes)
    else:
        outcome.notes.append("one of the two processes got nothing")
    if has_batch:
        outcome.values["batch_per_s"] = count / sent["seconds"]
    return outcome


def measure_round_trips(stand: Stand, environment: Environment, sizes: Sizes) -> Outcome:
    """Memory of an idle worker; then send a task and wait for its result, again and again."""
    stand.empty()
    with stand.workers(environment, sizes.round_trips) as workers:
        stand.client(environment, "wait-ready")
        idle = memory_of(workers.pids(), "VmRSS")
        told = stand.client(environment, "round-trips", count=sizes.round_trips)["milliseconds"]
        verdict = workers.judge(sizes.round_trips)
    taken = told[int(len(told) * WARMING_UP) :]
    values = {"p50_ms": statistics.median(taken), "p99_ms": percentile(taken, 0.99), "idle_rss_mib": idle}
    return Outcome(values, verdict)


def measure_load(stand: Stand, environment: Environment, sizes: Sizes) -> Outcome:
    """Send at half the rate that this peer keeps up with: from just before a task is sent to its call."""
    pace = _pace(stand, environment, sizes)
    rate = min(pace.send, pace.drain) / 2
    count = int(rate * sizes.load_seconds)
    stand.empty()
    with stand.workers(environment, count) as workers:
        sent = stand.client(environment, "send-paced", count=count, rate=rate)["sent"]
        workers.wait_for_calls(count)
        verdict = workers.judge(count)
        waited = [(call.at - sent[call.number]) / 1e6 for process in workers.calls() for call in process.calls]
    achieved = (count - 1) / (sent[-1] - sent[0]) * 1e9
    values = {"load_p50_ms": statistics.median(waited), "load_p99_ms": percentile(waited, 0.99), "load_per_s": achieved}
    return Outcome(values, verdict)


def measure_chord(stand: Stand, environment: Environment, sizes: Sizes) -> Outcome:
    """A small chord: from sending to the callback's result."""
    return _chord(stand, environment, sizes.small_chord, "small_chord_s")


def measure_large_chord(stand: Stand, environment: Environment, sizes: Sizes) -> Outcome:
    """A large chord."""
    return _chord(stand, environment, sizes.large_chord, "large_chord_s")


def measure_later(stand: Stand, environment: Environment, sizes: Sizes) -> Outcome:
    """Tasks that are all due at one time: from then until the last one is called. None may be called before."""
    count = sizes.delayed
    lead = SPARE + count / _pace(stand, environment, sizes).send * MOST_OF_TIME
    stand.empty()
    with stand.workers(environment, count) as workers:
        stand.client(environment, "wait-ready")
        told = stand.client(environment, "send-later", count=count, lead=lead)
        time.sleep(max(0, told["due"] - time.monotonic_ns()) / 1e9)
        workers.wait_for_calls(count)
        started = sorted(call.at for process in workers.calls() for call in process.calls)
        verdict = workers.judge(count)
    outcome = Outcome({"later_s": (started[-1] - told["due"]) / 1e9}, verdict)
    if told["done"] > told["due"]:
        outcome.values.clear()
        outcome.notes.append("the tasks were due before all were sent")
    early = sum(at < told["due"] for at in started)
    if early:
        outcome.notes.append(f"{early} were called early, by up to {(told['due'] - started[0]) / 1e6:.1f} ms")
    return outcome


def measure_sqlite(stand: Stand, environment: Environment, sizes: Sizes) -> Outcome:
    """Send and drain on a SQLite file, with no server."""
    peer = environment.peer
    count = sizes.tasks_of(peer) // 2
    url = f"sqlite:///{stand.new_folder() / 'tasks.db'}"
    sent = stand.client(environment, "send-each", url=url, count=count)
    outcome = _drain(stand, environment, count, peer.kind, url=url)
    return Outcome(
        {"sqlite_send_per_s": count / sent["seconds"], "sqlite_drain_per_s": outcome.values["drain_per_s"]},
        outcome.verdict,
    )


def measure_import(stand: Stand, environment: Environment, sizes: Sizes) -> Outcome:
    """The time that importing the library takes, in a fresh interpreter; the first, which may have to compile, is not counted."""
    command = [environment.python, "-c", IMPORT.format(environment.peer.library)]
    taken = [float(stand.processes.output_of(command, timeout=60)) for _ in range(1 + sizes.imports)]
    return Outcome({"import_ms": statistics.median(taken[1:]) * 1000})


def measure_idea(stand: Stand, environment: Environment, sizes: Sizes, name: str) -> Outcome:
    """What sending, draining, a round trip and a small chord cost without one of the ideas."""
    without = Stand(stand.processes, stand.redis, stand.folder, without=name)
    found: dict[str, float] = {}
    verdict = Verdict()
    for measure in (measure_drain, measure_round_trips, measure_chord):
        outcome = measure(without, environment, sizes)
        found |= outcome.values
        verdict += outcome.verdict
    return Outcome({column: found[column] for column in IDEA_COLUMNS}, verdict)


def _drain(stand: Stand, environment: Environment, count: int, kind: Kind, url: str = "") -> Outcome:
    before = stand.cpu_seconds()
    with stand.workers(environment, count, kind=kind, url=url) as workers:
        workers.wait_for_calls(count)
        used = stand.cpu_seconds()
        processes = workers.calls()
        peak = memory_of(workers.pids(), "VmHWM")
        verdict = workers.judge(count)
    values = {
        "drain_per_s": rate_of(processes),
        "worker_cpu_us": cpu_of(processes),
        "peak_rss_mib": peak,
        **{f"{name}_cpu_us": (used[name] - before[name]) / count * 1e6 for name in used},
    }
    return Outcome(values, verdict)


def _chord(stand: Stand, environment: Environment, size: int, column: str) -> Outcome:
    stand.empty()
    with stand.workers(environment, size) as workers:
        try:
            told = stand.client(environment, "chord", count=size)
        except TookTooLong:
            workers.require_progress(size)
            raise TooSlow(f"its result was not there within {LIMIT:.0f} s") from None
        verdict = workers.judge(size)
    right = size * (size + 1) // 2
    if told["result"] != right:
        raise ValueError(f"the chord's result is {told['result']!r}, not {right}")
    return Outcome({column: told["seconds"]}, verdict)


def _pace(stand: Stand, environment: Environment, sizes: Sizes) -> Pace:
    """What this peer keeps up with; measured now, where it has not been."""
    if environment.peer.name not in stand.paces:
        measure_drain(stand, environment, sizes)
    return stand.paces[environment.peer.name]


def _named(outcome: Outcome, names: Mapping[str, str]) -> Outcome:
    values = {names.get(name, name): value for name, value in outcome.values.items()}
    return Outcome(values, outcome.verdict, outcome.notes)


def percentile(values: Iterable[float], part: float) -> float:
    """The value below which that part of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


@dataclass(frozen=True, slots=True)
class Measure:
    """One measurement."""

    run: Callable[[Stand, Environment, Sizes], Outcome]
    applies: Callable[[Peer], bool]


MEASURES = {
    "drain": Measure(measure_drain, lambda _: True),
    "kind": Measure(measure_other_kind, lambda peer: len(peer.workers) > 1),
    "two": Measure(measure_two, lambda peer: not peer.is_yardstick),
    "trip": Measure(measure_round_trips, lambda peer: not peer.is_yardstick),
    "load": Measure(measure_load, lambda peer: not peer.is_yardstick),
    "chord": Measure(measure_chord, lambda peer: "chord" in peer.can),
    "large-chord": Measure(measure_large_chord, lambda peer: "chord" in peer.can),
    "later": Measure(measure_later, lambda peer: "later" in peer.can),
    "sqlite": Measure(measure_sqlite, lambda peer: "sqlite" in peer.can),
    "import": Measure(measure_import, lambda peer: bool(peer.library)),
}
"""All of them by the name that ``--only`` takes, in the order in which they are run."""
