"""Go Machinery and this project share periodic tasks on one Redis: the same lock, and one firing for each tick."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import time_ns
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from redis import Redis

from machinery import Server, Signature
from tests.interop.eventually import eventually
from tests.interop.gomachinery import GoMachinery, GoWorker
from tests.interop.redis_sides import DATABASE, both_sides

pytestmark = pytest.mark.interop

EVERY = "@every 1s"
A_SECOND = 1_000_000_000
"""In nanoseconds."""
TICKS = 4
LATE = 5
"""Seconds by which a busy machine may hold up a firing."""


@dataclass(frozen=True, slots=True)
class Firing:
    """What was sent at a tick: by which side, and in which second."""

    side: str
    second: int


@dataclass(frozen=True, slots=True)
class Shared:
    """A periodic task under one name on both sides. Nobody works: what is fired piles up in the queue."""

    go: GoMachinery
    server: Server
    redis: Redis
    name: str
    kind: str

    @property
    def lock_key(self) -> str:
        return f"machinery_lock_{self.go.program.name}{self.name}{EVERY}"

    @contextmanager
    def fired_by_go(self) -> Iterator[None]:
        """Go's server, which begins before the block and has ended after it."""
        command = self.go._command("periodic", EVERY, self.name)
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        process.stdin.write(json.dumps(WIRE[self.kind]) + "\n")
        process.stdin.flush()
        worker = GoWorker(process)
        try:
            worker.wait_for("ready")
            yield
        finally:
            worker.stop()

    @contextmanager
    def fired_by_python(self) -> Iterator[None]:
        """Python's, likewise."""
        REGISTERING[self.kind](self.server, self.name)
        self.server.start_scheduler()
        try:
            yield
        finally:
            self.server.remove_periodic(self.name)

    def firings(self) -> list[Firing]:
        """All so far, by time."""
        found: dict[str, Firing] = {}
        for sent in self.server.pending_tasks():
            created = self.server.result(sent.uuid).task_state().created_at
            firing = Firing(sent.args[0].value, int(created.timestamp()))
            assert found.setdefault(sent.group_uuid or sent.uuid, firing).side == firing.side
        return sorted(found.values(), key=lambda firing: firing.second)

    def await_firings(self, count: int = TICKS, side: str = "") -> None:
        """Until there are so many more (by one side), and three of all that follow each other second by second."""
        enough = self._count(side) + count
        eventually(lambda: self._count(side) >= enough and self._has_row(min(3, count)))

    def _count(self, side: str) -> int:
        return sum(side in {"", firing.side} for firing in self.firings())

    def _has_row(self, length: int) -> bool:
        seconds = {firing.second for firing in self.firings()}
        return any(seconds.issuperset(range(second, second + length)) for second in seconds)

    def assert_fired_once_a_second(self) -> None:
        """Each tick at most once: what was held up, so that it came in a later one's second, is missing in its own."""
        seconds = [firing.second for firing in self.firings()]
        first = seconds[0] - (seconds.count(seconds[0]) - 1)
        assert first >= seconds[0] - 1, seconds
        ticks: list[int] = []
        for second in seconds:
            ticks.append(max(ticks[-1] + 1 if ticks else first, second - LATE))
            assert ticks[-1] <= second, seconds


def join(side: str) -> dict[str, Any]:
    return {"Name": "join", "Args": [{"Type": "string", "Value": side}]}


WIRE: dict[str, dict[str, Any]] = {
    "task": join("go"),
    "chain": {"Chain": [join("go"), join("go")]},
    "group": {"Group": [join("go"), join("go")]},
    "chord": {"Chord": {"Group": [join("go"), join("go")], "Callback": join("go")}},
}

OURS = Signature("join", ["python"])
REGISTERING: dict[str, Callable[[Server, str], None]] = {
    "task": lambda server, name: server.register_periodic_task(EVERY, name, OURS),
    "chain": lambda server, name: server.register_periodic_chain(EVERY, name, OURS, OURS),
    "group": lambda server, name: server.register_periodic_group(EVERY, name, OURS, OURS),
    "chord": lambda server, name: server.register_periodic_chord(EVERY, name, OURS, OURS, OURS),
}


@pytest.fixture
def kind() -> str:
    """What is fired; a test may ask for another."""
    return "task"


@pytest.fixture
def shared(kind: str, go_program: Path, redis_url: str) -> Iterator[Shared]:
    url = urlsplit(redis_url)
    database = f"redis://{url.netloc}/{url.path.strip('/') or DATABASE}"
    with (
        both_sides(go_program, "redigo", redis_url, program_name=go_program.name) as sides,
        Redis.from_url(database, decode_responses=True) as redis,
    ):
        yield Shared(sides.go, sides.python.server, redis, f"periodic_{uuid4()}", kind)


def assert_held_until_the_next_second(shared: Shared) -> None:
    """Somebody has Go's lock, with Go's value, and nobody has another one for this name."""

    def look() -> tuple[int, str, int, int] | None:
        before, value, after = time_ns(), shared.redis.get(shared.lock_key), time_ns()
        left = shared.redis.pttl(shared.lock_key)
        return (before, str(value), after, int(left)) if value and left > 0 else None

    before, value, after, left = eventually(look) or (0, "", 0, 0)
    assert value == str(int(value))
    assert (int(value) + 1) % A_SECOND == 0
    assert before <= int(value) < after + 2 * A_SECOND
    assert left <= 1000
    assert eventually(lambda: shared.redis.keys(f"machinery_lock_*{shared.name}*")) == [shared.lock_key]


def assert_python_keeps_the_ticks_it_fired(shared: Shared) -> None:
    """Under keys of its own, which Go does not know."""
    keys = map(str, shared.redis.keys(f"machinery:tick:*:{shared.name}:*"))
    kept = sorted(int(datetime.fromisoformat(key.partition(f"{EVERY}:")[2]).timestamp()) for key in keys)
    fired = [firing.second for firing in shared.firings() if firing.side == "python"]
    assert len(kept) == len(fired)
    assert [(tick, second) for tick, second in zip(kept, fired, strict=True) if not tick <= second <= tick + LATE] == []


@pytest.mark.parametrize("side", ["go", "python"])
def test_each_alone_fires_each_tick_once_under_gos_lock(shared: Shared, side: str) -> None:
    with shared.fired_by_go() if side == "go" else shared.fired_by_python():
        shared.await_firings(2)
        assert_held_until_the_next_second(shared)
        shared.await_firings(TICKS)
    shared.assert_fired_once_a_second()
    assert {firing.side for firing in shared.firings()} == {side}
    assert_python_keeps_the_ticks_it_fired(shared)


@pytest.mark.parametrize("kind", ["task", "chain", "group", "chord"])
def test_both_together_fire_each_tick_once(shared: Shared) -> None:
    with shared.fired_by_go(), shared.fired_by_python():
        shared.await_firings(2)
        assert_held_until_the_next_second(shared)
        shared.await_firings(TICKS)
    shared.assert_fired_once_a_second()
    assert_python_keeps_the_ticks_it_fired(shared)


def test_python_goes_on_when_go_has_ended(shared: Shared) -> None:
    with shared.fired_by_python():
        with shared.fired_by_go():
            shared.await_firings(TICKS)
        shared.await_firings(2, "python")
    shared.assert_fired_once_a_second()


def test_go_goes_on_when_python_has_ended(shared: Shared) -> None:
    with shared.fired_by_go():
        with shared.fired_by_python():
            shared.await_firings(TICKS)
        shared.await_firings(2, "go")
    shared.assert_fired_once_a_second()
