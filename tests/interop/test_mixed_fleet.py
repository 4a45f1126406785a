"""Go and Python workers on one queue of one Redis: many chords of both sides, and the race for the right to call back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import pytest

from machinery import Chord, TaskFailed, chord
from tests.interop.eventually import eventually
from tests.interop.gomachinery import GoMachinery, Wire, wire
from tests.interop.matrix import WAIT, Sides, int64, result_of, string, task
from tests.interop.redis_sides import both_sides
from tests.services.proxy import CuttingProxy

pytestmark = [pytest.mark.interop, pytest.mark.slow]

RANDOM = Random(1)  # noqa: S311 - sizes and places, the same in each run
CLIENTS = ("redigo", "goredis")
CHORDS = 50
"""Made by each side."""
SMALLEST, LARGEST = 20, 300
IN_TIME = 150.0
"""Seconds for all chords; it takes about ten."""


@pytest.fixture(params=[False, True], ids=["without the setting", "mixed_fleet"])
def mixed_fleet(request: pytest.FixtureRequest) -> bool:
    """Whether Python is told of Go's workers."""
    told: bool = request.param
    return told


@pytest.fixture
def fleet_sides(go_program: Path, redis_database: str, mixed_fleet: bool) -> Iterator[Sides]:
    """Both sides on a database of their own, so that Go's one mutex is free but for them."""
    with both_sides(go_program, "redigo", redis_database, mixed_fleet=mixed_fleet) as sides:
        yield sides


def clients_of(sides: Sides) -> list[GoMachinery]:
    """Go with each of its Redis clients."""
    return [replace(sides.go, client=client) for client in CLIENTS]


def now_and_later() -> datetime:
    """Groups that were idle since then are all."""
    return datetime.now(UTC) + timedelta(minutes=1)


# -- many chords of both sides -----------------------------------------------------------------------------------------


SIZES_FROM_PYTHON, SIZES_FROM_GO = [[RANDOM.randint(SMALLEST, LARGEST) for _ in range(CHORDS)] for _ in range(2)]


def made_by_python(size: int) -> Chord:
    return chord([task("join", f"{at}") for at in range(size)], task("join", "own"))


def made_by_go(size: int) -> Wire:
    members = [wire("join", string(f"{at}")) for at in range(size)]
    return {"chord": {"group": members, "callback": wire("join", string("own"))}}


def gathered(size: int) -> str:
    """What the callback of such a chord answers: all results, each once, in group order, after its own argument."""
    return "|".join(["own", *(f"{at}" for at in range(size))])


@pytest.mark.timeout(240)
def test_every_chord_of_either_side_gathers_all_and_calls_back_once(fleet_sides: Sides) -> None:
    server = fleet_sides.python.server
    from_python, from_go = SIZES_FROM_PYTHON, SIZES_FROM_GO
    with ExitStack() as fleet, ThreadPoolExecutor(1) as pool:
        go_workers = [fleet.enter_context(go.worker()) for go in clients_of(fleet_sides)]
        fleet.enter_context(fleet_sides.python.worker())
        until = monotonic() + IN_TIME
        sending = pool.submit(fleet_sides.go.send, *map(made_by_go, from_go))
        callbacks = [server.send_chord(made_by_python(size)).uuid for size in from_python]
        callbacks += [answer["callback"] for answer in sending.result()]
        results = [server.result(uuid).get(timeout=max(0.0, until - monotonic())) for uuid in callbacks]

    assert results == [gathered(size) for size in (*from_python, *from_go)]
    in_go = sum((worker.run_counts() for worker in go_workers), Counter[str]())
    in_python = Counter(run.signature.uuid for run in fleet_sides.python.runs_where(lambda _: True))
    runs = in_go + in_python
    assert {uuid: runs[uuid] for uuid in callbacks} == dict.fromkeys(callbacks, 1)
    assert len(runs) == len(callbacks) + sum(from_python) + sum(from_go)
    assert set(runs.values()) == {1}
    assert min(in_go.total(), in_python.total()) > len(callbacks)


# -- one chord, of which Go has run a part --------------------------------------------------------------------------------


def chord_of_which_go_ran_the_first(sides: Sides) -> Any:
    """The result of a Python chord whose first member a Go worker has run; the second waits in Python's queue."""
    for_go = f"{sides.go.queue}_go"
    first = task("join", "go", routing_key=for_go)
    with sides.go.on_queue(for_go).worker() as go_worker:
        sent = sides.python.server.send_chord(chord([first, task("join", "python")], task("join", "own")))
        go_worker.wait_for("done", first.uuid)
    return sent


def test_a_chord_of_which_go_ran_a_part_completes(fleet_sides: Sides) -> None:
    sent = chord_of_which_go_ran_the_first(fleet_sides)
    with fleet_sides.python.worker():
        assert sent.get(timeout=WAIT) == "own|go|python"
    assert len(fleet_sides.python.runs(sent.uuid)) == 1


def test_a_failure_in_go_is_told_once_the_members_before_it_have_ended(fleet_sides: Sides) -> None:
    for_go = f"{fleet_sides.go.queue}_go"
    failing, on_error = task("fail", "boom", routing_key=for_go), task("on_error", "own")
    callback = task("join", on_error=[on_error])
    sent = fleet_sides.python.server.send_chord(chord([task("hold"), failing], callback))
    with fleet_sides.go.on_queue(for_go).worker() as go_worker:
        go_worker.wait_for("done", failing.uuid)
    with fleet_sides.python.worker() as worker:
        worker.answer("end")
        assert result_of(fleet_sides, on_error).get(timeout=WAIT) == "boom|own"
    assert len(worker.runs(on_error.uuid)) == 1
    with pytest.raises(TaskFailed, match="boom"):
        sent.get(timeout=WAIT)


@pytest.mark.parametrize("mixed_fleet", [False], indirect=True)
def test_a_failure_in_go_fails_a_chord_of_go_when_python_finishes_a_member(fleet_sides: Sides) -> None:
    for_go = f"{fleet_sides.go.queue}_go"
    failing, on_error = wire("fail", string("boom"), RoutingKey=for_go), wire("on_error", string("own"))
    callback = wire("join", OnError=[on_error])
    with fleet_sides.go.on_queue(for_go).worker() as go_worker:
        fleet_sides.go.send({"chord": {"group": [failing, wire("noargs")], "callback": callback}})
        go_worker.wait_for("done", failing["UUID"])
    with fleet_sides.python.worker() as worker:
        assert fleet_sides.go.result(on_error["UUID"]).values == ("boom|own",)
        assert f"{failing['UUID']} of its group failed: boom" in fleet_sides.go.result(callback["UUID"]).error
    assert len(worker.runs(on_error["UUID"])) == 1


@pytest.mark.parametrize("mixed_fleet", [True], indirect=True)
def test_with_the_setting_nothing_is_waited_for(fleet_sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("machinery._worker._reviver.IDLE", 3600.0)  # nobody looks after chords that stand still
    sent = chord_of_which_go_ran_the_first(fleet_sides)
    with fleet_sides.python.worker():
        assert sent.get(timeout=WAIT) == "own|go|python"


@pytest.mark.parametrize("mixed_fleet", [False], indirect=True)
def test_a_chord_of_go_needs_no_setting(fleet_sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("machinery._worker._reviver.IDLE", 3600.0)
    for_go = f"{fleet_sides.go.queue}_go"
    first, callback = wire("join", string("go"), RoutingKey=for_go), wire("join", string("own"))
    with fleet_sides.go.on_queue(for_go).worker() as go_worker:
        fleet_sides.go.send({"chord": {"group": [first, wire("join", string("python"))], "callback": callback}})
        go_worker.wait_for("done", first["UUID"])
    with fleet_sides.python.worker():
        assert fleet_sides.go.result(callback["UUID"]).values == ("own|go|python",)


# -- who calls back -----------------------------------------------------------------------------------------------------

CONTESTED = 400


@pytest.mark.parametrize("go_client", CLIENTS)
@pytest.mark.parametrize("mixed_fleet", [False], indirect=True)
def test_go_and_python_never_both_get_the_right_to_call_back(fleet_sides: Sides, go_client: str) -> None:
    # That one side was done before the other began is what a busy machine may do once.
    assert any(both_met(fleet_sides, go_client) for _ in range(5))


def both_met(fleet_sides: Sides, go_client: str) -> bool:
    """Let both claim the same groups, of which each goes to one of them; whether both have got some."""
    backend = fleet_sides.python.server.backend
    chords: list[Wire] = [{"chord": {"group": [wire("noargs")], "callback": wire("noargs")}} for _ in range(CONTESTED)]
    groups = [answer["group"] for answer in fleet_sides.go.send(*chords)]
    in_another_order = RANDOM.sample(groups, CONTESTED)
    host, _, port = fleet_sides.go.backend.partition(":")
    with CuttingProxy(host, int(port)) as proxy, ThreadPoolExecutor(8) as pool:
        proxy.delay(0.001)  # so that Go takes as long over it as eight claimants who wait for its mutex
        go = replace(fleet_sides.go, client=go_client).by_way_of(proxy.port)
        triggering = pool.submit(go.trigger, *groups)
        eventually(lambda: backend.load_group(groups[0]).meta.chord_triggered)
        claims = pool.map(lambda group_uuid: backend.claim_chord(group_uuid, "python"), in_another_order)
        by_python = dict(zip(in_another_order, claims, strict=True))
        by_go = dict(zip(groups, triggering.result(), strict=True))

    assert {uuid: by_go[uuid] + by_python[uuid] for uuid in groups} == dict.fromkeys(groups, 1)
    return 0 < sum(by_go.values()) < CONTESTED


@pytest.mark.parametrize("mixed_fleet", [False], indirect=True)
def test_python_calls_nobody_back_where_go_has(fleet_sides: Sides) -> None:
    server = fleet_sides.python.server
    with fleet_sides.go.worker() as go_worker:
        sent = server.send_chord(chord([task("noargs"), task("noargs")], task("join", "own")))
        assert sent.get(timeout=WAIT) == "own|no arguments|no arguments"
    assert sent.members.group_uuid in server.backend.open_groups(now_and_later(), 9)

    with fleet_sides.python.worker():
        eventually(lambda: sent.members.group_uuid not in server.backend.open_groups(now_and_later(), 9))
    assert fleet_sides.python.runs(sent.uuid) == []
    assert go_worker.count_runs(sent.uuid) == 1


@pytest.mark.parametrize("mixed_fleet", [False], indirect=True)
def test_a_failure_that_go_found_and_kept_to_itself_is_pythons_to_tell_once(fleet_sides: Sides) -> None:
    failing, last = wire("fail", string("boom")), wire("retry_later", string("late"), int64(200))
    callback = wire("join")
    with fleet_sides.go.worker() as go_worker:
        (answer,) = fleet_sides.go.send({"chord": {"group": [failing, last], "callback": callback}})
        go_worker.wait_for("done", failing["UUID"])
        go_worker.wait_for("done", last["UUID"], 2)
    backend = fleet_sides.python.server.backend

    assert backend.load_group(answer["group"]).meta.chord_triggered
    assert backend.claim_chord(answer["group"], "one")
    assert not backend.claim_chord(answer["group"], "another")
    assert backend.claim_chord(answer["group"], "one")
