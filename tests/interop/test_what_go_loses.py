"""Where Go's way to end a chord loses the callback, or sends it twice: shown with Go alone, then beside Python workers.

Go looks at the group after a member's success, takes one mutex for all chords of the database, marks the chord as triggered,
stores the callback's record and sends it (protocol §3.5, §7.5, §10.8, §10.16, §10.18).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from machinery import ChordResult, State, chord
from machinery._worker._reviver import OVERDUE
from tests.interop.application import Application
from tests.interop.eventually import eventually
from tests.interop.gomachinery import GoMachinery, wire
from tests.interop.holding_proxy import HoldingProxy
from tests.interop.matrix import WAIT, Sides, result_of, string, task
from tests.interop.matrix_workflows import is_unknown
from tests.interop.redis_sides import both_sides
from tests.services.proxy import CuttingProxy

pytestmark = [pytest.mark.interop, pytest.mark.slow]

MUTEX = "TriggerChordMutex"
MUTEX_LIVES = 8000
"""Milliseconds, Go's."""
TRIGGERED = '"ChordTriggered":true'
"""What a Go worker says, holding the mutex, to mark a chord."""


MANY = 80
"""Chords that end at once, in processes from which Redis is 20 ms away: each takes the mutex for six times that, and gives up
after 32 tries, each of four times that and 50 to 250 ms."""


def only(client: str) -> pytest.MarkDecorator:
    """With one of Go's clients, where the other would show nothing else."""
    return pytest.mark.parametrize("client", [client], scope="class")


@pytest.fixture
def sides(go_program: Path, client: str, redis_database: str) -> Iterator[Sides]:
    """Both sides on a database of their own: Go's mutex is one for all of it."""
    with both_sides(go_program, client, redis_database) as sides:
        yield sides


@pytest.fixture
def raw(redis_database: str) -> Iterator[Any]:
    """Redis itself."""
    from redis import Redis  # noqa: PLC0415 - present where redis_database is

    with Redis.from_url(redis_database, decode_responses=True) as raw:
        yield raw


@pytest.fixture
def python_worker(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> StartWorker:
    """Starts a Python worker that looks after chords sooner than others do, to spare the test's time."""
    monkeypatch.setattr("machinery._worker._reviver.IDLE", 0.3)
    monkeypatch.setattr("machinery._worker._reviver.OVERDUE", 1.0)
    return sides.python.worker


@pytest.fixture
def stopping() -> Iterator[Stopping]:
    """Stops Go workers in the middle of something."""
    with ExitStack() as proxies:
        yield Stopping(proxies)


StartWorker = Callable[[], AbstractContextManager[Application]]


class Stopping:
    """Go workers that stop at something they say to Redis."""

    def __init__(self, proxies: ExitStack) -> None:
        self._proxies = proxies

    def at(self, text: str, go: GoMachinery) -> tuple[GoMachinery, HoldingProxy]:
        """Go by way of a proxy that holds back ``text``."""
        host, _, port = go.broker.partition(":")
        proxy = self._proxies.enter_context(HoldingProxy(host, int(port)))
        proxy.hold(text)
        return go.by_way_of(proxy.port), proxy


def queue_of_go(sides: Sides) -> str:
    """A queue that no Python worker knows."""
    return f"{sides.go.queue}_go"


def a_fresh_go_worker_changes_nothing(sides: Sides, *uuids: str) -> None:
    """It comes and works, and of these callbacks there is still no record."""
    with sides.go.worker() as worker:
        worker.wait_for("done", sides.python.server.send_task(task("noargs")).uuid)
    assert [uuid for uuid in uuids if not is_unknown(sides, uuid)] == []


# -- a Go worker dies -----------------------------------------------------------------------------------------------------


def before_it_looks_at_the_group(sent: ChordResult[Any]) -> str:
    return sent.members.group_uuid


def before_it_has_the_mutex(sent: ChordResult[Any]) -> str:
    return MUTEX


def with_the_mutex(sent: ChordResult[Any]) -> str:
    return TRIGGERED


def before_it_stores_the_callback(sent: ChordResult[Any]) -> str:
    return f"{sent.uuid}\r\n"


def before_it_sends_the_callback(sent: ChordResult[Any]) -> str:
    return f'"UUID":"{sent.uuid}"'


Place = Callable[[ChordResult[Any]], str]


def chord_whose_go_worker_died(sides: Sides, stopping: Stopping, place: Place) -> ChordResult[Any]:
    """A chord of Python of one member, which a Go worker ran, and died there."""
    member = task("join", "a", routing_key=queue_of_go(sides))
    sent = sides.python.server.send_chord(chord([member], task("join", "own")))
    go, proxy = stopping.at(place(sent), sides.go.on_queue(queue_of_go(sides)))
    with go.worker() as worker:
        proxy.wait()
        worker.kill()
    return sent


@pytest.mark.parametrize(
    "place",
    [
        before_it_looks_at_the_group,
        before_it_has_the_mutex,
        before_it_stores_the_callback,
    ],
)
def test_a_chord_whose_go_worker_died_is_lost_until_python_workers_end_it_once(
    sides: Sides, stopping: Stopping, python_worker: StartWorker, place: Place
) -> None:
    sent = chord_whose_go_worker_died(sides, stopping, place)
    a_fresh_go_worker_changes_nothing(sides, sent.uuid)

    with python_worker() as worker:
        assert sent.get(timeout=2 * WAIT) == "own|a"
    assert len(worker.runs(sent.uuid)) == 1


def test_what_go_triggered_is_not_claimed_and_is_left_to_it_for_ten_minutes(sides: Sides, stopping: Stopping) -> None:
    sent = chord_whose_go_worker_died(sides, stopping, before_it_stores_the_callback)

    assert OVERDUE == 600.0
    assert not sides.python.server.backend.claim_chord(sent.members.group_uuid, sent.members[0].uuid)


def test_a_callback_that_go_stored_and_did_not_send_is_lost(
    sides: Sides, stopping: Stopping, python_worker: StartWorker
) -> None:
    sent = chord_whose_go_worker_died(sides, stopping, before_it_sends_the_callback)

    with python_worker() as worker:
        backend = sides.python.server.backend
        eventually(lambda: backend.open_groups(datetime.now(UTC) + timedelta(minutes=1), 9) == [])
    assert sent.task_state().state is State.PENDING
    assert worker.runs(sent.uuid) == []


def test_a_member_that_died_with_its_go_worker_holds_its_chord_up_for_good(
    sides: Sides, stopping: Stopping, python_worker: StartWorker
) -> None:
    with sides.go.worker() as go_worker:
        waiting = sides.python.server.send_chord(chord([task("hold"), task("join", "b")], task("join")))
        go_worker.wait_for("run", waiting.members[0].uuid)
        go_worker.wait_for("done", waiting.members[1].uuid)
        go_worker.kill()
    looked_after = chord_whose_go_worker_died(sides, stopping, before_it_looks_at_the_group)

    with python_worker():
        looked_after.get(timeout=WAIT)
    assert waiting.members[0].task_state().state is State.STARTED
    assert is_unknown(sides, waiting.uuid)


# -- the one mutex ----------------------------------------------------------------------------------------------------------


@pytest.mark.thorough  # it is Go alone that loses
def test_a_go_worker_that_dies_with_the_mutex_takes_along_the_chords_that_end_meanwhile(
    sides: Sides, stopping: Stopping, python_worker: StartWorker
) -> None:
    server = sides.python.server
    of_python = [server.send_chord(chord([task("hold")], task("join", "own"))) for _ in range(2)]
    member, of_go = wire("hold"), wire("join", string("own"))
    sides.go.send({"chord": {"group": [member], "callback": of_go}})
    members = [*(sent.members[0].uuid for sent in of_python), member["UUID"]]
    with sides.go.worker() as go_worker:
        for uuid in members:
            go_worker.wait_for("run", uuid)
        died_with_it = chord_whose_go_worker_died(sides, stopping, with_the_mutex)
        go_worker.answer("late", "late", "late")
        for uuid in members:
            go_worker.wait_for("done", uuid)
    callbacks = [sent.uuid for sent in (*of_python, died_with_it)]
    a_fresh_go_worker_changes_nothing(sides, of_go["UUID"], *callbacks)

    with python_worker() as worker:
        assert [sent.get(timeout=2 * WAIT) for sent in of_python] == ["own|late", "own|late"]
        assert died_with_it.get(timeout=WAIT) == "own|a"
    assert [len(worker.runs(uuid)) for uuid in callbacks] == [1, 1, 1]
    assert is_unknown(sides, of_go["UUID"])  # of a chord that Go made and ran, Python knows nothing


@only("goredis")
def test_a_python_worker_waits_for_the_mutex_longer_than_it_lives(sides: Sides, raw: Any) -> None:
    members, callback = [wire("join", string("a")), wire("join", string("b"))], wire("join", string("own"))
    sides.go.send({"chord": {"group": members, "callback": callback}})
    raw.set(MUTEX, "a dead Go worker's", px=MUTEX_LIVES)

    with sides.python.worker() as worker:
        assert sides.go.result(callback["UUID"]).values == ("own|a|b",)
    assert len(worker.runs(callback["UUID"])) == 1


@only("goredis")
def test_a_python_worker_that_waited_in_vain_for_the_mutex_tries_again(
    sides: Sides, raw: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("machinery_broker_redis._groups._PATIENCE", 0.2)
    callback = wire("join", string("own"))
    sides.go.send({"chord": {"group": [wire("join", string("a"))], "callback": callback}})
    raw.set(MUTEX, "somebody's")

    with sides.python.worker() as worker:
        eventually(lambda: f"{MUTEX} at " in caplog.text)
        raw.delete(MUTEX)
        assert sides.go.result(callback["UUID"]).values == ("own|a",)
    assert len(worker.runs(callback["UUID"])) == 1


@pytest.mark.thorough  # it is Go alone that loses
@only("redigo")
def test_of_many_chords_that_end_at_once_go_loses_some_where_redis_is_far_away(
    sides: Sides, python_worker: StartWorker
) -> None:
    with far_away(sides) as port, sides.go.by_way_of(port).worker(MANY) as go_worker:
        sent = [sides.python.server.send_chord(chord([task("hold")], task("join", "own"))) for _ in range(MANY)]
        for each in sent:
            go_worker.wait_for("run", each.members[0].uuid)
        go_worker.answer(*(["end"] * MANY))
        for each in sent:
            go_worker.wait_for("done", each.members[0].uuid)
    lost = [each for each in sent if is_unknown(sides, each.uuid)]
    assert lost

    with python_worker() as worker:
        assert {each.get(timeout=WAIT) for each in lost} == {"own|end"}
    assert [len(worker.runs(each.uuid)) for each in lost] == [1] * len(lost)


@only("redigo")
def test_of_as_many_chords_of_go_python_loses_none(sides: Sides) -> None:
    sent = [(wire("hold"), wire("join", string("own"))) for _ in range(MANY)]
    sides.go.send(*({"chord": {"group": [member], "callback": callback}} for member, callback in sent))
    with (
        far_away(sides) as port,
        sides.python.at(f"redis://127.0.0.1:{port}/{sides.go.db}") as far,
        far.worker(MANY // 2),
        far.worker(MANY // 2) as worker,
    ):
        worker.runs_where(lambda signature: signature.name == "hold", MANY)
        for _ in range(MANY):
            worker.answer("end")
        results = [sides.python.server.result(callback["UUID"]).get(timeout=3 * WAIT) for _, callback in sent]

    assert results == ["own|end"] * MANY
    assert [len(worker.runs(callback["UUID"])) for _, callback in sent] == [1] * MANY


@contextmanager
def far_away(sides: Sides) -> Iterator[int]:
    """A port from which Redis is 20 ms away."""
    host, _, port = sides.go.broker.partition(":")
    with CuttingProxy(host, int(port)) as far:
        far.delay(0.02)
        yield far.port


# -- a Go worker is held up ------------------------------------------------------------------------------------------------


@pytest.mark.thorough  # it is Go alone that loses
@only("goredis")
def test_a_go_worker_held_up_with_the_mutex_for_longer_than_it_lives_sends_what_another_has_sent(
    sides: Sides, stopping: Stopping, raw: Any
) -> None:
    one, other, callback = wire("noargs"), wire("noargs", RoutingKey=queue_of_go(sides)), wire("join", string("own"))
    (answer,) = sides.go.send({"chord": {"group": [one, other], "callback": callback}})
    late, marking = stopping.at(TRIGGERED, sides.go)
    second, looking = stopping.at(answer["group"], sides.go.on_queue(queue_of_go(sides)))
    with second.worker() as second_worker:
        looking.wait()
        second_worker.suspend()
        with late.worker() as late_worker:
            marking.wait()
            late_worker.suspend()
            eventually(lambda: not raw.exists(MUTEX))
            looking.release()
            second_worker.resume()
            second_worker.wait_for("done", callback["UUID"])
            marking.release()
            late_worker.resume()
            late_worker.wait_for("done", callback["UUID"])


@only("redigo")
def test_so_it_does_when_the_other_is_a_python_worker(
    sides: Sides, stopping: Stopping, python_worker: StartWorker
) -> None:
    members = [task("join", "go", routing_key=queue_of_go(sides)), task("join", "python")]
    sent = sides.python.server.send_chord(chord(members, task("join", "own")))
    late, marking = stopping.at(TRIGGERED, sides.go.on_queue(queue_of_go(sides)))
    with python_worker() as worker:
        worker.runs(members[1].uuid, 1)
        with late.worker() as late_worker:
            marking.wait()
            late_worker.suspend()
            assert sent.get(timeout=2 * WAIT) == "own|go|python"
            marking.release()
            late_worker.resume()
            late_worker.wait_for("done", sent.uuid)
    assert len(worker.runs(sent.uuid)) == 1


# -- something is gone ------------------------------------------------------------------------------------------------------


def test_a_member_whose_record_is_gone_makes_go_silent_and_python_tell(
    sides: Sides, raw: Any, python_worker: StartWorker
) -> None:
    gone, last, on_error = task("noargs"), task("hold"), task("on_error", "own")
    with sides.go.worker() as go_worker:
        sent = sides.python.server.send_chord(chord([gone, last], task("join", on_error=[on_error])))
        go_worker.wait_for("done", gone.uuid)
        go_worker.wait_for("run", last.uuid)
        raw.delete(gone.uuid)
        go_worker.answer("end")
        go_worker.wait_for("done", last.uuid)
    a_fresh_go_worker_changes_nothing(sides, sent.uuid, on_error.uuid)

    with python_worker() as worker:
        assert gone.uuid in result_of(sides, on_error).get(timeout=WAIT)
    state = sent.task_state()
    assert (state.state, f"{gone.uuid} of its group is gone" in state.error) == (State.FAILURE, True)
    assert len(worker.runs(on_error.uuid)) == 1


def test_a_group_of_go_that_takes_longer_than_its_metadata_lives_makes_go_silent_and_python_tell(
    sides: Sides, raw: Any
) -> None:
    in_go, in_python = wire("hold"), wire("hold", RoutingKey=f"{sides.go.queue}_python")
    on_error = wire("on_error", string("own"))
    callback = wire("join", OnError=[on_error])
    (answer,) = sides.go.send({"chord": {"group": [in_go, in_python], "callback": callback}})
    with sides.go.worker() as go_worker:
        go_worker.wait_for("run", in_go["UUID"])
        raw.delete(answer["group"])
        go_worker.answer("end")
        go_worker.wait_for("done", in_go["UUID"])
    assert is_unknown(sides, callback["UUID"])

    worker = sides.python.server.new_worker("python", 4, [in_python["RoutingKey"], sides.go.queue])
    with worker:
        sides.python.answer("end")
        assert answer["group"] in sides.go.result(on_error["UUID"]).values[0]
        assert sides.go.result(callback["UUID"]).state == "FAILURE"


def test_a_go_worker_leaves_a_record_no_longer_than_its_own_setting(sides: Sides, raw: Any) -> None:
    members = [task("noargs"), task("noargs", routing_key="nobody's")]
    sent = sides.python.server.send_chord(chord(members, task("join")))
    day = 86_400
    assert all(raw.ttl(member.uuid) > 6 * day for member in members)

    with sides.go.worker() as go_worker:
        go_worker.wait_for("done", members[0].uuid)
    assert raw.ttl(members[0].uuid) <= 3600
    assert raw.ttl(members[1].uuid) > 6 * day
    assert raw.ttl(sent.members.group_uuid) > 6 * day


# -- afterwards -------------------------------------------------------------------------------------------------------------


@only("redigo")
def test_a_redigo_worker_that_lost_a_chord_runs_nothing_any_more_and_python_workers_do(sides: Sides, raw: Any) -> None:
    member = wire("hold")
    (answer,) = sides.go.send({"chord": {"group": [member], "callback": wire("noargs")}})
    with sides.go.worker() as go_worker:
        go_worker.wait_for("run", member["UUID"])
        raw.delete(answer["group"])
        go_worker.answer("end")
        go_worker.wait_for("done", member["UUID"])

        sent = sides.python.server.send_task(task("noargs"))
        pushes = calls_of_rpush(raw)
        eventually(lambda: calls_of_rpush(raw) > pushes + 1000)  # it takes the message and puts it back, over and over
        assert sent.task_state().state is State.PENDING
        with sides.python.worker():
            assert sent.get(timeout=WAIT) == "no arguments"
    assert go_worker.count_runs(sent.uuid) == 0


def calls_of_rpush(raw: Any) -> int:
    """How often Redis was told to put something into a list."""
    calls: int = raw.info("commandstats")["cmdstat_rpush"]["calls"]
    return calls
