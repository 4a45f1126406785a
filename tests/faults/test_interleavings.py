"""Whatever a death interrupts, chains and chords end as they should, and what happens twice is excused by the death."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from machinery import Server, Signature, State, TaskFailed, TaskResult, TaskState, chain, chord, group
from machinery._worker import _reviver
from machinery.memory import MemoryBackend, MemoryLock
from machinery.wire import decode_signature
from tests.faults.mortal import Blow, Call, Fate, Mortal, Scene
from tests.faults.turns import Turns


@dataclass(frozen=True)
class Play:
    """What is sent, what it comes to, and the calls that this takes."""

    send: Callable[[Server], Any]
    outcome: object
    """``None``: its failure is raised."""
    members: list[Call]
    following: list[Call] = field(default_factory=list)

    @property
    def calls(self) -> set[Call]:
        return {*self.members, *self.following}


def send_chain(server: Server) -> Any:
    return server.send_chain(chain(Signature("add", [1, 1]), Signature("add", [5, 5]), Signature("multiply", [4])))


def send_group(server: Server) -> Any:
    return server.send_group(group(Signature("add", [number, number]) for number in (1, 2, 3)))


def send_chord(server: Server) -> Any:
    callback = Signature("gather", ["sums"], on_success=[Signature("gather", ["then"])])
    return server.send_chord(chord([Signature("add", [number, number]) for number in (1, 2, 3)], callback))


def send_failing_chord(server: Server) -> Any:
    members = [Signature("add", [1, 1]), Signature("break_down", ["it"]), Signature("add", [3, 3])]
    return server.send_chord(chord(members, Signature("gather", on_error=[Signature("gather", ["mourned"])])))


def send_faltering_chord(server: Server) -> Any:
    members = [Signature("falter", [1], retry_count=1), Signature("add", [2, 2])]
    return server.send_chord(chord(members, Signature("gather", ["sums"])))


SEEDS = 100
"""Orders in which the calls of three workers are played, in memory; elsewhere half of them."""
UNLUCKY = [282, 353, 505, 598]
"""Orders in which a callback once began while it was sent again, and then began a second time."""

ADDED: list[Call] = [("add", (1, 1)), ("add", (2, 2)), ("add", (3, 3))]
FAILING: list[Call] = [("add", (1, 1)), ("break_down", ("it",)), ("add", (3, 3))]

PLAYS = {
    "chain": Play(send_chain, 48, [("add", (1, 1)), ("add", (5, 5, 2)), ("multiply", (4, 12))]),
    "group": Play(send_group, [2, 4, 6], ADDED),
    "chord": Play(send_chord, "sums 2 4 6", ADDED, [("gather", ("sums", 2, 4, 6)), ("gather", ("then", "sums 2 4 6"))]),
    "failing": Play(send_failing_chord, None, FAILING, [("gather", ("it is broken", "mourned"))]),
    "faltering": Play(
        send_faltering_chord,
        "sums 1 4",
        [("falter", (1,)), ("falter", (1, 2)), ("add", (2, 2))],
        [("gather", ("sums", 1, 4))],
    ),
}


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=pytest.mark.slow)])
def services(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    if request.param == "memory":
        url = "memory://"
    elif request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'tasks.db'}"
    else:
        url = request.getfixturevalue("redis_database")
    with Server.from_url(url) as server:
        yield server


@pytest.fixture
def memory() -> Iterator[Server]:
    with Server.from_url("memory://") as server:
        yield server


@pytest.fixture
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chords are looked after at once."""
    monkeypatch.setattr(_reviver, "IDLE", 0.0)


@pytest.mark.parametrize(("batch", "next_batch"), [(1, 1), (3, 1)])
@pytest.mark.parametrize("name", PLAYS)
def test_a_worker_may_die_at_any_call(services: Server, name: str, batch: int, next_batch: int) -> None:
    for blow in (Blow.DIES_BEFORE, Blow.DIES_AFTER):
        for at in count(1):
            fate = Fate(at, blow)
            scene = Scene(services)
            result = PLAYS[name].send(scene.sender)
            if Mortal(scene, fate, batch).work():
                assert at > 5
                break
            assert Mortal(scene, Fate(), next_batch).work()
            play_to_the_end(scene, PLAYS[name], result, fate)


@pytest.mark.parametrize(
    ("name", "batch"),
    [
        *[("chain", 1), ("chain", 3), ("chord", 3), ("failing", 3)],
        pytest.param("chord", 1, marks=pytest.mark.thorough),
        pytest.param("failing", 1, marks=pytest.mark.thorough),
    ],
)
def test_so_may_the_one_that_comes_after_it(memory: Server, name: str, batch: int) -> None:
    """A death after a call leaves the services as one before the next call does; that differs only where a task has run."""
    for first in count(1):
        for second in count(1):
            fates = Fate(first), Fate(second)
            scene = Scene(memory)
            result = PLAYS[name].send(scene.sender)
            lives = [Mortal(scene, fate, batch).work() for fate in fates]
            if lives[0]:
                assert first > 5
                return
            play_to_the_end(scene, PLAYS[name], result, *fates)
            if lives[1]:
                break


@pytest.mark.parametrize("name", ["chain", "chord", "failing"])
def test_workers_may_die_in_any_order_of_their_calls(services: Server, name: str) -> None:
    for seed in range(SEEDS if isinstance(services.backend, MemoryBackend) else SEEDS // 2):
        play_at_random(services, PLAYS[name], seed, [Blow.DIES_BEFORE, Blow.DIES_AFTER])


@pytest.mark.parametrize("name", ["chord", "failing"])
def test_workers_may_be_taken_for_dead_and_go_on(memory: Server, name: str) -> None:
    for seed in range(SEEDS):
        play_at_random(memory, PLAYS[name], seed, list(Blow))


@pytest.mark.parametrize("blows", [[Blow.DIES_BEFORE, Blow.DIES_AFTER], list(Blow)], ids=["deaths", "all"])
def test_a_callback_that_begins_while_it_is_sent_again_begins_once(memory: Server, blows: list[Blow]) -> None:
    for seed in UNLUCKY:
        play_at_random(memory, PLAYS["chord"], seed, blows)


@pytest.mark.parametrize("blow", [Blow.DIES_BEFORE, Blow.DIES_AFTER])
@pytest.mark.parametrize("name", ["chord", "failing"])
def test_who_looks_after_a_chord_may_die_at_any_call(services: Server, name: str, blow: Blow, in_no_time: None) -> None:
    for at in count(1):
        fate = Fate(at, blow)
        scene = Scene(services)
        result = PLAYS[name].send(scene.sender)
        let_go_finish(services, 3)
        if Mortal(scene, fate, 1, looks=True, lock=MemoryLock()).work():
            assert at > 5
            break
        play_to_the_end(scene, PLAYS[name], result, fate, by_go=3)


@pytest.mark.parametrize("name", ["chord", "failing"])
def test_who_looks_after_a_chord_and_who_runs_its_members_do_not_both_end_it(
    services: Server, name: str, in_no_time: None
) -> None:
    for seed in range(SEEDS if isinstance(services.backend, MemoryBackend) else SEEDS // 2):
        play_at_random(services, PLAYS[name], seed, [Blow.DIES_BEFORE, Blow.DIES_AFTER], by_go=1)


def play_at_random(services: Server, play: Play, seed: int, blows: list[Blow], *, by_go: int = 0) -> None:
    """Three workers, their calls in an order of their own, and something may happen to each."""
    lot = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    turns = Turns(seed)
    scene = Scene(services)
    result = play.send(scene.sender)
    let_go_finish(services, by_go)
    fates = [Fate(lot.randrange(40), lot.choice(blows), turns.take) for _ in range(3)]
    turns.play([Mortal(scene, fate, 1, looks=by_go > 0).work for fate in fates])
    play_to_the_end(scene, play, result, *fates, by_go=by_go)


def let_go_finish(services: Server, count: int) -> None:
    """As a worker of Go's: the records of some members are saved, and nothing is counted."""
    consumer = services.broker.consumer(services.config.default_queue, "go")
    for delivery in consumer.receive(count, 0) if count else ():
        signature = decode_signature(delivery.body)
        if signature.name == "break_down":
            record = TaskState(signature.uuid, "", State.FAILURE, None, f"{signature.args[0].value} is broken")
        else:
            total = sum(arg.value for arg in signature.args)
            record = TaskState(signature.uuid, "", State.SUCCESS, (TaskResult("int64", total),))
        services.backend.save([record])
        consumer.ack([delivery])
    consumer.close()


def play_to_the_end(scene: Scene, play: Play, result: Any, *fates: Fate, by_go: int = 0) -> None:
    """A last worker ends what is left, a good while later, and then there is nothing left."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_reviver, "OVERDUE", 0.0)
            patch.setattr(_reviver, "IDLE", 0.0)
            assert Mortal(scene, Fate(), 3, looks=True, lock=MemoryLock()).work()
        check_the_end(scene, play, result, by_go)
    except BaseException as error:
        for fate in fates:
            error.add_note(repr(fate))
        raise


def check_the_end(scene: Scene, play: Play, result: Any, by_go: int) -> None:
    if play.outcome is None:
        with pytest.raises(TaskFailed, match="it is broken"):
            result.get(timeout=20)
    else:
        assert result.get(timeout=20) == play.outcome
    scene.ledger.check(play.calls - set(play.members[:by_go]))
    services = scene.services
    assert [*services.pending_tasks(), *services.delayed_tasks(), *services.dead_tasks()] == []
    assert services.backend.open_groups(datetime.now(UTC) + timedelta(minutes=1), 10) == []
