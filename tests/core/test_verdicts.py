"""How a group stands, and what it costs to know: looking again costs one record, a whole group a constant for each member."""

from __future__ import annotations

import logging
import random

import pytest

from machinery import Signature, State, TaskResult, TaskState
from machinery._worker import _verdicts
from machinery._worker._hooks import Hooks
from machinery._worker._patience import Patience
from machinery._worker._verdicts import Verdicts
from machinery.abc import GroupMeta
from machinery.errors import DecodeError, GroupNotFound
from tests.core.observed import Journal, ObservedBackend


@pytest.fixture
def verdicts(backend: ObservedBackend) -> Verdicts:
    return Verdicts(backend, Patience(Hooks(logging.getLogger("machinery"))))


def make_group(backend: ObservedBackend, count: int, name: str = "group") -> list[str]:
    """A group of tasks that wait."""
    ids = [f"task_{name}_{at}" for at in range(count)]
    backend.submit([TaskState(uuid, "member") for uuid in ids])
    backend.create_group(GroupMeta(name, tuple(ids)), Signature("callback"))
    return ids


def succeed(backend: ObservedBackend, *ids: str) -> None:
    backend.save([TaskState(uuid, "", State.SUCCESS, (TaskResult("string", uuid),)) for uuid in ids])


def fail(backend: ObservedBackend, uuid: str) -> None:
    backend.save([TaskState(uuid, "", State.FAILURE, None, "it broke")])


def read(journal: Journal) -> int:
    """How many records were read since the last time."""
    count = len(journal.of("load"))
    journal.entries.clear()
    return count


@pytest.mark.parametrize("likely", [False, True])
def test_there_is_none_while_members_run(backend: ObservedBackend, verdicts: Verdicts, likely: bool) -> None:
    ids = make_group(backend, 3)
    succeed(backend, ids[0], ids[2])
    assert verdicts.look("group", likely=likely) is None
    assert verdicts.witness("group") == ids[1]


@pytest.mark.parametrize("likely", [False, True])
def test_when_all_have_succeeded_it_has_their_records_in_group_order(
    backend: ObservedBackend, verdicts: Verdicts, likely: bool
) -> None:
    ids = make_group(backend, 9)
    for uuid in reversed(ids):
        succeed(backend, uuid)
    verdict = verdicts.look("group", likely=likely)
    assert verdict is not None
    assert not verdict.failure
    assert [state.task_uuid for state in verdict.members] == ids


@pytest.mark.parametrize("likely", [False, True])
def test_a_failure_is_one_though_members_behind_it_run(
    backend: ObservedBackend, verdicts: Verdicts, likely: bool
) -> None:
    ids = make_group(backend, 3)
    succeed(backend, ids[0])
    fail(backend, ids[1])
    verdict = verdicts.look("group", likely=likely)
    assert verdict is not None
    assert verdict.failure == "it broke"
    assert verdict.culprit == f"the member member {ids[1]} of its group failed: it broke"
    assert verdict.members == ()


@pytest.mark.parametrize("likely", [False, True])
def test_a_record_that_is_gone_or_spoilt_is_a_failure(
    backend: ObservedBackend, verdicts: Verdicts, likely: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = make_group(backend, 3)
    succeed(backend, ids[0], ids[2])
    load = backend.inner.load

    def spoilt(wanted: list[str]) -> list[TaskState | None]:
        if ids[1] in wanted:
            raise DecodeError("not JSON")
        return load(wanted)

    monkeypatch.setattr(backend.inner, "load", spoilt)
    verdict = verdicts.look("group", likely=likely)
    assert verdict is not None
    assert verdict.failure.startswith(f"the record of the member {ids[1]} of its group is gone")


def test_a_group_that_is_gone_or_spoilt_is_not_found(
    backend: ObservedBackend, verdicts: Verdicts, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(GroupNotFound):
        verdicts.look("group", likely=False)

    def spoilt(_: str) -> None:
        raise DecodeError("not JSON")

    monkeypatch.setattr(backend.inner, "load_group", spoilt)
    with pytest.raises(GroupNotFound, match="group cannot be read: not JSON"):
        verdicts.look("group", likely=False)


# -- what it costs ------------------------------------------------------------------------------------------------------


def test_looking_again_costs_one_record_and_no_group(
    backend: ObservedBackend, verdicts: Verdicts, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = make_group(backend, 100)
    succeed(backend, *ids[:50])
    assert verdicts.look("group", likely=False) is None
    read(journal)
    monkeypatch.setattr(backend.inner, "load_group", None)
    for _ in range(10):
        assert verdicts.look("group", likely=False) is None
        assert read(journal) == 1


@pytest.mark.parametrize("order", ["in order", "in reverse", "at random"])
def test_looking_after_each_member_reads_a_few_records_for_each_of_them_in_all(
    backend: ObservedBackend, verdicts: Verdicts, journal: Journal, order: str
) -> None:
    count = 2000
    ids = make_group(backend, count)
    ended = ids[::-1] if order == "in reverse" else ids[:]
    if order == "at random":
        random.Random(1).shuffle(ended)  # noqa: S311 - the same each time
    for uuid in ended[:-1]:
        succeed(backend, uuid)
        assert verdicts.look("group", likely=False) is None
    succeed(backend, ended[-1])
    assert verdicts.look("group", likely=False) is not None
    assert read(journal) <= 6 * count


def test_records_are_read_some_at_a_time_and_never_very_many(
    backend: ObservedBackend, verdicts: Verdicts, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = make_group(backend, 5000)
    succeed(backend, *ids[:4000])
    sizes: list[int] = []
    load = backend.inner.load

    def measured(wanted: list[str]) -> list[TaskState | None]:
        sizes.append(len(wanted))
        return load(wanted)

    monkeypatch.setattr(backend.inner, "load", measured)
    assert verdicts.look("group", likely=False) is None
    assert sizes[:5] == [1, 4, 16, 64, 256]
    assert max(sizes) == _verdicts.LARGEST_LOOK


def test_a_group_is_forgotten_when_told(backend: ObservedBackend, verdicts: Verdicts) -> None:
    make_group(backend, 3)
    verdicts.look("group", likely=False)
    verdicts.forget("group")
    verdicts.forget("group")
    assert verdicts.witness("group") is None


def test_only_so_much_is_remembered_of_the_groups_looked_at_last(
    backend: ObservedBackend, verdicts: Verdicts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_verdicts, "REMEMBERED", 10)
    for name in ("one", "two", "three", "four"):
        make_group(backend, 4, name)
    for name in ("one", "two", "one", "three", "four"):
        assert verdicts.look(name, likely=False) is None
    assert [verdicts.witness(name) for name in ("one", "two", "three", "four")] == [
        None,
        None,
        "task_three_0",
        "task_four_0",
    ]
    make_group(backend, 50, "large")
    assert verdicts.look("large", likely=False) is None
    assert verdicts.witness("large") == "task_large_0"


def test_the_first_member_that_runs_is_found_whatever_became_of_those_before_it(
    backend: ObservedBackend, verdicts: Verdicts, journal: Journal
) -> None:
    ids = make_group(backend, 8)
    succeed(backend, ids[0], ids[3])
    fail(backend, ids[1])
    backend.forget([ids[2]])
    assert verdicts.first_running(ids, 0) == 4
    read(journal)
    assert verdicts.first_running(ids, 4) == 4
    assert read(journal) == 1
    succeed(backend, *ids[4:])
    assert verdicts.first_running(ids, 4) == 8
