"""Signatures: frozen, checked when they are made, cheap to copy."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime
from pickle import dumps, loads
from typing import Any

import pytest

from machinery._signatures import FIELDS, Signature, new_task_uuid, raw_signature
from machinery._values import Arg
from machinery.errors import EncodeError

FULL = Signature(
    "add",
    [1, "a"],
    uuid="u",
    routing_key="q",
    eta=datetime(2024, 3, 1, tzinfo=UTC),
    group_uuid="g",
    group_task_count=2,
    headers={"k": "v"},
    priority=9,
    immutable=True,
    retry_count=3,
    retry_timeout=1,
    on_success=[Signature("next")],
    on_error=[Signature("sorry")],
    chord_callback=Signature("callback"),
    broker_message_group_id="m",
    sqs_receipt_handle="r",
    stop_task_deletion_on_error=True,
    ignore_when_task_not_registered=True,
)


def test_arguments_are_given_plain_or_with_their_type() -> None:
    signature = Signature("add", [1, Arg("int8", 2), Arg("string", "x", "label")])

    assert signature.args == (Arg("int64", 1), Arg("int8", 2), Arg("string", "x", "label"))
    assert Signature("add", None).args == Signature("add").args == ()


def test_a_signature_is_a_frozen_value() -> None:
    assert deepcopy(FULL) == loads(dumps(FULL)) == FULL  # noqa: S301 - our own
    assert Signature("add") != FULL
    with pytest.raises(FrozenInstanceError):
        FULL.name = "other"  # type: ignore[misc]  # that is the point


def test_headers_are_copied_so_that_a_later_change_does_not_reach_the_message() -> None:
    headers = {"k": "v"}
    signature = Signature("add", headers=headers)

    headers["k"] = "late"

    assert signature.headers == {"k": "v"}


def test_a_copy_differs_in_what_was_changed_and_nothing_else() -> None:
    for field in FIELDS:
        copy = FULL.with_(**{field: "changed"})

        assert [name for name in FIELDS if getattr(copy, name) != getattr(FULL, name)] == [field]
    assert FULL.with_() == FULL


def test_a_copy_with_a_field_there_is_not_is_an_error_that_lists_the_fields() -> None:
    with pytest.raises(TypeError, match="no field 'queue'; it has name, args, uuid"):
        FULL.with_(queue="q")


def test_raw_values_are_taken_in_the_order_of_the_fields() -> None:
    assert raw_signature(*[getattr(FULL, field) for field in FIELDS]) == FULL


def test_every_new_uuid_is_another() -> None:
    assert new_task_uuid() != new_task_uuid()
    assert new_task_uuid().startswith("task_")


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"name": ""}, "needs the task's name, a non-empty string, not ''"),
        ({"name": 5}, "needs the task's name, a non-empty string, not 5"),
        ({"eta": datetime(2024, 3, 1)}, "eta 2024-03-01T00:00:00 of add has no time zone"),  # noqa: DTZ001 - that is the point
        ({"eta": "2024-03-01T00:00:00Z"}, "the eta of add is of type str, not an aware datetime"),
        ({"priority": 256}, "the priority of add is 256, not a whole number from 0 to 255"),
        ({"priority": -1}, "the priority of add is -1"),
        ({"priority": "high"}, "the priority of add is 'high'"),
        ({"retry_count": -1}, "the retry_count of add is -1, not a whole number"),
        ({"retry_count": "3"}, "the retry_count of add is '3'"),
        ({"retry_timeout": 1.5}, "the retry_timeout of add is 1.5"),
        ({"group_task_count": 2**63}, "the group_task_count of add is 9223372036854775808"),
        ({"on_success": ["next"]}, "the on_success of add holds a str, not a signature"),
        ({"on_error": [None]}, "the on_error of add holds a NoneType, not a signature"),
        ({"chord_callback": 5}, "the chord_callback of add holds a int, not a signature"),
        ({"args": [{1}]}, "argument 1 of add is of type set"),
    ],
)
def test_what_the_wire_cannot_say_is_refused_when_the_signature_is_made(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(EncodeError) as caught:
        Signature(**{"name": "add", **fields})

    assert complaint in str(caught.value)
