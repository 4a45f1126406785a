"""The benchmark runs, loses nothing, and leaves nothing behind. How fast anything was is not looked at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("redis", reason="needs the redis package")

from benchmarks.ideas import IDEAS
from benchmarks.measures import IDEA_COLUMNS
from benchmarks.rabbitmq_service import NoRabbitmq, find_program
from tests.services.chain import missing

ROOT = Path(__file__).parents[2]
ONLY = "drain,kind,two,trip,load,chord,later,sqlite,distance"
ONLY_ON_RABBITMQ = "drain,kind,two,trip,chord"
COLUMNS = {
    *("send_per_s", "batch_per_s", "threads_drain_per_s", "async_drain_per_s", "threads_cpu_us", "redis_cpu_us"),
    *("p50_ms", "p99_ms", "load_p99_ms", "small_chord_s", "later_s", "sqlite_drain_per_s"),
}
COLUMNS_ON_RABBITMQ = {
    *("send_per_s", "batch_per_s", "threads_drain_per_s", "async_drain_per_s", "threads_cpu_us", "redis_cpu_us"),
    *("rabbitmq_cpu_us", "p50_ms", "p99_ms", "small_chord_s"),
}

pytestmark = pytest.mark.slow


def start(redis_database: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The benchmark, small and without peers; all that it makes is in the folder."""
    (folder / "temporary").mkdir()
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "benchmarks.run",
            "--quick",
            "--tasks",
            "300",
            "--output",
            folder / "report",
            *arguments,
        ],
        cwd=ROOT,
        env={**os.environ, "REDIS_URL": redis_database, "TMPDIR": str(folder / "temporary")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def working_in(folder: Path) -> Sequence[str]:
    """The processes whose working directory is in the folder, or was until it was deleted."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder) in str((process / "cwd").readlink()):
                found.append((process / "cmdline").read_text("utf-8"))
        except OSError:
            continue  # it has ended, or is somebody else's
    return found


def test_a_small_run_measures_everything_and_loses_nothing(redis_database: str, tmp_path: Path) -> None:
    running = start(redis_database, tmp_path, "--only", ONLY)
    table, log = running.communicate()
    assert running.returncode == 0, log
    report: dict[str, Any] = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert report["failures"] == []
    assert {run["measure"] for run in report["runs"]} == set(ONLY.split(","))
    assert all(run["verdict"]["sent"] > 0 for run in report["runs"])
    assert sum(run["verdict"]["lost"] for run in report["runs"]) == 0
    assert report["medians"]["machinery"].keys() >= COLUMNS
    assert all(value > 0 for value in report["medians"]["machinery"].values())
    assert "| send one by one, /s " in table
    assert list((tmp_path / "temporary").iterdir()) == []
    assert working_in(tmp_path) == []


@pytest.mark.thorough
def test_each_idea_can_be_left_out_and_nothing_is_lost_without_it(redis_database: str, tmp_path: Path) -> None:
    running = start(redis_database, tmp_path, "--only", "ideas", "--tasks", "100")
    table, log = running.communicate()
    assert running.returncode == 0, log
    report: dict[str, Any] = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert report["without"].keys() == IDEAS.keys()
    assert all(values.keys() == set(IDEA_COLUMNS) for values in report["without"].values())
    assert sum(run["verdict"]["lost"] for run in report["runs"]) == 0
    assert "| settling in batches " in table


@pytest.fixture
def rabbitmq_program() -> str:
    """What the benchmark starts; it takes no RabbitMQ from elsewhere."""
    try:
        return find_program("rabbitmq-server")
    except NoRabbitmq as reason:
        missing("amqp", str(reason))


@pytest.mark.thorough  # RabbitMQ itself is measured, with all that the run above tries on Redis
@pytest.mark.usefixtures("rabbitmq_program")
def test_a_small_run_on_rabbitmq_measures_everything_and_loses_nothing(redis_database: str, tmp_path: Path) -> None:
    pytest.importorskip("pika", reason="needs the pika package")
    running = start(redis_database, tmp_path, "--broker", "rabbitmq", "--peers", "bare", "--only", ONLY_ON_RABBITMQ)
    table, log = running.communicate()
    assert running.returncode == 0, log
    report: dict[str, Any] = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert report["failures"] == []
    assert {run["measure"] for run in report["runs"]} == set(ONLY_ON_RABBITMQ.split(","))
    assert sum(run["verdict"]["sent"] for run in report["runs"]) > 0
    assert sum(run["verdict"]["lost"] for run in report["runs"]) == 0
    assert report["medians"]["machinery"].keys() >= COLUMNS_ON_RABBITMQ
    assert report["medians"]["bare"].keys() >= {"send_per_s", "threads_drain_per_s"}
    assert "| CPU of RabbitMQ, draining, µs " in table
    assert list((tmp_path / "temporary").iterdir()) == []
    assert working_in(tmp_path) == []


def test_an_interrupted_run_ends_all_that_it_started(redis_database: str, tmp_path: Path) -> None:
    running = start(redis_database, tmp_path, "--only", "drain,later,sqlite,distance")
    assert running.stderr is not None
    assert "drain" in running.stderr.readline()  # the next one lasts for seconds, and more follow
    running.send_signal(signal.SIGINT)
    running.communicate()
    assert running.returncode == 130
    assert list((tmp_path / "temporary").iterdir()) == []
    assert working_in(tmp_path) == []
