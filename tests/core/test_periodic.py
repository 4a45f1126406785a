"""Periodic tasks, chains, groups and chords as an application registers them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from machinery import Config, Server, Signature, TaskContext, chain, chord, group
from machinery.abc import Message
from machinery.errors import ConfigError
from machinery.memory import MemoryBackend, MemoryBroker, MemoryLock, MemoryLocks
from machinery.sqlite import SqliteBroker, SqliteLock, SqliteOptions
from tests.core.stations import NOON, WatchedClock
from tests.interop.eventually import eventually

pytestmark = pytest.mark.usefixtures("long_farewell")

MINUTELY = "* * * * *"
A_MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock() -> WatchedClock:
    """By which the server of the test fires."""
    return WatchedClock()


@pytest.fixture
def locks(clock: WatchedClock) -> MemoryLocks:
    return MemoryLocks(clock)


@pytest.fixture
def server(clock: WatchedClock, locks: MemoryLocks) -> Iterator[Server]:
    made = Server(Config(), MemoryBroker(), MemoryBackend(), MemoryLock(locks))
    made.scheduler._clock = clock
    yield made
    made.close()
    eventually(lambda: made.scheduler._thread is None)


@pytest.fixture
def tick(server: Server, clock: WatchedClock) -> Callable[[], list[Signature]]:
    """Lets a minute pass, and answers what was sent at its end."""

    def pass_a_minute() -> list[Signature]:
        server.start_scheduler()
        clock.advance(A_MINUTE)
        clock.await_look()
        found = server.pending_tasks()
        server.broker.purge(server.config.default_queue)
        return found

    return pass_a_minute


def names(signatures: list[Signature]) -> list[str]:
    return sorted(signature.name for signature in signatures)


def uuids(signature: Signature | None) -> list[str]:
    """All ids in a signature, however deep."""
    if signature is None:
        return []
    nested = (*signature.on_success, *signature.on_error, signature.chord_callback)
    return [signature.uuid, *(uuid for each in nested for uuid in uuids(each))]


def group_sizes(signatures: list[Signature]) -> Counter[str]:
    return Counter(signature.group_uuid for signature in signatures)


# ------------------------------------------------------------------------------------------------------- registering


def test_a_periodic_task_is_sent_at_each_tick(server: Server, tick: Callable[[], list[Signature]]) -> None:
    server.register_periodic_task(MINUTELY, "report", Signature("report", [7, "x"], routing_key=""))
    for _ in range(3):
        (sent,) = tick()
        assert sent.name == "report"
        assert [arg.value for arg in sent.args] == [7, "x"]
        assert server.result(sent.uuid).task_state().task_name == "report"


@pytest.mark.parametrize("given", ["signatures", "a list of them", "a chain"])
def test_a_periodic_chain_is_made_of_signatures_or_a_chain(
    server: Server, tick: Callable[[], list[Signature]], given: str
) -> None:
    links = [Signature("first"), Signature("second"), Signature("third")]
    arguments: dict[str, list[Any]] = {"signatures": links, "a list of them": [links], "a chain": [chain(*links)]}
    server.register_periodic_chain(MINUTELY, "chain", *arguments[given])
    (first,) = tick()
    (second,) = first.on_success
    (third,) = second.on_success
    assert [first.name, second.name, third.name] == ["first", "second", "third"]


@pytest.mark.parametrize("concurrency", [[], [0], [2]], ids=["left out", "0", "2"])
@pytest.mark.parametrize("given", ["signatures", "a list of them", "a group"])
def test_a_periodic_group_is_made_of_signatures_or_a_group_and_may_have_a_send_concurrency_before_them(
    server: Server, tick: Callable[[], list[Signature]], given: str, concurrency: list[int]
) -> None:
    members = [Signature("a"), Signature("b"), Signature("c")]
    arguments: dict[str, list[Any]] = {"signatures": members, "a list of them": [members], "a group": [group(*members)]}
    server.register_periodic_group(MINUTELY, "group", *concurrency, *arguments[given])
    sent = tick()
    assert names(sent) == ["a", "b", "c"]
    assert list(group_sizes(sent).values()) == [3]
    assert {signature.group_task_count for signature in sent} == {3}


@pytest.mark.parametrize("concurrency", [[], [0], [2]], ids=["left out", "0", "2"])
@pytest.mark.parametrize("given", ["signatures", "a callback and a list", "a callback and a group", "a chord"])
def test_a_periodic_chord_is_made_of_a_callback_and_signatures_or_a_chord_and_may_have_a_send_concurrency(
    server: Server, tick: Callable[[], list[Signature]], given: str, concurrency: list[int]
) -> None:
    callback, members = Signature("total"), [Signature("a"), Signature("b"), Signature("c")]
    arguments: dict[str, list[Any]] = {
        "signatures": [callback, *members],
        "a callback and a list": [callback, members],
        "a callback and a group": [callback, group(*members)],
        "a chord": [chord(members, callback)],
    }
    server.register_task("total", lambda *_: None)
    server.register_periodic_chord(MINUTELY, "chord", *concurrency, *arguments[given])
    sent = tick()
    assert names(sent) == ["a", "b", "c"]
    assert list(group_sizes(sent).values()) == [3]
    assert {signature.chord_callback.name for signature in sent if signature.chord_callback} == {"total"}


def test_the_send_concurrency_is_that_of_sending(server: Server, tick: Callable[[], list[Signature]]) -> None:
    batches: list[int] = []

    class Counting(MemoryBroker):
        def publish(self, messages: Sequence[Message]) -> None:
            batches.append(len(messages))
            super().publish(messages)

    server.sender._broker = Counting()
    server.register_periodic_group(MINUTELY, "group", 2, *[Signature("a")] * 6)
    tick()
    assert batches == [3, 3]


@pytest.mark.parametrize("kind", ["task", "chain", "group", "chord"])
def test_everything_has_fresh_ids_at_each_tick_even_where_it_was_given_some(
    server: Server, tick: Callable[[], list[Signature]], kind: str
) -> None:
    def given(number: int) -> Signature:
        deep = Signature("deep", uuid=f"given-{number}-deep")
        after = Signature("after", uuid=f"given-{number}-after", on_success=[deep], on_error=[deep])
        return Signature("task", uuid=f"given-{number}", on_success=[after], on_error=[after])

    if kind == "task":
        server.register_periodic_task(MINUTELY, "it", given(1))
    elif kind == "chain":
        server.register_periodic_chain(MINUTELY, "it", given(1), given(2))
    elif kind == "group":
        server.register_periodic_group(MINUTELY, "it", given(1), given(2))
    else:
        server.register_periodic_chord(MINUTELY, "it", given(3), given(1), given(2))
    seen: set[str] = set()
    for _ in range(3):
        sent = tick()
        assert sent
        here = {uuid for signature in sent for uuid in [*uuids(signature), signature.group_uuid] if uuid}
        assert not any(uuid.startswith("given") for uuid in here)
        assert len(here) == {"task": 1, "chain": 2, "group": 3, "chord": 4}[kind]
        assert not here & seen
        seen |= here


def test_what_a_periodic_task_sets_off_has_fresh_ids_too(server: Server, clock: WatchedClock) -> None:
    after: list[str] = []

    @server.task
    def first() -> int:
        return 1

    @server.task
    def second(context: TaskContext, number: int) -> None:
        after.append(context.uuid)

    server.register_periodic_task(
        MINUTELY, "first", Signature("first", uuid="mine", on_success=[Signature("second", uuid="yours")])
    )
    with server.new_worker("worker", 2):
        for _ in range(3):
            clock.advance(A_MINUTE)
            clock.await_look()
        eventually(lambda: len(after) == 3)
    assert len({"mine", "yours", *after}) == 5


def test_a_name_is_taken_by_any_kind_until_it_is_removed(server: Server, tick: Callable[[], list[Signature]]) -> None:
    server.register_periodic_task("@yearly", "other", Signature("other"))
    server.register_periodic_task(MINUTELY, "it", Signature("a"))
    with pytest.raises(ConfigError) as caught:
        server.register_periodic_chain("@daily", "it", Signature("b"))
    assert str(caught.value) == (
        "a periodic task 'it' is registered already; remove_periodic('it') first, or name it otherwise"
    )
    assert names(tick()) == ["a"]
    assert server.remove_periodic("it") is True
    assert tick() == []
    assert server.remove_periodic("it") is False
    server.register_periodic_chain(MINUTELY, "it", Signature("b"))
    assert names(tick()) == ["b"]


# -------------------------------------------------------------------------------------------------- who fires, and when


def test_registering_and_importing_fire_nothing(
    site_packages: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "periodic_application.py").write_text(
        "from machinery import Server, Signature\n"
        "server = Server.from_url('memory://')\n"
        "server.register_periodic_task('@every 1s', 'often', Signature('often'), missed='once')\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import periodic_application  # type: ignore[import-not-found]  # noqa: PLC0415

    server: Server = periodic_application.server
    assert server.scheduler._thread is None
    assert [thread.name for thread in threading.enumerate() if "scheduler" in thread.name] == []
    assert server.pending_tasks() == []
    server.close()


def test_a_worker_fires_while_it_is_there(server: Server, clock: WatchedClock) -> None:
    runs: list[str] = []
    server.register_task("report", lambda: runs.append("report"))
    server.register_periodic_task(MINUTELY, "report", Signature("report"))
    clock.advance(A_MINUTE)
    with server.new_worker("worker", 2):
        clock.await_look()
        assert runs == []
        clock.advance(A_MINUTE)
        eventually(lambda: runs == ["report"])
    assert server.scheduler._thread is None
    clock.advance(A_MINUTE)
    assert server.pending_tasks() == []


def test_several_workers_and_a_scheduler_of_one_server_fire_once(server: Server, clock: WatchedClock) -> None:
    sent: list[str] = []
    server.set_pre_task_handler(lambda signature: sent.append(signature.name))
    server.register_task("report", lambda: None)
    server.register_periodic_task(MINUTELY, "report", Signature("report"))
    server.start_scheduler()
    with server.new_worker("a", 1):
        with server.new_worker("b", 1):
            clock.advance(A_MINUTE)
            clock.await_look()
            assert len(sent) == 1
        clock.advance(A_MINUTE)
        clock.await_look()
        assert len(sent) == 2
    clock.advance(A_MINUTE)
    clock.await_look()
    assert len(sent) == 3


def test_a_scheduler_fires_without_a_worker_until_the_server_is_closed(server: Server, clock: WatchedClock) -> None:
    sent: list[str] = []
    server.set_pre_task_handler(lambda signature: sent.append(signature.name))
    server.register_periodic_task(MINUTELY, "report", Signature("report"))
    server.start_scheduler()
    server.start_scheduler()  # is the same as once
    clock.advance(A_MINUTE)
    clock.await_look()
    assert sent == ["report"]
    server.close()
    assert server.scheduler._thread is None
    clock.advance(A_MINUTE)
    assert sent == ["report"]
    server.close()


def test_of_two_servers_one_fires(server: Server, clock: WatchedClock, locks: MemoryLocks) -> None:
    other = Server(Config(), server.broker, server.backend, MemoryLock(locks))
    other.scheduler._clock = WatchedClock(NOON)
    for each in (server, other):
        each.register_periodic_task(MINUTELY, "report", Signature("report"))
        each.start_scheduler()
    for number in (1, 2, 3):
        clock.advance(A_MINUTE)
        clock.await_look()
        other.scheduler._clock.advance(A_MINUTE)
        other.scheduler._clock.await_look()
        assert len(server.pending_tasks()) == number
    other.close()


def test_missed_ticks_are_made_up_for_where_that_is_asked_for(
    server: Server, clock: WatchedClock, tick: Callable[[], list[Signature]]
) -> None:
    clock.advance(90)
    server.register_periodic_task("0 6 * * *", "skip", Signature("skip"))
    server.register_periodic_task("0 6 * * *", "once", Signature("once"), missed="once")
    server.register_periodic_chain("0 6 * * *", "chain", Signature("chain"), missed="once")
    server.register_periodic_group("0 6 * * *", "group", Signature("group"), missed="once")
    server.register_periodic_chord("0 6 * * *", "chord", Signature("end"), Signature("member"), missed="once")
    assert names(tick()) == ["chain", "group", "member", "once"]


# ------------------------------------------------------------------------------------------------- locks and programs


@pytest.mark.parametrize(
    ("configured", "argv", "program"),
    [
        ("worker", ["/usr/bin/other"], "worker"),
        ("", ["/usr/bin/worker"], "worker"),
        ("", ["jobs/app.py"], "app.py"),
        ("", [""], "python"),
    ],
)
def test_the_program_is_the_one_configured_or_the_one_that_runs(
    clock: WatchedClock,
    locks: MemoryLocks,
    monkeypatch: pytest.MonkeyPatch,
    configured: str,
    argv: list[str],
    program: str,
) -> None:
    monkeypatch.setattr("sys.argv", argv)
    made = Server(
        Config(program_name=configured, default_queue="q"), MemoryBroker(), MemoryBackend(), MemoryLock(locks)
    )
    made.scheduler._clock = clock
    made.register_periodic_task(MINUTELY, "pname", Signature("s"))
    made.start_scheduler()
    clock.advance(A_MINUTE)
    clock.await_look()
    made.close()
    assert list(locks.held) == [
        f"machinery_lock_{program}pname* * * * *",
        "machinery:tick:q:pname:* * * * *:2024-03-01T12:01:00+00:00",
    ]


def test_a_lock_that_only_this_process_has_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = SqliteOptions(path=str(tmp_path / "tasks.db"))
    server = Server(Config(), SqliteBroker(options), MemoryBackend(), MemoryLock())
    assert caplog.messages == []
    server.register_periodic_task(MINUTELY, "a", Signature("s"))
    server.register_periodic_chain(MINUTELY, "b", Signature("s"))
    (message,) = caplog.messages
    assert message == (
        "periodic tasks are fired by each process on its own, as this server's lock is in-process; give it one that all share, "
        "such as lock='redis://localhost:6379'"
    )
    server.close()
    server.broker.close()


@pytest.mark.parametrize("shared", [False, True], ids=["all in memory", "a lock that all share"])
def test_a_lock_that_everybody_has_is_not_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, shared: bool
) -> None:
    options = SqliteOptions(path=str(tmp_path / "tasks.db"))
    broker = SqliteBroker(options) if shared else MemoryBroker()
    lock = SqliteLock(options) if shared else MemoryLock()
    server = Server(Config(), broker, MemoryBackend(), lock)
    server.register_periodic_task(MINUTELY, "a", Signature("s"))
    assert caplog.messages == []
    server.close()
    broker.close()
    lock.close()
