"""What goes out: escapes, order, extensions, and no error but `EncodeError`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum, StrEnum
from typing import Any

import pytest

from machinery._signatures import FIELDS, Signature, raw_signature
from machinery._states import GroupMeta, State, TaskResult, TaskState
from machinery._values import Arg
from machinery.errors import EncodeError
from machinery.wire import (
    decode_signature,
    decode_state,
    encode_group,
    encode_signature,
    encode_state,
    encode_value,
    plain_value,
)


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    BIG = 3


def args_of(body: bytes) -> str:
    text = body.decode()
    return text[text.index('"Args":') + 7 : text.index(',"Headers"')]


def test_header_keys_are_sorted_by_their_utf8_bytes() -> None:
    headers = {"é": 1, "😀": 2, "\uffff": 3, "a": {"z": 1, "b": None}, "B": [1.0, True]}

    body = encode_signature(Signature("add", headers=headers)).decode()

    assert '"Headers":{"B":[1,true],"a":{"b":null,"z":1},"é":1,"\uffff":3,"😀":2}' in body


def test_no_headers_and_empty_headers_differ() -> None:
    assert b'"Headers":null' in encode_signature(Signature("add"))
    assert b'"Headers":{}' in encode_signature(Signature("add", headers={}))


def test_every_string_of_a_message_is_escaped_for_html() -> None:
    body = encode_signature(Signature("<n>", [{"<k>": "&"}], uuid="&", headers={"<": ">"}, sqs_receipt_handle="\u2028"))

    assert not set(body) & set(b"<>&")
    assert b"\\u2028" in body
    assert decode_signature(body).name == "<n>"


def test_a_dict_keeps_the_order_of_its_keys_and_its_floats() -> None:
    body = encode_signature(Signature("add", [{"b": 1.0, "a": 2}]))

    assert args_of(body) == '[{"Name":"","Type":"json","Value":{"b":1.0,"a":2}}]'


def test_the_narrow_float_type_is_written_with_its_own_digits() -> None:
    body = encode_signature(Signature("add", [Arg("float32", 0.1), Arg("[]float32", [16777216.0, 1 / 3])]))

    assert '"Value":0.1}' in args_of(body)
    assert '"Value":[16777216,0.33333334]}' in args_of(body)


def test_instances_of_subclasses_are_written_as_what_they_are() -> None:
    signature = Signature(
        Colour.RED, [Arg("json", {Colour.RED: [Size.BIG]})], retry_count=Size.BIG, headers={"s": Size.BIG}
    )

    body = json.loads(encode_signature(signature))

    assert (body["Name"], body["RetryCount"], body["Headers"]) == ("red", 3, {"s": 3})
    assert body["Args"][0]["Value"] == {"red": [3]}


def test_times_in_other_zones_keep_them() -> None:
    eta = datetime(2024, 3, 1, 12, 30, tzinfo=timezone(timedelta(hours=-3, minutes=-30)))

    assert b'"ETA":"2024-03-01T12:30:00-03:30"' in encode_signature(Signature("add", eta=eta))
    assert b'"ETA":"2024-03-01T12:30:00Z"' in encode_signature(
        Signature("add", eta=eta.replace(tzinfo=timezone(timedelta())))
    )


def test_crashes_are_a_key_of_ours_that_is_left_out_when_there_are_none() -> None:
    state = TaskState("a", "add", State.STARTED, created_at=datetime(2024, 3, 1, tzinfo=UTC))

    assert b"Crashes" not in encode_state(state)
    assert encode_state(TaskState("a", crashes=2)).endswith(b',"TTL":0,"Crashes":2}')


def test_an_error_text_that_is_no_unicode_is_stored_all_the_same() -> None:
    state = TaskState("a", state=State.FAILURE, error="no file caf\udce9")

    assert decode_state(encode_state(state)).error == "no file caf\ufffd"


def test_a_value_of_a_result_is_written_by_its_type() -> None:
    assert encode_value("[]uint8", b"hi") == '"aGk="'
    assert encode_value("float64", 2.0) == "2"
    assert encode_value("json", {"a": (1, None, b"hi", 1.5)}) == '{"a":[1,null,"aGk=",1.5]}'


def test_a_plain_value_is_what_any_store_can_keep() -> None:
    (arg,) = decode_signature(b'{"Args":[{"Type":"json","Value":{"a":[1.50,null,"x"]}}]}').args

    plain = plain_value({"raw": arg.value, "bytes": b"hi", "tuple": (1, True)})

    assert plain == {"raw": {"a": [1.5, None, "x"]}, "bytes": "aGk=", "tuple": [1, True]}
    assert type(plain["raw"]["a"][0]) is float


def looped() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def test_a_value_without_an_end_has_no_plain_form() -> None:
    with pytest.raises(EncodeError, match="nested too deeply, or contains itself"):
        plain_value(looped())


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ((Arg("float64", float("nan")),), "argument 1 of add: JSON has no number nan"),
        ((Arg("float32", 1e39),), "argument 1 of add: 1e\\+39 does not fit float32"),
        ((Arg("json", [float("inf")]),), "argument 1 of add: JSON has no number inf"),
        ((Arg("int64", 1), Arg("json", {1}, "x")), "argument 'x' of add: a value of type set"),
        ((Arg("json", {1: 2}),), "argument 1 of add: a key of type int"),
        ((Arg("int64", 10**5000),), "argument 1 of add: an integer of 16610 bits"),
        ((Arg("json", looped()),), "argument 1 of add: the value is nested too deeply"),
        (("plain",), "the signature of add cannot be encoded"),
        ((Arg([], 1),), "the signature of add cannot be encoded"),  # type: ignore[arg-type]  # that is the point
    ],
)
def test_an_argument_that_json_cannot_say_is_named(args: tuple[Arg, ...], complaint: str) -> None:
    with pytest.raises(EncodeError, match=complaint):
        encode_signature(Signature("add").with_(args=args))


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [object(), 1.5, "text", b"bytes", [1], {"a": object()}, -1, 2**64, looped(), True])
def test_whatever_a_field_holds_it_is_written_or_refused(field: str, value: object) -> None:
    signature = Signature("add", [1]).with_(**{field: value})

    try:
        body = encode_signature(signature)
    except EncodeError:
        return

    json.loads(body)


def test_a_priority_or_a_count_out_of_range_is_refused() -> None:
    for field, value in (
        ("priority", 256),
        ("priority", -1),
        ("retry_count", 2**63),
        ("group_task_count", -(2**63) - 1),
    ):
        with pytest.raises(EncodeError):
            encode_signature(Signature("add").with_(**{field: value}))


def test_a_signature_that_holds_itself_is_refused() -> None:
    loop = raw_signature("a", (), "", "", None, "", 0, None, 0, False, 0, 0, (), (), None, "", "", False, False)
    object.__setattr__(loop, "on_success", (loop,))

    with pytest.raises(EncodeError, match="nests more than"):
        encode_signature(loop)


@pytest.mark.parametrize(
    "state",
    [
        TaskState("a", ttl=2**63),
        TaskState("a", created_at=datetime(2024, 3, 1)),  # noqa: DTZ001 - that is the point
        TaskState("a", results=(TaskResult("json", object()),)),
        TaskState("a", results=("x",)),  # type: ignore[arg-type]  # that is the point
        TaskState(5),  # type: ignore[arg-type]  # likewise
        TaskState("a", crashes="x"),  # type: ignore[arg-type]  # likewise
    ],
)
def test_a_state_that_cannot_be_written_is_an_encode_error(state: TaskState) -> None:
    with pytest.raises(EncodeError):
        encode_state(state)


@pytest.mark.parametrize(
    "group",
    [
        GroupMeta("a", (5,)),  # type: ignore[arg-type]  # that is the point
        GroupMeta("a", ttl=2**63),
        GroupMeta("a", created_at=datetime(2024, 3, 1)),  # noqa: DTZ001 - likewise
        GroupMeta(None),  # type: ignore[arg-type]  # likewise
    ],
)
def test_a_group_that_cannot_be_written_is_an_encode_error(group: GroupMeta) -> None:
    with pytest.raises(EncodeError):
        encode_group(group)
