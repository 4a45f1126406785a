"""The command line, and how much is measured."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from benchmarks.environments import WORKSHOP
from benchmarks.peers import OURS, PEERS_ON, Broker, Peer

REPORTS: Mapping[Broker, Path] = {"redis": WORKSHOP / "report", "rabbitmq": WORKSHOP / "report-rabbitmq"}
"""Where the tables go."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of each."""

    tasks: int = 20_000
    round_trips: int = 600
    load_seconds: float = 3.0
    small_chord: int = 1_000
    large_chord: int = 10_000
    delayed: int = 10_000
    imports: int = 5
    backlogs: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    groups: tuple[int, ...] = (10, 100, 1_000, 10_000, 50_000)
    waiting: tuple[int, ...] = (1_000, 10_000, 100_000)
    kibibytes: tuple[float, ...] = (0.2, 1, 4, 16, 64)
    milliseconds: tuple[float, ...] = (0, 0.5, 1, 2)

    def tasks_of(self, peer: Peer) -> int:
        """How many tasks this peer gets."""
        return max(100, int(self.tasks * peer.share))


QUICK = Sizes(
    tasks=1_000,
    round_trips=50,
    load_seconds=0.5,
    small_chord=50,
    large_chord=200,
    delayed=500,
    imports=1,
    backlogs=(1_000, 5_000),
    groups=(10, 500),
    waiting=(100, 1_000),
    kibibytes=(0.2, 16),
    milliseconds=(0, 2),
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    sizes: Sizes
    broker: Broker
    peers: tuple[Peer, ...]
    only: tuple[str, ...]
    """Names of measurements; empty: all."""
    growth: bool
    ideas: bool
    rounds: int
    minutes: float
    output: Path


def parse(arguments: Sequence[str], measures: Sequence[str], curves: Sequence[str]) -> Options:
    """What the command line says. ``measures`` and ``curves`` are the names that ``--only`` takes."""
    known = [*measures, *curves, "ideas"]
    parser = argparse.ArgumentParser(
        prog="make bench", description="Measure this project beside its peers, on one Redis, in one run."
    )
    parser.add_argument(
        "--broker", choices=get_args(Broker), default="redis", help="where the queues are; results are in Redis"
    )
    parser.add_argument("--quick", action="store_true", help="small numbers, one round, no peers unless named")
    parser.add_argument("--rounds", type=int, help="how often everything is measured; medians are shown (default 5)")
    parser.add_argument("--tasks", type=int, help="how many tasks are drained (default 20000; slow peers get fewer)")
    there_are = "; ".join(f"on {broker}: {','.join(peers)[len(OURS) + 1 :]}" for broker, peers in PEERS_ON.items())
    parser.add_argument("--peers", type=_words, help=f"beside this project, {there_are}; none")
    parser.add_argument("--only", type=_words, default=(), help=f"of {','.join(known)}")
    parser.add_argument("--growth", action="store_true", help=f"also how costs grow: {','.join(curves)}")
    parser.add_argument("--ideas", action="store_true", help="also this project without each of its ideas")
    parser.add_argument("--minutes", type=float, default=150, help="begin nothing new after so long (default 150)")
    parser.add_argument("--output", type=Path, help="folder for the table, JSON and plots")
    given = parser.parse_args(arguments)
    for name in given.only:
        if name not in known:
            parser.error(f"--only {name}: there are {', '.join(known)}")
    there = PEERS_ON[given.broker]
    peers = given.peers if given.peers is not None else () if given.quick else tuple(there)
    for name in peers:
        if name not in {*there, "none"}:
            parser.error(f"--peers {name}: there are {', '.join(there)}")
    growth = given.growth or bool(set(given.only) & set(curves))
    ideas = given.ideas or "ideas" in given.only
    if given.broker != "redis" and (growth or ideas):
        parser.error("how costs grow, and what each idea buys, is measured on Redis alone")
    sizes = QUICK if given.quick else Sizes()
    return Options(
        sizes=replace(sizes, tasks=given.tasks or sizes.tasks),
        broker=given.broker,
        peers=tuple(peer for name, peer in there.items() if name == OURS or name in peers),
        only=given.only,
        growth=growth,
        ideas=ideas,
        rounds=given.rounds or (1 if given.quick else 5),
        minutes=given.minutes,
        output=(given.output or REPORTS[given.broker]).absolute(),
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
