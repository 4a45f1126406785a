"""Every example, run as its reader would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from machinery.memory import MemoryBackend, MemoryBroker, MemoryLock

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=EXAMPLES,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_example_has_a_test() -> None:
    tested = set(re.findall(r'"(\w+\.py)"', Path(__file__).read_text("utf-8")))
    assert {path.name for path in EXAMPLES.glob("*.py")} <= tested | {"demo_tasks.py"}  # which demo.py runs


SHOWN = {
    "hello.py": "Hello, world!\n",
    "chain.py": """\
multiply(4, add(5, 5, add(1, 1))) = 48
step by step: [2, 12, 48]
""",
    "group_and_chord.py": """\
add(1, 1) and add(5, 5) = [2, 10]
multiply(add(1, 1), add(5, 5)) = 20
failed at divide: division by zero
no product: division by zero
""",
    "periodic.py": """\
tick 1
tick 2
both rooms: 8
""",
    "async_task.py": """\
one page: 144
100 pages, the last of them: 9801
all of them: 328350
""",
}


@pytest.mark.parametrize("example", SHOWN)
def test_an_example_that_needs_core_alone_shows_its_results(example: str) -> None:
    done = run(example)
    assert (done.stdout, done.stderr, done.returncode) == (SHOWN[example], "", 0)


class TestTheDemo:
    def test_it_shows_each_result_and_leaves_nothing_behind(self, tmp_path: Path) -> None:
        done = run("demo.py", TMPDIR=str(tmp_path))

        assert (done.returncode, done.stderr) == (0, "")
        rows = [re.split(" {2,}", line.strip(), maxsplit=3) for line in done.stdout.splitlines()]
        shown = sorted((row[1], row[3]) for row in rows if re.fullmatch(r"[\d.]+ s", row[0]))
        assert shown == [
            ("a chain", "48"),
            ("a chord", "20"),
            ("a group", "[2, 10]"),
            ("add(2, 3)", "5"),
            ("add(20, 22)", "42"),
            ("divide(1, 0)", "failed: division by zero"),
            ("flaky()", "'worked at attempt 3'"),
            ("nap(0.2)", "'slept for 0.2 s'"),
        ]
        assert list(tmp_path.iterdir()) == []
        pids = {int(pid) for pid in re.findall(r"^process (\d+): ", done.stdout, re.MULTILINE)}
        (worker,) = pids
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)

        ticks = [row for row in rows if row[1:2] == ["tick()"]]
        assert [row[3] for row in ticks] == [f"run by process {worker}"] * 2
        assert all(re.fullmatch(r"\d\d:\d\d:\d\d", row[0]) for row in ticks)

    def test_what_goes_wrong_shows_in_its_exit_status(self, tmp_path: Path) -> None:
        done = run("demo.py", TMPDIR=str(tmp_path), MACHINERY_MAX_CRASHES="a few")

        assert done.returncode == 1
        assert "The demo went wrong. The worker's log:" in done.stderr
        assert list(tmp_path.iterdir()) == []


REDIS_TASKS = """\
a task                      2
a list of whole numbers     6
a list of other numbers     4.25
a list of texts             'foobar'
several results             ('foo', 'bar')
an async def task           'done'
a task that fails           failed: oops
a task with an ETA          4
a task with a countdown     6
a task that is retried      'worked at attempt 3'
a task that asks for later  'ready at attempt 2'
five by name, in one batch  [0, 2, 4, 6, 8]
a chain                     48
a group                     [2, 10]
a chord                     20
a task with on_success      3
  what it set off           103
a task with on_error        failed: oops
  what it set off           'in the example: oops'
"""


@pytest.mark.parametrize("service", ["redis", "sqlite"])
def test_redis_tasks_sends_what_its_worker_runs(service: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("redis_database") if service == "redis" else f"sqlite:///{tmp_path}/tasks.db"
    environment = {**os.environ, "REDIS_URL": url}
    with (
        (tmp_path / "worker.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "redis_tasks.py", "worker"], cwd=EXAMPLES, env=environment, stderr=log
        ) as worker,
    ):
        try:
            sent = run("redis_tasks.py", "send", REDIS_URL=url)
        finally:
            worker.terminate()

    assert (sent.stdout, sent.stderr) == (REDIS_TASKS, "")
    assert worker.returncode == 0
    assert "ERROR example: panic_task: RuntimeError('oops')" in (tmp_path / "worker.log").read_text("utf-8")


AMQP_TASKS = """\
a task                      2
an urgent task              4
a task of another queue     'the report on sales'
a task with a countdown     6
a task that is retried      'worked at attempt 3'
a chain                     48
a group                     [2, 10]
a chord                     20
a task that is refused      failed: this cannot be read
"""


@pytest.mark.parametrize("results", ["rabbitmq", "redis"])
def test_amqp_tasks_sends_what_its_worker_runs(
    results: str, amqp_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    where = {
        "AMQP_URL": amqp_url,
        "REDIS_URL": request.getfixturevalue("redis_database") if results == "redis" else "",
        "EXAMPLE_QUEUE": f"example-{uuid4().hex}",
    }
    with (
        (tmp_path / "worker.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "amqp_tasks.py", "worker"], cwd=EXAMPLES, env={**os.environ, **where}, stderr=log
        ) as worker,
    ):
        try:
            sent = run("amqp_tasks.py", "send", **where)
        finally:
            worker.terminate()
    dead = run("amqp_tasks.py", "dead", **where)

    assert (sent.stdout, worker.returncode) == (AMQP_TASKS, 0), (tmp_path / "worker.log").read_text("utf-8")
    assert re.fullmatch(r"\w+: .*this cannot be read.*\nsent again: 1\n", dead.stdout)


class TestTheInjectedApplication:
    def test_it_runs_on_its_own_redis_client(self, redis_database: str) -> None:
        done = run("injected.py", REDIS_URL=redis_database)
        assert (done.stdout, done.stderr, done.returncode) == ("11\n", "", 0)

    def test_it_runs_on_memory_in_a_test(self) -> None:
        injected = pytest.importorskip("examples.injected", reason="needs the redis package", exc_type=ImportError)
        broker, backend, lock = MemoryBroker(), MemoryBackend(), MemoryLock()
        orders = injected.Orders({"tea": 3}, broker, backend, lock)

        result = orders.price.send(["tea", "tea"])
        assert [message.queue for message in broker.pending("orders", 10)] == ["orders"]
        with orders.server.new_worker("test", 1):
            assert result.get(timeout=15) == 6

        assert orders.server.lock is lock
        (state,) = backend.load([result.uuid])
        assert state is not None
        assert state.is_success
