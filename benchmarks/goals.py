"""The goals for speed, held against what one run measured. They are shown, and nothing fails by them: machines are noisy.

Goals in absolute numbers were set on one machine. How fast another one is shows the CPU time that a loop without any task queue
takes there (`benchmarks.adapters.bare`): beside each such value stands what it would be at the pace of the goals' machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.peers import BARE, OURS, PEERS, RABBITMQ_PEERS, Broker

Medians = Mapping[str, Mapping[str, float]]
"""Peer → column → median."""

Points = Mapping[str, Mapping[float, Mapping[str, float]]]
"""Curve → size → value's name → median."""

DISTANCE = 2.0
"""Milliseconds at which the drain is held against the one nearby."""


BARE_CPU = 23.0
"""µs of CPU that a task took the bare loop's worker on the machine on which the goals were set."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal: what is wanted, and what was measured."""

    text: str
    wanted: str
    measured: str
    reached: bool
    at_pace: str = ""
    """What was measured, as it would be at the pace of the goals' machine; empty for ratios, and where the pace is not known."""
    reached_at_pace: bool | None = None


def reached_goals(medians: Medians, points: Points, broker: Broker = "redis") -> list[Goal]:
    """All goals for which both sides were measured."""
    goals = _on_rabbitmq(medians) if broker == "rabbitmq" else _on_redis(medians, points)
    return [goal for goal in goals if goal is not None]


def _on_redis(medians: Medians, points: Points) -> list[Goal | None]:
    ours = medians.get(OURS, {})
    pace = pace_of(medians)
    return [
        _against_best("drain, against the best Python peer", medians, "threads_drain_per_s", 4.0, more=True),
        _against_best("CPU of the worker, against the best Python peer", medians, "threads_cpu_us", 0.25),
        _least("drain, in tasks a second", ours, "threads_drain_per_s", 15_000, pace),
        _most("CPU of the worker, in µs", ours, "threads_cpu_us", 60, pace),
        _against_one("drain, against Go's redigo worker", medians, "threads_drain_per_s", "go-redigo"),
        _against_one("send one by one, against Dramatiq", medians, "send_per_s", "dramatiq"),
        _least("send one by one, in tasks a second", ours, "send_per_s", 12_000, pace),
        _least("send in batches, in tasks a second", ours, "batch_per_s", 40_000, pace),
        _most("round trip, p50, in ms", ours, "p50_ms", 0.7, pace),
        _most("the small chord, in s", ours, "small_chord_s", 0.3, pace),
        _most("due at once, until the last has started, in s", ours, "later_s", 1.5, pace),
        _most("memory of an idle worker, in MiB", ours, "idle_rss_mib", 40, None),
        _most("import, in ms", ours, "import_ms", 60, pace),
        _far_drain(points),
    ]


def _on_rabbitmq(medians: Medians) -> list[Goal | None]:
    ours = medians.get(OURS, {})
    return [
        _against_one("send one by one, against Go", medians, "send_per_s", "go-amqp"),
        _least("send in batches, in tasks a second", ours, "batch_per_s", 15_000, None),
        _against_one("drain, against Dramatiq", medians, "threads_drain_per_s", "dramatiq", 2.5),
        _against_one("drain, against Go", medians, "threads_drain_per_s", "go-amqp"),
        _most("round trip, p50, in ms", ours, "p50_ms", 0.6, None),
    ]


def pace_of(medians: Medians, broker: Broker = "redis") -> float | None:
    """How many times as fast as the goals' machine this one is; ``None``: that cannot be told without the yardstick on Redis."""
    if broker != "redis":
        return None
    cpu = medians.get(BARE, {}).get("threads_cpu_us")
    return BARE_CPU / cpu if cpu else None


def best_python_peer(medians: Medians, column: str, *, more: bool) -> float | None:
    """The best value of a Python peer in a column."""
    peers = {**PEERS, **RABBITMQ_PEERS}
    values = [
        each[column] for name, each in medians.items() if name != OURS and peers[name].is_python_peer and column in each
    ]
    return (max if more else min)(values) if values else None


def _against_best(text: str, medians: Medians, column: str, factor: float, *, more: bool = False) -> Goal | None:
    ours = medians.get(OURS, {}).get(column)
    columns = (column, column.replace("threads_", "async_"))  # whatever a peer runs best
    theirs = [best for each in columns if (best := best_python_peer(medians, each, more=more)) is not None]
    if ours is None or not theirs:
        return None
    best = (max if more else min)(theirs)
    ratio = ours / best
    return Goal(
        text, f"{'≥' if more else '≤'} {factor:g}x", f"{ratio:.2f}x", ratio >= factor if more else ratio <= factor
    )


def _against_one(text: str, medians: Medians, column: str, peer: str, factor: float = 1.0) -> Goal | None:
    ours, theirs = medians.get(OURS, {}).get(column), medians.get(peer, {}).get(column)
    if ours is None or theirs is None:
        return None
    return Goal(text, f"≥ {factor:g}x", f"{ours / theirs:.2f}x", ours >= theirs * factor)


def _least(text: str, ours: Mapping[str, float], column: str, wanted: float, pace: float | None) -> Goal | None:
    value = ours.get(column)
    if value is None:
        return None
    found = (f"≥ {wanted:,}", f"{value:,.0f}", value >= wanted)
    return Goal(text, *found, f"{value / pace:,.0f}", value / pace >= wanted) if pace else Goal(text, *found)


def _most(text: str, ours: Mapping[str, float], column: str, wanted: float, pace: float | None) -> Goal | None:
    value = ours.get(column)
    if value is None:
        return None
    found = (f"≤ {wanted:g}", f"{value:.3g}", value <= wanted)
    return Goal(text, *found, f"{value * pace:.3g}", value * pace <= wanted) if pace else Goal(text, *found)


def _far_drain(points: Points) -> Goal | None:
    distances = points.get("distance", {})
    if not {0.0, DISTANCE} <= distances.keys():
        return None
    kept = distances[0.0]["drain_us"] / distances[DISTANCE]["drain_us"]
    return Goal(f"drain kept with {DISTANCE:g} ms more to Redis", "≥ 80 %", f"{kept:.0%}", kept >= 0.8)  # noqa: PLR2004 - the goal
