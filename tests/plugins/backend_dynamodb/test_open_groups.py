"""The list of chords that have not ended: kept apart for each application, mended when it is read, and no more than a hint."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from machinery.abc import GroupMeta, Signature
from machinery.errors import BackendUnavailable
from machinery.testing._expectations import in_threads
from machinery_backend_dynamodb import DynamodbBackend, _open_groups
from machinery_backend_dynamodb._keys import SHARDS, chord_name, open_groups_key, open_groups_keys
from tests.plugins.backend_dynamodb.conftest import Raw

CALLBACK = Signature("sum", uuid="chord_1")
LATER = datetime.now(UTC) + timedelta(days=1)
TALLY = "group_1/machinery/tally"
QUEUE = "machinery_tasks"
KEY = open_groups_key("", QUEUE, "group_1")
"""Where ``group_1`` is listed."""
LONG_AGO = 2 * 3600
NAME = chord_name("group_1")


def make_chord(backend: DynamodbBackend, uuid: str = "group_1") -> None:
    backend.create_group(GroupMeta(uuid, ("u1", "u2"), created_at=datetime.now(UTC)), CALLBACK)


def put_on_list(raw: Raw, uuid: str, seconds_ago: float) -> None:
    """As it is when the chord's sender has died since."""
    raw.client.update_item(
        TableName=raw.groups,
        Key={"GroupUUID": {"S": open_groups_key("", QUEUE, uuid)}},
        UpdateExpression="SET #chord = :at",
        ExpressionAttributeNames={"#chord": chord_name(uuid)},
        ExpressionAttributeValues={":at": {"N": str(int((time.time() - seconds_ago) * 1000))}},
    )


def on_list(raw: Raw) -> set[str]:
    """The names of all chords in all items of the list."""
    items = [raw.group(key) or {} for key in open_groups_keys("", QUEUE)]
    return {name for item in items for name in item} - {"GroupUUID", "TTL"}


def test_a_chord_is_listed_until_it_is_closed(backend: DynamodbBackend, raw: Raw) -> None:
    make_chord(backend)
    assert backend.open_groups(LATER, 9) == ["group_1"]
    assert on_list(raw) == {NAME}

    backend.close_group("group_1")

    assert backend.open_groups(LATER, 9) == []
    assert on_list(raw) == set()


def test_a_group_without_callback_costs_no_listing(backend: DynamodbBackend, raw: Raw) -> None:
    backend.create_group(GroupMeta("group_1", ("u1",), created_at=datetime.now(UTC)))
    backend.close_group("group_1")

    assert raw.group_keys() == ["group_1", TALLY]


def test_chords_are_shared_out_and_listed_together(backend: DynamodbBackend, raw: Raw) -> None:
    made = [f"group_{number}" for number in range(60)]
    for uuid in made:
        make_chord(backend, uuid)

    assert sorted(backend.open_groups(LATER, 100)) == sorted(made)
    assert sum(raw.group(key) is not None for key in open_groups_keys("", QUEUE)) == SHARDS
    assert backend.open_groups(LATER, 3) == backend.open_groups(LATER, 100)[:3]
    assert backend.open_groups(LATER, 0) == []


def test_chords_made_and_closed_by_many_at_once_are_all_listed(make_backend: Callable[..., DynamodbBackend]) -> None:
    backends = [make_backend() for _ in range(6)]

    def make(at: int) -> None:
        for number in range(8):
            make_chord(backends[at], f"group_{at}_{number}")
            if number % 2:
                backends[at].close_group(f"group_{at}_{number}")

    in_threads(6, make)

    left = {f"group_{at}_{number}" for at in range(6) for number in range(0, 8, 2)}
    assert set(backends[0].open_groups(LATER, 100)) == left


def test_who_makes_progress_is_not_idle(backend: DynamodbBackend, raw: Raw) -> None:
    make_chord(backend)
    put_on_list(raw, "group_1", 60)
    raw.set_group("Progress", {"N": str(int((time.time() - 60) * 1000))}, TALLY)
    half_a_minute_ago = datetime.now(UTC) - timedelta(seconds=30)
    assert backend.open_groups(half_a_minute_ago, 9) == ["group_1"]

    backend.finish_members([("group_1", "u1")])

    assert backend.open_groups(half_a_minute_ago, 9) == []
    assert backend.open_groups(LATER, 9) == ["group_1"]


def test_chords_that_were_made_just_now_cost_no_reading(
    backend: DynamodbBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_chord(backend)
    call = backend._client.call
    reads: list[Any] = []

    def count(operation: str, **parameters: Any) -> dict[str, Any]:
        reads.append(parameters["RequestItems"])
        return call(operation, **parameters)

    monkeypatch.setattr(backend._client, "call", count)

    assert backend.open_groups(datetime.now(UTC) - timedelta(seconds=30), 9) == []

    ((wanted,),) = [each.values() for each in reads]
    assert len(wanted["Keys"]) == SHARDS


def test_applications_in_one_table_see_their_own_chords_alone(make_backend: Callable[..., DynamodbBackend]) -> None:
    """A worker that looks after another application's chord would send its callback to the wrong broker."""
    make_chord(make_backend(default_queue="ours"))

    assert make_backend(default_queue="ours").open_groups(LATER, 9) == ["group_1"]
    assert make_backend(default_queue="theirs").open_groups(LATER, 9) == []
    assert make_backend(default_queue="ours", broker="redis://elsewhere").open_groups(LATER, 9) == []


def test_a_password_makes_no_difference_and_cannot_be_guessed_from_the_key(
    make_backend: Callable[..., DynamodbBackend], raw: Raw
) -> None:
    sender, worker = (make_backend(broker=f"amqp://me:{password}@h") for password in ("hunter2", "changed"))
    make_chord(sender)

    assert worker.open_groups(LATER, 9) == ["group_1"]
    assert not any("hunter2" in key for key in raw.group_keys())


def test_a_chord_whose_sender_died_before_its_group_was_written_is_dropped(backend: DynamodbBackend, raw: Raw) -> None:
    put_on_list(raw, "group_lost", LONG_AGO)
    put_on_list(raw, "group_to_come", 60)

    assert backend.open_groups(LATER, 9) == []

    assert on_list(raw) == {chord_name("group_to_come")}


def test_a_sender_that_dies_leaves_no_chord_that_is_not_listed(
    backend: DynamodbBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise BackendUnavailable("died")

    with monkeypatch.context() as patch:
        patch.setattr("machinery_backend_dynamodb._groups.write_all", die)
        with pytest.raises(BackendUnavailable):
            make_chord(backend)
    assert backend.open_groups(LATER, 9) == []

    make_chord(backend)  # again

    assert backend.open_groups(LATER, 9) == ["group_1"]


def test_a_chord_that_has_ended_without_being_taken_off_is_not_shown(backend: DynamodbBackend, raw: Raw) -> None:
    make_chord(backend)
    backend.close_group("group_1")
    put_on_list(raw, "group_1", 60)
    assert backend.open_groups(LATER, 9) == []
    assert on_list(raw) == {NAME}

    put_on_list(raw, "group_1", LONG_AGO)
    assert backend.open_groups(LATER, 9) == []
    assert on_list(raw) == set()


def test_a_chord_that_has_expired_is_not_shown(backend: DynamodbBackend, raw: Raw) -> None:
    make_chord(backend)
    put_on_list(raw, "group_1", LONG_AGO)
    raw.set_group("TTL", {"N": str(int(time.time()) - 1)}, TALLY)

    assert backend.open_groups(LATER, 9) == []
    assert on_list(raw) == set()


def test_closing_what_has_no_group_takes_it_off_unless_it_may_be_about_to_be_written(
    backend: DynamodbBackend, raw: Raw
) -> None:
    put_on_list(raw, "group_1", 60)
    backend.close_group("group_1")
    assert on_list(raw) == {NAME}

    put_on_list(raw, "group_1", LONG_AGO)
    backend.close_group("group_1")
    assert on_list(raw) == set()


def test_a_chord_that_is_made_again_while_it_is_dropped_stays(
    backend: DynamodbBackend, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_list(raw, "group_1", LONG_AGO)
    drop = backend._groups._open._drop

    def overtaken(ended: dict[str, int]) -> None:
        make_chord(backend)
        drop(ended)

    monkeypatch.setattr(backend._groups._open, "_drop", overtaken)
    assert backend.open_groups(LATER, 9) == []
    monkeypatch.undo()

    assert backend.open_groups(LATER, 9) == ["group_1"]


def test_many_lost_chords_are_dropped_a_few_at_each_look(
    backend: DynamodbBackend, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_open_groups, "MOST_DROPPED", 4)
    for number in range(10):
        put_on_list(raw, f"group_{number}", LONG_AGO)

    left = []
    for _ in range(3):
        assert backend.open_groups(LATER, 9) == []
        left.append(len(on_list(raw)))

    assert left == [6, 2, 0]


def test_a_tally_that_cannot_be_read_hides_no_other_chord(backend: DynamodbBackend, raw: Raw) -> None:
    for uuid in ("group_1", "group_2"):
        make_chord(backend, uuid)
    raw.set_group("Progress", {"S": "of late"}, TALLY)

    assert backend.open_groups(LATER, 9) == ["group_2"]


def test_where_the_list_is_full_a_chord_is_made_without_being_listed(backend: DynamodbBackend, raw: Raw) -> None:
    raw.put_group(KEY, Padding={"S": "x" * (400 * 1024 - len(f"GroupUUID{KEY}Padding") - 20)})

    make_chord(backend)

    assert backend.open_groups(LATER, 9) == []
    assert backend.load_group("group_1").callback == CALLBACK
    backend.finish_members([("group_1", "u1")])
    assert backend.claim_chord("group_1", "u1")
    backend.close_group("group_1")


def test_a_list_that_has_gone_begins_anew(backend: DynamodbBackend, raw: Raw) -> None:
    make_chord(backend)
    raw.client.delete_item(TableName=raw.groups, Key={"GroupUUID": {"S": KEY}})
    assert backend.open_groups(LATER, 9) == []

    make_chord(backend)

    assert backend.open_groups(LATER, 9) == ["group_1"]


def test_the_list_lives_long_and_is_renewed_by_every_write(backend: DynamodbBackend, raw: Raw) -> None:
    for change in (make_chord, lambda backend: backend.close_group("group_1")):
        put_on_list(raw, "group_other", 0)
        raw.client.update_item(
            TableName=raw.groups,
            Key={"GroupUUID": {"S": KEY}},
            UpdateExpression="SET #ttl = :soon",
            ExpressionAttributeNames={"#ttl": "TTL"},
            ExpressionAttributeValues={":soon": {"N": str(int(time.time()) + 60)}},
        )

        change(backend)

        assert int((raw.group(KEY) or {})["TTL"]["N"]) - time.time() > 300 * 24 * 3600
