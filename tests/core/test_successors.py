"""What a finished task sets off, and what travels to it."""

from __future__ import annotations

from machinery import Arg, Signature, TaskResult
from machinery._successors import after_failure, after_success

RESULTS = (TaskResult("int64", 7), TaskResult("string", "x"))


def test_results_are_appended_in_their_order() -> None:
    parent = Signature("parent", uuid="task_1", on_success=[Signature("child", [1], uuid="task_2")])
    (child,) = after_success(parent, RESULTS)
    assert child.args == (Arg("int64", 1), Arg("int64", 7), Arg("string", "x"))
    assert child.uuid == "task_2"


def test_an_immutable_parent_keeps_its_results() -> None:
    parent = Signature("parent", uuid="task_1", immutable=True, on_success=[Signature("child", [1])])
    (child,) = after_success(parent, RESULTS)
    assert child.args == (Arg("int64", 1),)


def test_an_error_is_put_in_front_even_of_an_immutable_parent() -> None:
    parent = Signature("parent", uuid="task_1", immutable=True, on_error=[Signature("child", [1])])
    (child,) = after_failure(parent, "no good")
    assert child.args == (Arg("string", "no good"), Arg("int64", 1))


def test_a_successor_without_an_id_gets_the_same_one_at_each_replay() -> None:
    parent = Signature(
        "parent", uuid="task_1", on_success=[Signature("child"), Signature("child")], on_error=[Signature("e")]
    )
    first, second = after_success(parent, ())
    assert [first, second] == after_success(parent, ())
    assert len({first.uuid, second.uuid, after_failure(parent, "")[0].uuid}) == 3
    assert first.uuid.startswith("task_")


def test_successors_of_different_parents_are_different_tasks() -> None:
    one, other = (Signature("parent", uuid=uuid, on_success=[Signature("child")]) for uuid in ("task_1", "task_2"))
    assert after_success(one, ())[0].uuid != after_success(other, ())[0].uuid
