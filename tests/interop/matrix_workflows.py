"""The scenarios of groups, chords and chains, for any broker and backend: whoever makes one, whoever runs its tasks.

A service's test module subclasses these with the fixtures of `tests.interop.matrix`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from machinery import ChordResult, Signature, TaskFailed, chain, chord, group
from machinery.errors import StateNotFound
from tests.interop.application import Application
from tests.interop.gomachinery import GoWorker, Wire, wire
from tests.interop.matrix import (
    PRECISION,
    WAIT,
    ReadsThroughGo,
    Sides,
    from_json,
    int64,
    result_of,
    string,
    task,
    without_extensions,
)

Additions = Sequence[tuple[int, int]]
Links = Sequence[tuple[str, tuple[int, ...]]]

THREE: Additions = [(1, 1), (2, 2), (5, 6)]
SUMS = [2, 4, 11]

both_chords = pytest.mark.parametrize(
    ("additions", "product"), [([(1, 1), (5, 5)], 20), (THREE, 88)], ids=["of Go's README", "of Go's own tests"]
)
both_chains = pytest.mark.parametrize(
    ("links", "value"),
    [
        ([("add", (1, 1)), ("add", (5, 5)), ("multiply", (4,))], 48),
        ([("add", (2, 2)), ("add", (5, 6)), ("multiply", (4,))], 60),
    ],
    ids=["of Go's README", "of Go's own tests"],
)
both_concurrencies = pytest.mark.parametrize("concurrency", [0, 2])


def added(additions: Additions) -> list[Signature]:
    """The members of a group that adds."""
    return [task("add", *numbers) for numbers in additions]


def added_by_go(additions: Additions) -> list[Wire]:
    """The same, made by Go."""
    return [wire("add", *(int64(number) for number in numbers)) for numbers in additions]


def gathered(text: str, *, in_order: bool) -> list[str]:
    """What ``join`` was called with, in its order or in any."""
    parts = text.split("|")
    return parts if in_order else sorted(parts)


def is_unknown(sides: Sides, uuid: str) -> bool:
    """Whether nobody ever sent the task: it has no record."""
    try:
        sides.python.server.result(uuid).task_state()
    except StateNotFound:
        return True
    return False


class PythonSendsWorkflowsAndGoRuns(ReadsThroughGo):
    """Python's workflows mean to a Go worker what they say, and both read what comes of them."""

    go_keeps_group_order = True
    """Whether Go gives a callback its results in the order of the group; where it does not, any order will do (protocol §7.6)."""
    go_calls_back_once = True
    """Whether one Go worker alone gets the right to send a callback (protocol §10.10)."""

    @both_concurrencies
    def test_a_group_runs_and_both_read_its_results(self, sides: Sides, go_worker: GoWorker, concurrency: int) -> None:
        sent = sides.python.server.send_group(group(added(THREE)), concurrency)

        assert sent.get(timeout=WAIT) == SUMS
        assert [self.values(sides, member.uuid) for member in sent] == [(value,) for value in SUMS]

    @both_chords
    def test_a_chord_gathers_the_results_of_its_group(
        self, sides: Sides, go_worker: GoWorker, additions: Additions, product: int
    ) -> None:
        sent = sides.python.server.send_chord(chord(added(additions), task("multiply")))

        assert sent.get(timeout=WAIT) == product
        assert self.values(sides, sent.uuid) == (product,)
        assert len(go_worker.runs(sent.uuid)) == 1 or not self.go_calls_back_once

    @both_chains
    def test_a_chain_runs_to_its_end(self, sides: Sides, go_worker: GoWorker, links: Links, value: int) -> None:
        sent = sides.python.server.send_chain(chain([task(name, *args) for name, args in links]))

        assert sent.get(timeout=WAIT) == value
        assert self.values(sides, sent.uuid) == (value,)

    @both_concurrencies
    def test_a_chord_of_one_member_calls_back(self, sides: Sides, go_worker: GoWorker, concurrency: int) -> None:
        sent = sides.python.server.send_chord(chord([task("join", "a")], task("join", "own")), concurrency)

        assert sent.get(timeout=WAIT) == "own|a"

    def test_the_results_follow_the_callbacks_own_arguments(self, sides: Sides, go_worker: GoWorker) -> None:
        members = [task("retry_later", "late", 300), task("two_strings"), task("nothing"), task("join", "last")]
        sent = sides.python.server.send_chord(chord(members, task("join", "own", "two")))

        own, others = ["own", "two"], ["late", "foo", "bar", "last"]
        came = sent.get(timeout=WAIT).split("|")
        assert came[:2] == own
        assert (came[2:] if self.go_keeps_group_order else sorted(came[2:])) == (
            others if self.go_keeps_group_order else sorted(others)
        )

    def test_only_the_callback_itself_refuses_the_results(self, sides: Sides, go_worker: GoWorker) -> None:
        immutable = task("join", "a", immutable=True)
        given = sides.python.server.send_chord(chord([immutable], task("join", "own")))
        kept = sides.python.server.send_chord(chord([task("join", "a")], task("join", "own", immutable=True)))

        assert given.get(timeout=WAIT) == "own|a"
        assert kept.get(timeout=WAIT) == "own"

    def test_the_callback_has_its_headers_and_what_follows_it(self, sides: Sides, go_worker: GoWorker) -> None:
        last = task("join", "last")
        callback = task("headers", headers=sides.headers, immutable=True, on_success=[last])
        sent = sides.python.server.send_chord(chord(added(THREE), callback))

        assert from_json(sent.get(timeout=WAIT)) == sides.headers
        assert result_of(sides, last).get(timeout=WAIT) == "last"

    def test_members_are_retried_and_have_callbacks_of_their_own(self, sides: Sides, go_worker: GoWorker) -> None:
        own = task("add", 10)
        members = [task("fail_times", 1, retry_count=1), task("add", 2, on_success=[own])]
        sent = sides.python.server.send_chord(chord(members, task("add", 100)))

        assert sent.get(timeout=WAIT) == 104
        assert result_of(sides, own).get(timeout=WAIT) == 12

    def test_a_callback_that_fails_is_raised(self, sides: Sides, go_worker: GoWorker) -> None:
        on_error = task("on_error", "own")
        callback = task("fail", "boom", immutable=True, on_error=[on_error])
        sent = sides.python.server.send_chord(chord(added(THREE), callback))

        with pytest.raises(TaskFailed, match="boom") as raised:
            sent.get(timeout=WAIT)
        assert raised.value.uuid == sent.uuid
        assert result_of(sides, on_error).get(timeout=WAIT) == "boom|own"

    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_a_member_that_fails_is_raised_though_go_says_nothing(
        self, sides: Sides, go_worker: GoWorker, position: int
    ) -> None:
        failing = task("fail", "boom")
        members = added(THREE[:2])
        members.insert(position, failing)
        on_error = task("on_error")
        sent = sides.python.server.send_chord(chord(members, task("multiply", on_error=[on_error])))

        with pytest.raises(TaskFailed, match="boom") as raised:
            sent.get(timeout=WAIT)
        assert raised.value.uuid == failing.uuid
        for member in members:
            go_worker.wait_for("done", member.uuid)
        assert is_unknown(sides, sent.uuid)
        assert is_unknown(sides, on_error.uuid)


class GoSendsWorkflowsAndPythonRuns(ReadsThroughGo):
    """Go's workflows mean to a Python worker what they say, and both read what comes of them."""

    go_stores_group_order = True
    """Whether Go writes down who belongs to a group, and in which order; where it does not, any order will do."""

    @both_concurrencies
    def test_a_group_runs_and_both_read_its_results(
        self, sides: Sides, python_worker: Application, concurrency: int
    ) -> None:
        (answer,) = sides.go.send({"group": added_by_go(THREE), "concurrency": concurrency})

        assert [sides.python.server.result(uuid).get(timeout=WAIT) for uuid in answer["uuids"]] == SUMS
        assert [self.values(sides, uuid) for uuid in answer["uuids"]] == [(value,) for value in SUMS]

    @both_chords
    @both_concurrencies
    def test_a_chord_gathers_the_results_of_its_group(
        self, sides: Sides, python_worker: Application, additions: Additions, product: int, concurrency: int
    ) -> None:
        members = added_by_go(additions)
        (answer,) = sides.go.send(
            {"chord": {"group": members, "callback": wire("multiply")}, "concurrency": concurrency}
        )

        assert sides.python.server.result(answer["callback"]).get(timeout=WAIT) == product
        assert self.values(sides, answer["callback"]) == (product,)
        assert len(python_worker.runs(answer["callback"])) == 1

    @both_chains
    def test_a_chain_runs_to_its_end(self, sides: Sides, python_worker: Application, links: Links, value: int) -> None:
        signatures = [wire(name, *(int64(number) for number in args)) for name, args in links]
        (answer,) = sides.go.send({"chain": signatures})

        assert self.values(sides, answer["uuids"][-1]) == (value,)

    def test_the_results_follow_the_callbacks_own_arguments_in_the_order_of_the_group(
        self, sides: Sides, python_worker: Application
    ) -> None:
        members = [
            wire("retry_later", string("late"), int64(300)),
            wire("two_strings"),
            wire("nothing"),
            wire("join", string("last")),
        ]
        callback = wire("join", string("own"), string("two"))
        sides.go.send({"chord": {"group": members, "callback": callback}})

        (came,) = self.values(sides, callback["UUID"])
        assert gathered(came, in_order=self.go_stores_group_order) == gathered(
            "own|two|late|foo|bar|last", in_order=self.go_stores_group_order
        )

    def test_only_the_callback_itself_refuses_the_results(self, sides: Sides, python_worker: Application) -> None:
        given, kept = wire("join", string("own")), wire("join", string("own"), Immutable=True)
        sides.go.send(
            {"chord": {"group": [wire("join", string("a"), Immutable=True)], "callback": given}},
            {"chord": {"group": [wire("join", string("a"))], "callback": kept}},
        )

        assert self.values(sides, given["UUID"]) == ("own|a",)
        assert self.values(sides, kept["UUID"]) == ("own",)

    def test_the_callback_has_its_headers_and_what_follows_it(self, sides: Sides, python_worker: Application) -> None:
        last = wire("join", string("last"))
        callback = wire("headers", Headers=sides.headers, Immutable=True, OnSuccess=[last])
        sides.go.send({"chord": {"group": added_by_go(THREE), "callback": callback}})

        (text,) = self.values(sides, callback["UUID"])
        assert without_extensions(json.loads(text)) == sides.headers
        assert self.values(sides, last["UUID"]) == ("last",)

    def test_members_are_retried_and_have_callbacks_of_their_own(
        self, sides: Sides, python_worker: Application
    ) -> None:
        own, callback = wire("add", int64(10)), wire("add", int64(100))
        members = [wire("fail_times", int64(1), RetryCount=1), wire("add", int64(2), OnSuccess=[own])]
        sides.go.send({"chord": {"group": members, "callback": callback}})

        assert self.values(sides, callback["UUID"]) == (104,)
        assert self.values(sides, own["UUID"]) == (12,)

    def test_a_callback_that_fails_is_raised(self, sides: Sides, python_worker: Application) -> None:
        on_error = wire("on_error", string("own"))
        callback = wire("fail", string("boom"), Immutable=True, OnError=[on_error])
        sides.go.send({"chord": {"group": added_by_go(THREE), "callback": callback}})

        assert sides.go.result(callback["UUID"]).error == "boom"
        assert self.values(sides, on_error["UUID"]) == ("boom|own",)

    def test_members_that_fail_fail_the_chord_once(self, fresh_sides: Sides) -> None:
        on_error = wire("on_error", string("own"))
        callback = wire("join", OnError=[on_error])
        members = [wire("fail", string("boom")), *added_by_go(THREE), wire("fail", string("boom"))]
        with fresh_sides.python.worker() as worker:
            fresh_sides.go.send({"chord": {"group": members, "callback": callback}})
            for member in members:
                fresh_sides.go.result(member["UUID"])

            assert self.values(fresh_sides, on_error["UUID"]) == ("boom|own",)
            answer = fresh_sides.go.result(callback["UUID"])

        assert answer.state == "FAILURE"
        assert any(f"{member['UUID']} of its group failed: boom" in answer.error for member in members)
        assert len(worker.runs(on_error["UUID"])) == 1
        assert worker.runs(callback["UUID"]) == []


class EachReadsTheGroupsOfTheOther(ReadsThroughGo):
    """Groups, and the messages of their members, that one side wrote are read by the other."""

    go_keeps_group_order = True

    def test_go_reads_a_group_that_python_made(self, fresh_sides: Sides) -> None:
        members = added(THREE)
        sent = fresh_sides.python.server.send_chord(chord(members, task("multiply")))
        uuid, uuids = sent.members.group_uuid, [member.uuid for member in members]

        found = fresh_sides.go.group(uuid, len(members))
        read = [(state["TaskUUID"], state["State"]) for state in found.states]
        expected = [(each, "PENDING") for each in uuids]
        assert (read if self.go_keeps_group_order else sorted(read)) == (
            expected if self.go_keeps_group_order else sorted(expected)
        )
        assert (found.is_completed, found.error) == (False, "")

        with fresh_sides.python.worker():
            sent.get(timeout=WAIT)
        found = fresh_sides.go.group(uuid, len(members))
        results = {state["TaskUUID"]: state["Results"] for state in found.states}
        assert [results[each] for each in uuids] == [[{"Type": "int64", "Value": value}] for value in SUMS]
        assert found.is_completed

    def test_python_reads_a_group_that_go_made(self, fresh_sides: Sides) -> None:
        before = datetime.now(UTC)
        (answer,) = fresh_sides.go.send({"chord": {"group": added_by_go(THREE), "callback": wire("multiply")}})
        backend = fresh_sides.python.server.backend

        found = backend.load_group(answer["group"])
        assert (found.meta.group_uuid, list(found.meta.task_uuids)) == (answer["group"], answer["uuids"])
        assert (found.made_by_go, found.callback, found.meta.chord_triggered) == (True, None, False)
        assert before - PRECISION <= found.meta.created_at <= datetime.now(UTC)

        with fresh_sides.go.worker() as worker:
            worker.wait_for("done", answer["callback"])
        assert backend.load_group(answer["group"]).meta.chord_triggered

    def test_go_reads_the_messages_of_a_chord_that_python_made(self, fresh_sides: Sides) -> None:
        callback = task("join", "own", headers=fresh_sides.headers, immutable=True, on_error=[task("on_error", "late")])
        sent = fresh_sides.python.server.send_chord(chord([task("join", "a"), task("join", "b")], callback))

        messages = {message["UUID"]: message for message in fresh_sides.go.pending()}
        for member in sent.members:
            message = messages[member.uuid]
            assert (message["GroupUUID"], message["GroupTaskCount"]) == (sent.members.group_uuid, 2)
            read = message["ChordCallback"]
            assert (read["UUID"], read["Name"], read["Immutable"]) == (callback.uuid, "join", True)
            assert read["Args"] == [{"Name": "", "Type": "string", "Value": "own"}]
            assert read["Headers"] == fresh_sides.headers
            assert [each["Args"][0]["Value"] for each in read["OnError"]] == ["late"]

    def test_python_reads_the_messages_of_a_chord_that_go_made(self, fresh_sides: Sides) -> None:
        callback = wire("join", string("own"), Headers=fresh_sides.headers, Immutable=True, OnError=[wire("on_error")])
        members = [wire("join", string("a")), wire("join", string("b"))]
        (answer,) = fresh_sides.go.send({"chord": {"group": members, "callback": callback}})

        messages = {message.uuid: message for message in fresh_sides.python.server.pending_tasks()}
        assert messages.keys() == set(answer["uuids"])
        for message in messages.values():
            assert (message.group_uuid, message.group_task_count) == (answer["group"], 2)
            read = message.chord_callback
            assert read is not None
            assert (read.uuid, read.name, read.immutable) == (callback["UUID"], "join", True)
            assert [arg.value for arg in read.args] == ["own"]
            assert read.headers == fresh_sides.headers
            assert [each.name for each in read.on_error] == ["on_error"]

    def test_what_go_triggered_python_does_not_claim(self, fresh_sides: Sides) -> None:
        sent = fresh_sides.python.server.send_chord(chord([task("join", "a")], task("join")))
        uuid, backend = sent.members.group_uuid, fresh_sides.python.server.backend

        assert fresh_sides.go.trigger(uuid) == [True]
        assert backend.load_group(uuid).meta.chord_triggered
        assert not backend.claim_chord(uuid, sent.members[0].uuid)
        assert fresh_sides.go.trigger(uuid) == [False]

    def test_what_python_claimed_go_does_not_trigger(self, fresh_sides: Sides) -> None:
        (answer,) = fresh_sides.go.send({"chord": {"group": added_by_go(THREE), "callback": wire("multiply")}})
        backend = fresh_sides.python.server.backend

        assert backend.claim_chord(answer["group"], answer["uuids"][0])
        assert backend.load_group(answer["group"]).meta.chord_triggered
        assert fresh_sides.go.trigger(answer["group"]) == [False]
        assert backend.claim_chord(answer["group"], answer["uuids"][0])


class WorkflowsOfBothOnOneQueue(ReadsThroughGo):
    """Workers of both sides on the same queue: each takes what only it knows."""

    go_keeps_group_order = True
    go_calls_back_once = True
    go_marks_chords = True
    """Whether a chord that Go has looked at in the end is marked as triggered, though its callback is not sent."""

    def test_a_chain_crosses_from_one_side_to_the_other(self, fresh_sides: Sides) -> None:
        links = ["runs_in_go", "runs_in_python", "runs_in_go", "runs_in_python"]
        last = task("join", "last")
        with fresh_sides.go.worker(), fresh_sides.python.worker():
            signatures = [task(name, immutable=name != links[-1] or at < 3) for at, name in enumerate(links)]
            sent = fresh_sides.python.server.send_chain(chain([*signatures, last]))

            assert sent.get(timeout=2 * WAIT) == "last|python"
        assert [result_of(fresh_sides, each).get(timeout=0) for each in signatures] == ["go", "python", "go", "python"]

    def test_a_chord_of_python_gathers_the_results_of_both(self, fresh_sides: Sides) -> None:
        members = [task(name) for name in ["runs_in_go", "runs_in_python"] * 3]
        with fresh_sides.go.worker() as go_worker, fresh_sides.python.worker() as python_worker:
            sent = fresh_sides.python.server.send_chord(chord(members, task("join", "own")))
            came = sent.get(timeout=2 * WAIT)
            assert gathered(came, in_order=self.go_keeps_group_order) == gathered(
                "own|go|python|go|python|go|python", in_order=self.go_keeps_group_order
            )

        assert go_worker.count_runs(sent.uuid) + len(python_worker.runs(sent.uuid)) == 1 or not self.go_calls_back_once

    def test_a_chord_of_go_gathers_the_results_of_both(self, fresh_sides: Sides) -> None:
        members = [wire(name) for name in ["runs_in_go", "runs_in_python"] * 3]
        callback = wire("join", string("own"))
        with fresh_sides.go.worker() as go_worker, fresh_sides.python.worker() as python_worker:
            fresh_sides.go.send({"chord": {"group": members, "callback": callback}})
            (came,) = self.values(fresh_sides, callback["UUID"], 2 * WAIT)
            assert gathered(came, in_order=self.go_keeps_group_order) == gathered(
                "own|go|python|go|python|go|python", in_order=self.go_keeps_group_order
            )

        runs = go_worker.count_runs(callback["UUID"]) + len(python_worker.runs(callback["UUID"]))
        assert runs == 1 or not self.go_calls_back_once

    def test_a_member_that_failed_in_go_fails_a_chord_of_python_once(self, fresh_sides: Sides) -> None:
        failing, last, on_error = task("fail", "boom"), task("runs_in_python"), task("on_error", "own")
        callback = task("join", on_error=[on_error])
        with fresh_sides.go.worker() as go_worker:
            sent = fresh_sides.python.server.send_chord(chord([failing, last], callback))
            go_worker.wait_for("done", failing.uuid)

        _fails_once(fresh_sides, sent, failing, on_error)

    def test_a_failure_that_a_go_worker_found_and_kept_to_itself_fails_a_chord_of_python_once(
        self, fresh_sides: Sides
    ) -> None:
        failing, last, on_error = task("fail", "boom"), task("retry_later", "late", 200), task("on_error", "own")
        server = fresh_sides.python.server
        with fresh_sides.go.worker() as go_worker:
            sent = server.send_chord(chord([failing, last], task("join", on_error=[on_error])))
            go_worker.wait_for("done", failing.uuid)
            go_worker.wait_for("done", last.uuid, 2)

        assert server.backend.load_group(sent.members.group_uuid).meta.chord_triggered == self.go_marks_chords
        assert is_unknown(fresh_sides, sent.uuid)
        _fails_once(fresh_sides, sent, failing, on_error)


def _fails_once(sides: Sides, sent: ChordResult[Any], failing: Signature, on_error: Signature) -> None:
    """A Python worker comes, and makes a failure of the chord."""
    with sides.python.worker() as worker:
        assert result_of(sides, on_error).get(timeout=WAIT) == "boom|own"
    state = sides.python.server.result(sent.uuid).task_state()
    assert state.is_failure
    assert f"{failing.uuid} of its group failed: boom" in state.error
    assert len(worker.runs(on_error.uuid)) == 1
    assert worker.runs(sent.uuid) == []
