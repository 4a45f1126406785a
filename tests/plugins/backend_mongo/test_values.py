"""Results as BSON: what Go reads, and all that Go and others have written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import Binary, Decimal128, Int64, ObjectId

from machinery._values import decode_value
from machinery.abc import TaskResult
from machinery.errors import ArgumentError, DecodeError, EncodeError
from machinery_backend_mongo._documents import CODEC
from machinery_backend_mongo._values import from_bson, from_results, to_bson, to_results


@pytest.mark.parametrize(
    ("type_name", "value", "stored", "kind"),
    [
        ("int64", 5, 5, Int64),
        ("int8", -1, -1, Int64),
        ("uint32", 2**32 - 1, 2**32 - 1, Int64),
        ("uint64", 2**63 - 1, 2**63 - 1, Int64),
        ("uint64", 2**63, "9223372036854775808", str),
        ("float64", 2.0, 2.0, float),
        ("float64", 2, 2.0, float),
        ("float32", 0.5, 0.5, float),
        ("bool", True, True, bool),
        ("string", "{}", "{}", str),
        ("string", "\ud83d\ude00 \udfff", "\ufffd\ufffd \ufffd", str),
        ("[]string", ["\ud800", "ü"], ["\ufffd", "ü"], list),
        ("json", ["\ud800"], '["\ufffd"]', str),
        ("[]uint8", b"\x00\xff", "AP8=", str),
        ("[]byte", b"", "", str),
        ("[]uint8", [0, 255], "AP8=", str),
        ("[]uint8", None, None, type(None)),
        ("[]int64", None, None, type(None)),
        ("[]int64", [], [], list),
        ("[]string", ["a"], ["a"], list),
        ("json", {"a.b": {"$c": None}}, '{"a.b":{"$c":null}}', str),
        ("json", None, "null", str),
        ("json", 5, "5", str),
        ("json", "text", '"text"', str),
    ],
)
def test_what_is_stored_is_what_go_reads(type_name: str, value: Any, stored: Any, kind: type) -> None:
    found = to_bson(type_name, value)

    assert (found, type(found)) == (stored, kind)


def test_integers_in_lists_are_int64_too() -> None:
    assert {type(element) for element in to_bson("[]int32", [1, 2])} == {Int64}
    assert to_bson("[]uint64", [1, 2**64 - 1]) == [1, "18446744073709551615"]
    assert [type(element) for element in to_bson("[]float64", [1, 2.5])] == [float, float]


@pytest.mark.parametrize(
    ("type_name", "value"),
    [
        ("int64", -(2**63)),
        ("uint64", 2**64 - 1),
        ("[]uint64", [0, 2**64 - 1]),
        ("float64", 1e308),
        ("float32", 0.10000000149011612),
        ("string", "null and void"),
        ("string", '{"looks": "like json"} and goes on'),
        ("string", "a\0b"),
        ("[]uint8", bytes(range(256))),
        ("[]bool", [True, False]),
        ("[]string", ["", "ü"]),
        ("json", {"a.b": [1, 2.5, None, {"$set": {"": 2**80}}], "nul\0key": -(2**70), "1e400": 1.0}),
        ("json", [[[[]]]]),
        ("json", "text"),
        ("json", "null"),
        ("json", None),
        ("json", True),
    ],
)
def test_values_come_back_through_bson(type_name: str, value: Any) -> None:
    document = bson.encode({"results": to_results((TaskResult(type_name, value),))}, codec_options=CODEC)

    (result,) = from_results(bson.decode(document, codec_options=CODEC)["results"])

    assert result.type == type_name
    assert decode_value(type_name, result.value) == value


def test_json_deeper_than_bson_nests_comes_back() -> None:
    value: Any = 0
    for _ in range(300):
        value = [value]
    document = bson.encode({"results": to_results((TaskResult("json", value),))})

    (result,) = from_results(bson.decode(document)["results"])

    assert decode_value("json", result.value) == value


@pytest.mark.parametrize(
    ("type_name", "stored", "value"),
    [
        ("int64", 5, 5),
        ("int8", Int64(5), 5),
        ("int64", Decimal128("5"), 5),
        ("uint64", Decimal128("18446744073709551615"), 2**64 - 1),
        ("int64", "5", 5),
        ("float64", 5, 5.0),
        ("float64", Decimal128("2.5"), 2.5),
        ("float64", "2.5", 2.5),
        ("[]uint8", b"\x00\xff", b"\x00\xff"),
        ("[]uint8", Binary(b"\x00\xff", 5), b"\x00\xff"),
        ("[]uint8", [0, 255], b"\x00\xff"),
        ("[]uint8", None, b""),
        ("[]int64", None, []),
        ("[]int32", [1, Int64(2), Decimal128("3")], [1, 2, 3]),
        ("[]float64", [1, 2.5], [1.0, 2.5]),
        ("json", {"a": 9007199254740992.0, "b": [Int64(1), None]}, {"a": 9007199254740992.0, "b": [1, None]}),
        ("json", None, None),
    ],
    ids=repr,
)
def test_every_form_is_read(type_name: str, stored: Any, value: Any) -> None:
    document = bson.decode(bson.encode({"results": [{"type": type_name, "value": stored}]}), codec_options=CODEC)

    (result,) = from_results(document["results"])

    assert decode_value(type_name, result.value) == value
    assert type(result.value) in {int, float, str, list, dict, type(None)}


@pytest.mark.parametrize("odd", [ObjectId("65e1c2a50000000000000000"), datetime(2024, 3, 1, tzinfo=UTC)], ids=repr)
def test_what_json_has_no_type_for_is_its_text(odd: Any) -> None:
    assert from_bson("json", {"odd": [odd]}) == {"odd": [str(odd)]}


def test_a_number_that_is_none_is_no_integer() -> None:
    with pytest.raises(ArgumentError):
        decode_value("int64", from_bson("int64", Decimal128("NaN")))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("text", "not an array"),
        ([5], "not a document"),
        ([{"type": 5, "value": 5}], "not a string"),
        ([{"type": "json", "value": "{"}], "JSON"),
    ],
)
def test_what_is_no_list_of_results_is_named(found: Any, said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        from_results(found)


def test_results_that_say_little_are_read_as_go_reads_json() -> None:
    assert from_results([None, {}, {"value": 5}]) == (
        TaskResult("", None),
        TaskResult("", None),
        TaskResult("", 5),
    )


@pytest.mark.parametrize(
    ("type_name", "value"), [("[]uint8", [256]), ("[]uint8", ["a"]), ("float64", 10**400), ("json", object())]
)
def test_what_does_not_fit_its_type_is_refused(type_name: str, value: Any) -> None:
    with pytest.raises(EncodeError):
        to_bson(type_name, value)
