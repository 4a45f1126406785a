"""What a run found, for people (text, Markdown) and for programs (JSON)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.columns import Column, columns_of
from benchmarks.goals import Goal, best_python_peer, pace_of, reached_goals
from benchmarks.growth import CURVES
from benchmarks.measures import IDEA_COLUMNS
from benchmarks.options import Options
from benchmarks.peers import OURS
from benchmarks.rounds import Run, curves, medians, without


@dataclass(frozen=True, slots=True)
class Report:
    """All that a run found."""

    machine: Mapping[str, str]
    versions: Mapping[str, Mapping[str, str]]
    """Peer → distribution → version."""
    missing: Mapping[str, str]
    """Peer → why it could not be measured here."""
    options: Options
    runs: Sequence[Run]

    @property
    def failures(self) -> list[str]:
        """What failed, a line each."""
        return [f"{run.peer}, {run.measure}, round {run.round + 1}: {run.failure}" for run in self.runs if run.failure]

    def to_json(self) -> str:
        """Everything, each single run too."""
        sizes = asdict(self.options.sizes)
        found: dict[str, Any] = {
            "machine": self.machine,
            "versions": self.versions,
            "missing": self.missing,
            "rounds": self.options.rounds,
            "sizes": sizes,
            "medians": medians(self.runs),
            "curves": curves(self.runs),
            "without": without(self.runs),
            "goals": [asdict(goal) for goal in self._reached_goals()],
            "failures": self.failures,
            "runs": [asdict(run) for run in self.runs],
        }
        return json.dumps(found, indent=1, ensure_ascii=False)

    def to_markdown(self) -> str:
        """The tables."""
        parts = [self._machine(), *self._table(), *self._growth(), *self._ideas(), *self._goals(), *self._remarks()]
        return "\n".join(parts) + "\n"

    def _machine(self) -> str:
        machine = ", ".join(f"{name} {text}" for name, text in self.machine.items())
        rounds = f"{self.options.rounds} rounds, medians" if self.options.rounds > 1 else "one round"
        lines = [f"{machine}; {rounds}"]
        for peer, versions in self.versions.items():
            lines.append(f"- {peer}: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
        lines += [f"- {peer} was not measured: {why}" for peer, why in self.missing.items()]
        return "\n".join(lines)

    def _table(self) -> list[str]:
        found = medians(self.runs)
        peers = [peer for peer in self.versions if peer in found]
        columns = [column for column in columns_of(self.options.sizes) if any(column.key in found[p] for p in peers)]
        if not columns:
            return []
        rows = [["", *peers, "against the best Python peer"]]
        for column in columns:
            values = [column.text(found[peer].get(column.key)) for peer in peers]
            rows.append([f"{column.title}, {column.unit}", *values, _ratio(found, column)])
        return ["", *_aligned(rows)]

    def _growth(self) -> list[str]:
        lines: list[str] = []
        found = curves(self.runs)
        for name, curve in CURVES.items():
            if name in found:
                rows = [[curve.title, *curve.values]]
                for size, point in found[name].items():
                    rows.append(
                        [f"{size:,g}", *(f"{point[value]:,.3g}" if value in point else "-" for value in curve.values)]
                    )
                lines += ["", *_aligned(rows)]
        return lines

    def _ideas(self) -> list[str]:
        found = without(self.runs)
        if not found:
            return []
        columns = [column for column in columns_of(self.options.sizes) if column.key in IDEA_COLUMNS]
        rows = [["without", *(f"{column.title}, {column.unit}" for column in columns)]]
        rows += [[idea, *(column.text(values.get(column.key)) for column in columns)] for idea, values in found.items()]
        return ["", *_aligned(rows)]

    def _reached_goals(self) -> list[Goal]:
        return reached_goals(medians(self.runs), curves(self.runs), self.options.broker)

    def _goals(self) -> list[str]:
        goals = self._reached_goals()
        if not goals:
            return []
        pace = pace_of(medians(self.runs), self.options.broker)
        rows = [["goal", "wanted", "measured", "", *(["at the goals' pace", ""] if pace else [])]]
        for goal in goals:
            at_pace = [goal.at_pace, _judged(goal.reached_at_pace)] if pace else []
            rows.append([goal.text, goal.wanted, goal.measured, _judged(goal.reached), *at_pace])
        told = f"This machine has {pace:.2f} times the pace of the one on which the goals were set." if pace else ""
        return ["", *_aligned(rows), *(["", told] if told else [])]

    def _remarks(self) -> list[str]:
        noted = [
            f"- {run.peer}, {run.measure}, round {run.round + 1}: {note}" for run in self.runs for note in run.notes
        ]
        failed = [f"- FAILED: {failure}" for failure in self.failures]
        sent = sum(run.verdict.sent for run in self.runs)
        lost = sum(run.verdict.lost for run in self.runs)
        twice = sum(run.verdict.duplicated for run in self.runs)
        counted = f"Of {sent:,} tasks in {len(self.runs)} runs {lost:,} were lost and {twice:,} ran twice."
        return ["", counted, *noted, *failed]


def write(report: Report, folder: Path) -> None:
    """Write the tables and the JSON into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(report.to_json(), "utf-8")
    (folder / "report.md").write_text(report.to_markdown(), "utf-8")


def _judged(reached: bool | None) -> str:
    return "" if reached is None else "reached" if reached else "missed"


def _ratio(found: Mapping[str, Mapping[str, float]], column: Column) -> str:
    ours = found.get(OURS, {}).get(column.key)
    best = best_python_peer(found, column.key, more=column.more_is_better)
    return f"{column.times_better(ours, best):.2f}x" if ours and best else ""


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table that reads well as text, too."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = ["| " + " | ".join(_padded(row, widths)) + " |" for row in rows]
    rule = "| " + " | ".join("-" * (width - 1) + (":" if at else "-") for at, width in enumerate(widths)) + " |"
    return [lines[0], rule, *lines[1:]]


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        text.rjust(width) if at else text.ljust(width) for at, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
