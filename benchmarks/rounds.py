"""The order of a run: everything once in each round, peers next to each other, and medians over the rounds."""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.environments import Environment
from benchmarks.growth import CURVES
from benchmarks.ideas import IDEAS
from benchmarks.ledger import Verdict
from benchmarks.measures import MEASURES, measure_idea
from benchmarks.options import Options
from benchmarks.peers import OURS
from benchmarks.processes import ProgramFailed, TookTooLong
from benchmarks.stand import Outcome, Stand, TasksLost, TooSlow


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement of one peer in one round."""

    round: int
    measure: str
    peer: str
    size: float | None
    """The point on a curve of growth."""
    values: Mapping[str, float]
    verdict: Verdict
    notes: Sequence[str]
    failure: str = ""
    """Why it counts as failed: tasks were lost, or it could not be carried out."""
    without: str = ""
    """The idea that was left out."""
    is_too_slow: bool = False
    """It was still going on when its time was up; it is not tried again in the next round."""


def run_rounds(options: Options, stand: Stand, environments: Sequence[Environment]) -> list[Run]:
    """All rounds. A run that fails takes its values with it, and the others go on; after ``--minutes`` nothing new begins."""
    runs: list[Run] = []
    too_slow: set[tuple[str, str, float | None, str]] = set()
    until = time.monotonic() + options.minutes * 60
    for number in range(options.rounds):
        for measure, peer, size, without, carry_out in _planned(options, stand, environments, number):
            if time.monotonic() > until:
                _say(f"{options.minutes:g} minutes are over: the rest is left out")
                return runs
            if (measure, peer, size, without) in too_slow:
                continue
            start = time.monotonic()
            runs.append(replace(_one(number, measure, peer, size, carry_out), without=without))
            _say(_line(runs[-1], time.monotonic() - start))
            if runs[-1].is_too_slow:
                too_slow.add((measure, peer, size, without))
    return runs


def medians(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """Peer → column → the median over the rounds, of the table alone."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run.size is None and not run.without:
            for column, value in run.values.items():
                values[run.peer][column].append(value)
    return {
        peer: {column: statistics.median(each) for column, each in columns.items()} for peer, columns in values.items()
    }


def without(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """Idea → column → the median over the rounds, of this project without that idea."""
    return medians([replace(run, peer=run.without, without="") for run in runs if run.without])


def curves(runs: Sequence[Run]) -> dict[str, dict[float, dict[str, float]]]:
    """Curve → size → value's name → the median over the rounds."""
    values: dict[str, dict[float, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for run in runs:
        if run.size is not None:
            for name, value in run.values.items():
                values[run.measure][run.size][name].append(value)
    return {
        curve: {size: {name: statistics.median(each) for name, each in point.items()} for size, point in points.items()}
        for curve, points in values.items()
    }


_Planned = tuple[str, str, float | None, str, Callable[[], Outcome]]


def _planned(options: Options, stand: Stand, environments: Sequence[Environment], number: int) -> Iterator[_Planned]:
    """All runs of one round."""
    yield from _beside_peers(options, stand, environments, number)
    ours = next(environment for environment in environments if environment.peer.name == OURS)
    if options.growth:
        for name, curve in CURVES.items():
            if not options.only or name in options.only:
                for size in curve.sizes_of(options.sizes):
                    yield name, OURS, size, "", _bound(curve.measure, stand, ours, options.sizes, size)
    if options.ideas:
        for idea in IDEAS:
            yield "idea", OURS, None, idea, _bound(measure_idea, stand, ours, options.sizes, idea)


def _beside_peers(
    options: Options, stand: Stand, environments: Sequence[Environment], number: int
) -> Iterator[_Planned]:
    """The table's runs. Each round begins with another peer, so that none always has the machine at its best."""
    turn = number % len(environments)
    for name, measure in MEASURES.items():
        if options.only and name not in options.only:
            continue
        for environment in [*environments[turn:], *environments[:turn]]:
            if measure.applies(environment.peer):
                yield name, environment.peer.name, None, "", _bound(measure.run, stand, environment, options.sizes)


def _bound(function: Callable[..., Outcome], *arguments: object) -> Callable[[], Outcome]:
    return lambda: function(*arguments)


def _one(number: int, measure: str, peer: str, size: float | None, carry_out: Callable[[], Outcome]) -> Run:
    try:
        outcome = carry_out()
    except (TooSlow, TookTooLong) as reason:
        return Run(number, measure, peer, size, {}, Verdict(), [f"too slow: {reason}"], is_too_slow=True)
    except (TasksLost, ProgramFailed, ValueError) as error:
        return Run(number, measure, peer, size, {}, Verdict(), [], failure=f"{type(error).__name__}: {error}")
    verdict = outcome.verdict
    if verdict.lost or verdict.unknown:
        failure = f"{verdict.lost} of {verdict.sent} tasks were lost, {verdict.unknown} came from nowhere"
        return Run(number, measure, peer, size, {}, verdict, outcome.notes, failure=failure)
    notes = [*outcome.notes, *([f"{verdict.duplicated} ran twice"] if verdict.duplicated else [])]
    return Run(number, measure, peer, size, outcome.values, verdict, notes)


def _line(run: Run, seconds: float) -> str:
    what = f"{run.measure} {run.size:g}" if run.size is not None else f"{run.measure} {run.without}".strip()
    told = run.failure or ", ".join([*(f"{name} {value:.4g}" for name, value in run.values.items()), *run.notes])
    return f"round {run.round + 1}: {what}, {run.peer} ({seconds:.0f} s): {told}"


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)
