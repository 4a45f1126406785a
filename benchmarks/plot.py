"""Two pictures of a run, as SVG: bars for the peers, lines for growth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.columns import Column, columns_of
from benchmarks.growth import CURVES
from benchmarks.peers import OURS
from benchmarks.report import Report
from benchmarks.rounds import curves, medians

IN_A_ROW = 4
OURS_COLOUR = "#c2410c"
OTHERS_COLOUR = "#94a3b8"
SVG: Any = {"svg.fonttype": "none", "svg.hashsalt": "machinery", "font.size": 8}
"""Text stays text; the same numbers give the same file."""

COSTS = {
    "send_us": ("send", "#2563eb"),
    "drain_us": ("drain", "#c2410c"),
    "promote_us": ("promote and run", "#c2410c"),
    "worker_cpu_us": ("CPU of the worker", "#16a34a"),
    "redis_cpu_us": ("CPU of Redis", "#7c3aed"),
    "proxied_drain_us": ("drain through a proxy that adds nothing", "#94a3b8"),
}
"""What a curve shows of each point: its name and colour."""


def draw(report: Report, folder: Path) -> list[Path]:
    """Draw what was measured into the folder; returns the files."""
    drawn = []
    with mpl.rc_context(SVG):
        if bars := _bars(report):
            drawn.append(_saved(bars, folder / "peers.svg"))
        if lines := _lines(report):
            drawn.append(_saved(lines, folder / "growth.svg"))
    return drawn


def _saved(figure: Figure, path: Path) -> Path:
    figure.savefig(path, metadata={"Date": None})
    return path


def _bars(report: Report) -> Figure | None:
    found = medians(report.runs)
    peers = [peer for peer in reversed(list(report.versions)) if peer in found]
    columns = [column for column in columns_of(report.options.sizes) if any(column.key in found[p] for p in peers)]
    if not columns:
        return None
    figure, axes = _panels(len(columns), height=0.4 + 0.17 * len(peers))
    for axis, column in zip(axes, columns, strict=False):
        shown = [peer for peer in peers if column.key in found[peer]]
        values = [found[peer][column.key] for peer in shown]
        bars = axis.barh(shown, values, color=[OURS_COLOUR if peer == OURS else OTHERS_COLOUR for peer in shown])
        axis.bar_label(bars, labels=[column.text(value) for value in values], padding=2)
        axis.set_title(_title(column), loc="left")
        axis.set_xlim(0, max(values) * 1.3 or 1)
        axis.set_xticks([])
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    return figure


def _lines(report: Report) -> Figure | None:
    found = curves(report.runs)
    if not found:
        return None
    figure, axes = _panels(len(found), height=2.2)
    for axis, (name, points) in zip(axes, found.items(), strict=False):
        for value in CURVES[name].values:
            shown = {size: point[value] for size, point in points.items() if value in point}
            if value in COSTS:
                label, colour = COSTS[value]
                axis.plot(list(shown), list(shown.values()), marker=".", color=colour, label=label)
        axis.set_title(f"µs a task, by {CURVES[name].title}", loc="left")
        axis.set_xscale("linear" if 0 in points else "log")
        axis.set_ylim(bottom=0)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
    return figure


def _title(column: Column) -> str:
    return f"{column.title}, {column.unit} ({'more' if column.more_is_better else 'less'} is better)"


def _panels(count: int, height: float) -> tuple[Figure, Sequence[Any]]:
    across = min(IN_A_ROW, count)
    down = -(-count // across)
    figure = Figure(figsize=(4 * across, (height + 0.35) * down), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, axes
