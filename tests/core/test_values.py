"""Python values on their way to the wire and back."""

from __future__ import annotations

import json
from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import FrozenInstanceError
from datetime import date
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pickle import dumps, loads
from random import Random
from typing import Annotated, Any, Literal, NewType, Optional, TypeVar, Union

import pytest

from machinery._go_json import JsonFloat
from machinery._signatures import Signature
from machinery._values import (
    WIRE_TYPES,
    Arg,
    TaskResult,
    decode_value,
    encode_results,
    result_types,
    to_arg,
    typed_arg,
    wire_type,
)
from machinery.errors import ArgumentError, EncodeError
from machinery.wire import decode_signature, encode_signature

INTEGERS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64, "int": 64}


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    BIG = 3


class Kind(Enum):
    ONE = 1


class Loud(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "LOUD"


class Index:
    """What numpy's integers are to us."""

    def __index__(self) -> int:
        return 7


class NoIndex:
    """What numpy's arrays are to us."""

    def __index__(self) -> int:
        raise TypeError("only length-1 arrays can be converted")


class BrokenRepr:
    def __repr__(self) -> str:
        raise RuntimeError("broken")


Point = namedtuple("Point", "x y")  # noqa: PYI024 - a plain one is the case
UserId = NewType("UserId", int)
T = TypeVar("T")


def arg(value: object) -> Arg:
    return to_arg(value, 0, "add")


def pair(made: Arg | TaskResult) -> tuple[str, Any]:
    return (made.type, made.value)


# ----------------------------------------------------------------------------------------------------- inferred types


@pytest.mark.parametrize(
    ("value", "type_name", "sent"),
    [
        (1, "int64", 1),
        (-(2**63), "int64", -(2**63)),
        (2**63, "uint64", 2**63),
        (2**64 - 1, "uint64", 2**64 - 1),
        (1.0, "float64", 1.0),
        ("é\U0001f600", "string", "é\U0001f600"),
        (True, "bool", True),
        (b"hi", "[]uint8", b"hi"),
        (bytearray(b"hi"), "[]uint8", b"hi"),
        (memoryview(b"hi"), "[]uint8", b"hi"),
        ([1, 2], "[]int64", [1, 2]),
        ((1, 2), "[]int64", [1, 2]),
        ([1, 2**63], "[]uint64", [1, 2**63]),
        ([-1, 2**63], "json", [-1, 2**63]),
        ([2**70], "json", [2**70]),
        ([1.5, 2.0], "[]float64", [1.5, 2.0]),
        ([1.5, 2], "[]float64", [1.5, 2.0]),
        ([1.5, 2**53 + 1], "json", [1.5, 2**53 + 1]),
        (["a", "é"], "[]string", ["a", "é"]),
        ([True, False], "[]bool", [True, False]),
        ([True, 1], "json", [True, 1]),
        ([], "json", []),
        ((), "json", []),
        ([1, "a"], "json", [1, "a"]),
        ([1, None], "json", [1, None]),
        ([[1], [2]], "json", [[1], [2]]),
        (None, "json", None),
        ({"a": {"b": (1, 2.5, None)}}, "json", {"a": {"b": [1, 2.5, None]}}),
        (OrderedDict(b=1, a=2), "json", {"b": 1, "a": 2}),
        (UserDict(a=1), "json", {"a": 1}),
        (Point(1, 2), "[]int64", [1, 2]),
        (Colour.RED, "string", "red"),
        (Loud("quiet"), "string", "quiet"),
        (Size.BIG, "int64", 3),
        (Index(), "int64", 7),
        ([Size.BIG, 1, Index()], "[]int64", [3, 1, 7]),
        ([Colour.RED], "[]string", ["red"]),
        ({Colour.RED: Size.BIG, "x": Index()}, "json", {"red": 3, "x": 7}),
    ],
)
def test_a_plain_value_says_its_type_itself(value: object, type_name: str, sent: object) -> None:
    made = arg(value)

    assert pair(made) == (type_name, sent)
    assert json.dumps(list(made.value) if isinstance(sent, bytes) else made.value) is not None
    assert type(made.value) is type(sent)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (2**64, "argument 1 of add: 18446744073709551616 fits neither int64 nor uint64"),
        (-(2**63) - 1, "fits neither int64 nor uint64"),
        (float("nan"), "argument 1 of add: JSON has no number nan"),
        ([1.0, float("inf")], "argument 1 of add: JSON has no number inf"),
        ({"a": [float("-inf")]}, "JSON has no number -inf"),
        ("caf\udce9", "argument 1 of add: the text contains a lone surrogate"),
        (["\ud800"], "lone surrogate"),
        ({"\ud800": 1}, "lone surrogate"),
        ({1, 2}, "argument 1 of add is of type set, which cannot travel"),
        (date(2024, 3, 1), "is of type datetime.date"),
        (Decimal("1.5"), "is of type decimal.Decimal"),
        (Kind.ONE, "which cannot travel"),
        (range(3), "is of type range"),
        (NoIndex(), "which cannot travel"),
        ([object()], "is of type object"),
        ([b"bytes inside"], "is of type bytes"),
        ({1: 2}, "argument 1 of add has a dict key of type int; JSON's keys are strings"),
        ({"a": 10**5000}, "an integer of 16610 bits is too long"),
        pytest.param(10**5000, "argument 1 of add: a value of type int fits neither", id="huge"),
    ],
)
def test_what_json_cannot_say_is_an_error_that_names_the_argument(value: object, complaint: str) -> None:
    with pytest.raises(EncodeError) as caught:
        arg(value)

    assert complaint in str(caught.value)


def test_a_value_that_contains_itself_or_is_too_deep_is_an_error() -> None:
    loop: dict[str, Any] = {}
    loop["a"] = [loop]
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep]

    for value in (loop, deep):
        with pytest.raises(EncodeError, match="argument 1 of add contains itself, or is nested more than 100 deep"):
            arg(value)


def test_the_same_list_twice_is_no_loop() -> None:
    row = [1, None]

    assert arg([row, row]).value == [[1, None], [1, None]]


def test_a_later_change_of_the_value_does_not_reach_the_message() -> None:
    inner = [1, "a"]
    numbers = [1, 2]
    signature = Signature("add", [{"a": inner}, numbers, Arg("[]int64", numbers)])

    inner.append("late")
    numbers.append(3)

    assert [one.value for one in signature.args] == [{"a": [1, "a"]}, [1, 2], [1, 2]]


def test_errors_count_arguments_from_one() -> None:
    with pytest.raises(EncodeError, match="argument 2 of add is of type set"):
        Signature("add", [1, {1}])


# ----------------------------------------------------------------------------------------------------- declared types


@pytest.mark.parametrize(("type_name", "bits"), INTEGERS.items())
def test_a_declared_integer_has_to_fit_and_never_wraps(type_name: str, bits: int) -> None:
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    assert arg(Arg(type_name, lowest)).value == lowest
    assert arg(Arg("u" + type_name, 2**bits - 1)).value == 2**bits - 1
    for declared, value in (
        (type_name, lowest - 1),
        (type_name, highest + 1),
        ("u" + type_name, -1),
        ("u" + type_name, 2**bits),
    ):
        with pytest.raises(EncodeError, match=f"argument 1 of add: {value} does not fit {declared} \\("):
            arg(Arg(declared, value))


@pytest.mark.parametrize(
    ("stated", "sent"),
    [
        (Arg("float64", 1), 1.0),
        (Arg("float32", 0.1), 0.1),
        (Arg("string", Colour.RED), "red"),
        (Arg("int8", Size.BIG), 3),
        (Arg("uint16", Index()), 7),
        (Arg("[]byte", b"hi"), b"hi"),
        (Arg("[]uint8", bytearray(b"hi")), b"hi"),
        (Arg("[]uint8", [104, 105]), b"hi"),
        (Arg("[]uint8", "aGk="), b"hi"),
        (Arg("[]uint16", "aGk="), [104, 105]),
        (Arg("[]int8", (1, -1)), [1, -1]),
        (Arg("[]string", None), None),
        (Arg("[]string", []), []),
        (Arg("[]float32", [1, 2.5]), [1.0, 2.5]),
        (Arg("[]bool", [True]), [True]),
        (Arg("json", {"a": (1, None)}), {"a": [1, None]}),
    ],
)
def test_a_declared_type_decides(stated: Arg, sent: object) -> None:
    made = arg(stated)

    assert pair(made) == (stated.type, sent)
    assert type(made.value) is type(sent)


@pytest.mark.parametrize(
    ("stated", "complaint"),
    [
        (Arg("int64", True), "True of type bool is not int64"),
        (Arg("int64", 1.0), "1.0 of type float is not int64"),
        (Arg("int64", "5"), "'5' of type str is not int64"),
        (Arg("int64", None), "None of type NoneType is not int64"),
        (Arg("float64", True), "True of type bool is not float64"),
        (Arg("float64", 10**400), "does not fit float64"),
        (Arg("float64", float("inf")), "JSON has no number inf"),
        (Arg("float32", 1e39), "1e+39 does not fit float32"),
        (Arg("float32", float("nan")), "JSON has no number nan"),
        (Arg("bool", 1), "1 of type int is not bool"),
        (Arg("string", b"x"), "b'x' of type bytes is not string"),
        (Arg("string", "\ud800"), "lone surrogate"),
        (Arg("[]uint8", [256]), "argument 1 of add, element 1: 256 does not fit uint8 (0 to 255)"),
        (Arg("[]byte", "a"), "text for []byte has to be base64: illegal base64 data at input byte 0"),
        (Arg("[]int64", "ab"), "'ab' of type str is not []int64"),
        (Arg("[]int64", b"ab"), "is not []int64"),
        (Arg("[]int64", [1, None]), "argument 1 of add, element 2: None of type NoneType is not int64"),
        (Arg("[]string", {"a": 1}), "is not []string"),
        (Arg("json", {1: 2}), "has a dict key of type int"),
        (Arg("bool", BrokenRepr()), "a value of type test_values.BrokenRepr"),
        (Arg("bool", "x" * 200), "x…"),
        (Arg("time.Time", 1), "there is no type 'time.Time'; the types are bool, string, int, int8"),
        (Arg("byte", 1), "there is no type 'byte'"),
        (Arg(5, 1), "there is no type 5"),  # type: ignore[arg-type]  # that is the point
    ],
)
def test_a_value_that_is_not_of_its_declared_type_is_an_error(stated: Arg, complaint: str) -> None:
    with pytest.raises(EncodeError) as caught:
        arg(stated)

    assert str(caught.value).startswith("argument 1 of add")
    assert complaint in str(caught.value).replace("tests.core.", "")


def test_a_named_argument_is_called_by_its_name_in_errors() -> None:
    with pytest.raises(EncodeError, match="argument 'x' of add: 300 does not fit int8"):
        arg(Arg("int8", 300, "x"))
    with pytest.raises(EncodeError, match="argument 1 of add: its name is 5, not a string"):
        arg(Arg("int8", 3, 5))  # type: ignore[arg-type]  # that is the point


def test_arguments_that_were_decoded_can_be_sent_again_as_they_are() -> None:
    values = '{"Type":"float64","Value":1.50},{"Type":"json","Value":[1.10]},{"Type":"[]byte","Value":"aGk="}'
    decoded = decode_signature(f'{{"Name":"add","Args":[{values}]}}'.encode())

    again = Signature("add", decoded.args)

    assert encode_signature(again) == encode_signature(decoded)


def test_an_argument_is_a_frozen_value() -> None:
    made = Arg("int64", 1, "x")

    assert made == Arg("int64", 1, name="x") != Arg("int64", 1)
    assert deepcopy(made) == loads(dumps(made)) == made  # noqa: S301 - our own
    assert repr(made) == "Arg(type='int64', value=1, name='x')"
    with pytest.raises(FrozenInstanceError):
        made.value = 2  # type: ignore[misc]  # that is the point


# -------------------------------------------------------------------------------------------------------- annotations


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (int, "int64"),
        (float, "float64"),
        (str, "string"),
        (bool, "bool"),
        (bytes, "[]uint8"),
        (list[int], "[]int64"),
        (list[float], "[]float64"),
        (list[str], "[]string"),
        (list[bool], "[]bool"),
        (Sequence[int], "[]int64"),
        (Collection[str], "[]string"),
        (Iterable[float], "[]float64"),
        (tuple[int, ...], "[]int64"),
        (tuple[int, int], None),
        (list[bytes], None),
        (list[list[int]], None),
        (list[Any], None),
        (list, None),
        (tuple, None),
        (dict[str, int], None),
        (Mapping[str, int], None),
        (set[int], None),
        (Optional[int], "int64"),  # noqa: UP045 - both spellings have to do
        (int | None, "int64"),
        (list[int] | None, "[]int64"),
        (list[int | None], "[]int64"),
        (int | str, None),
        (Union[int, str, None], None),  # noqa: UP007 - likewise
        (Annotated[int, "positive"], "int64"),
        (Annotated[list[UserId], "ids"] | None, "[]int64"),
        (UserId, "int64"),
        (Literal["a", "b"], "string"),
        (Literal["a", 1], None),
        (Size, None),
        (Colour, None),
        (Any, None),
        (None, None),
        (T, None),
        ("int", None),
        (object, None),
        ([int], None),
    ],
    ids=repr,
)
def test_an_annotation_stands_for_a_wire_type(annotation: object, expected: str | None) -> None:
    assert wire_type(annotation) == expected


@pytest.mark.parametrize(
    ("type_name", "value", "sent"),
    [
        ("float64", 1, ("float64", 1.0)),
        ("float64", 2**53 + 1, ("int64", 2**53 + 1)),
        ("float64", True, ("bool", True)),
        ("float64", None, ("json", None)),
        ("float64", "1.5", ("string", "1.5")),
        ("int64", 1, ("int64", 1)),
        ("int64", 1.0, ("float64", 1.0)),
        ("int64", 2**63, ("uint64", 2**63)),
        ("int64", None, ("json", None)),
        ("[]int64", [], ("[]int64", [])),
        ("[]int64", (), ("[]int64", [])),
        ("[]int64", [1.5], ("[]float64", [1.5])),
        ("[]float64", [1, 2], ("[]float64", [1.0, 2.0])),
        ("[]float64", [1, 2.5], ("[]float64", [1.0, 2.5])),
        ("[]float64", [2**53 + 1], ("[]int64", [2**53 + 1])),
        ("[]string", [None], ("json", [None])),
        ("[]string", "text", ("string", "text")),
        ("[]uint8", [], ("json", [])),
        ("[]uint8", b"", ("[]uint8", b"")),
        (None, [], ("json", [])),
        (None, 1, ("int64", 1)),
    ],
)
def test_an_annotation_decides_what_the_value_leaves_open_and_no_more(
    type_name: str | None, value: object, sent: tuple[str, Any]
) -> None:
    made = typed_arg(type_name, value, 0, "add")

    assert pair(made) == sent
    assert type(made.value) is type(sent[1])
    assert not made.name


def test_an_argument_given_by_name_bears_it() -> None:
    assert typed_arg("int64", 1, "x", "add") == Arg("int64", 1, "x")
    assert typed_arg(None, "a", "x", "add") == Arg("string", "a", "x")
    assert typed_arg("float64", 1, "x", "add") == Arg("float64", 1.0, "x")
    assert typed_arg("int64", Arg("int8", 1), "x", "add") == Arg("int8", 1, "x")
    with pytest.raises(EncodeError, match="argument 'x' of add is of type set"):
        typed_arg("int64", {1}, "x", "add")
    with pytest.raises(EncodeError, match="argument 3 of add: 300 does not fit int8"):
        typed_arg("int64", Arg("int8", 300), 2, "add")


# ------------------------------------------------------------------------------------------------------------ results


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (Any, None, []),
        (int, 3, [("int64", 3)]),
        (int, 2**64 - 1, [("uint64", 2**64 - 1)]),
        (float, 2, [("float64", 2.0)]),
        (float, 2.5, [("float64", 2.5)]),
        (str, "a", [("string", "a")]),
        (str, "é", [("string", "é")]),
        (bool, True, [("bool", True)]),
        (bytes, b"hi", [("[]uint8", b"hi")]),
        (list[int], [], [("[]int64", [])]),
        (dict[str, int], {"a": 1}, [("json", {"a": 1})]),
        (tuple[()], (), []),
        (tuple[int, float], (1, 2), [("int64", 1), ("float64", 2.0)]),
        (tuple[int, float] | None, (1, 2), [("int64", 1), ("float64", 2.0)]),
        (tuple[float, ...], (1, 2, 3), [("float64", 1.0), ("float64", 2.0), ("float64", 3.0)]),
        (Any, (1, None, "a"), [("int64", 1), ("json", None), ("string", "a")]),
        (Point, Point(1, 2), [("int64", 1), ("int64", 2)]),
        (Any, (1,), [("int64", 1)]),
        (Any, ([], [1, 2]), [("json", []), ("[]int64", [1, 2])]),
    ],
)
def test_what_a_task_returned_becomes_results(
    annotation: object, value: object, expected: list[tuple[str, Any]]
) -> None:
    results = encode_results(value, result_types(annotation), "add")

    assert [pair(result) for result in results] == expected
    assert [type(result.value) for result in results] == [type(one) for _, one in expected]


def test_a_result_that_cannot_be_stored_is_an_error_that_names_the_task() -> None:
    with pytest.raises(EncodeError, match="the result of add is of type set"):
        encode_results({1}, (), "add")
    with pytest.raises(EncodeError, match="result 2 of add: JSON has no number nan"):
        encode_results((1, float("nan")), (), "add")


# ------------------------------------------------------------------------------------------------------------ reading


def number(text: str) -> JsonFloat:
    made = JsonFloat(text)
    made.text = text
    return made


@pytest.mark.parametrize(
    ("type_name", "value", "expected"),
    [
        ("bool", True, True),
        ("string", "x", "x"),
        ("int64", 5, 5),
        ("int64", "5", 5),
        ("int64", "-5", -5),
        ("int8", -128, -128),
        ("uint64", 2**64 - 1, 2**64 - 1),
        ("uint8", "255", 255),
        ("int", number("-0"), 0),
        ("float64", 5, 5.0),
        ("float64", number("1.50"), 1.5),
        ("float64", 1.5, 1.5),
        ("float64", "1.5", 1.5),
        ("float64", "2.5e-09", 2.5e-9),
        ("float64", "7", 7.0),
        ("float64", float("inf"), float("inf")),
        ("float32", number("0.1"), 0.1),
        ("[]int64", [1, "2"], [1, 2]),
        ("[]int64", None, []),
        ("[]int64", {}, []),
        ("[]int64", "", []),
        ("[]string", ["a"], ["a"]),
        ("[]float64", [1, number("2.5")], [1.0, 2.5]),
        ("[]bool", [True], [True]),
        ("[]uint8", "aGk=", b"hi"),
        ("[]byte", "aG\nk=", b"hi"),
        ("[]byte", [104, "105"], b"hi"),
        ("[]byte", None, b""),
        ("[]byte", bytearray(b"hi"), b"hi"),
        ("[]uint16", "aGk=", [104, 105]),
        ("[]uint16", b"hi", [104, 105]),
        ("[]uint16", [1000], [1000]),
        ("[]uint8", 5, b"5"),
        ("[]uint32", number("1.5"), [49, 46, 53]),
        ("[]uint8", "", b""),
        ("json", None, None),
        ("json", {"a": [number("1.50"), {"b": number("2e0")}]}, {"a": [1.5, {"b": 2.0}]}),
    ],
    ids=lambda value: value.text + "!" if isinstance(value, JsonFloat) else repr(value),
)
def test_a_value_is_read_as_go_reads_it_and_decimal_text_besides(
    type_name: str, value: object, expected: object
) -> None:
    decoded = decode_value(type_name, value)

    assert decoded == expected
    assert type(decoded) is type(expected)


@pytest.mark.parametrize(
    ("type_name", "value", "text"),
    [
        ("map[string]int", {}, "map[string]int is not one of supported types"),
        ("", 1, " is not one of supported types"),
        (None, 1, "<nil> is not one of supported types"),
        ([1], 1, "[1] is not one of supported types"),
        ("bool", None, "<nil> is not bool"),
        ("bool", 1, "1 is not bool"),
        ("bool", "true", "true is not bool"),
        ("string", 5, "5 is not string"),
        ("string", number("1.50"), "1.50 is not string"),
        ("string", True, "true is not string"),
        ("string", ["a", None, 1], "[a <nil> 1] is not string"),
        ("string", {"b": 1, "a": {"c": [True]}}, "map[a:map[c:[true]] b:1] is not string"),
        ("string", b"\x01\x02", "[1 2] is not string"),
        ("int64", number("1.0"), 'strconv.ParseInt: parsing "1.0": invalid syntax'),
        ("int64", number("1e3"), 'strconv.ParseInt: parsing "1e3": invalid syntax'),
        ("int64", 2**63, 'strconv.ParseInt: parsing "9223372036854775808": value out of range'),
        ("int64", "9223372036854775808", 'strconv.ParseInt: parsing "9223372036854775808": value out of range'),
        ("int64", "x", "x is not int64"),
        ("int64", "1_000", "1_000 is not int64"),
        ("int64", " 1", " 1 is not int64"),
        ("int64", "\u0661", "\u0661 is not int64"),
        ("int64", True, "true is not int64"),
        ("int64", None, "<nil> is not int64"),
        ("int64", 3.0, "3.0 is not int64"),
        ("int8", 300, 'strconv.ParseInt: parsing "300": value out of range'),
        ("uint8", -1, 'strconv.ParseUint: parsing "-1": invalid syntax'),
        ("uint16", number("-0"), 'strconv.ParseUint: parsing "-0": invalid syntax'),
        ("float64", number("1e400"), 'strconv.ParseFloat: parsing "1e400": value out of range'),
        ("float64", 10**400, "value out of range"),
        ("float64", "1e400", 'strconv.ParseFloat: parsing "1e400": value out of range'),
        ("float64", "NaN", "NaN is not float64"),
        ("float64", "0x1p3", "0x1p3 is not float64"),
        ("float64", False, "false is not float64"),
        ("float32", number("1e39"), 'strconv.ParseFloat: parsing "1e39": value out of range'),
        ("[]int64", True, "true is not []int64"),
        ("[]int64", {"a": 1}, "map[a:1] is not []int64"),
        ("[]int64", [1, None], "<nil> is not int64"),
        ("[]int64", [[1]], "[1] is not int64"),
        ("[]int64", "abc", "97 is not int64"),
        ("[]string", "abc", "97 is not string"),
        ("[]bool", 5, "53 is not bool"),
        ("[]float64", number("1.5"), "49 is not float64"),
        ("[]byte", ["a"], "a is not uint8"),
        ("[]byte", [256], 'strconv.ParseUint: parsing "256": value out of range'),
        ("[]byte", "abc", "illegal base64 data at input byte 0"),
        ("[]byte", "aG k=", "illegal base64 data at input byte 2"),
    ],
    ids=lambda value: value.text + "!" if isinstance(value, JsonFloat) else "huge" if value == 10**400 else repr(value),
)
def test_a_value_that_does_not_fit_is_refused_in_gos_words(type_name: str, value: object, text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        decode_value(type_name, value)

    assert text in str(caught.value)


def test_a_value_nested_too_deeply_is_an_argument_error() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]

    for type_name in ("json", "string", "[]int64", "bool"):
        with pytest.raises(ArgumentError):
            decode_value(type_name, deep)


def test_no_value_of_any_type_raises_anything_but_an_argument_error() -> None:
    random = Random(3)  # noqa: S311 - the same every time
    leaves: list[Any] = [
        None, True, 0, -1, 5, 255, 2**63, -(2**64), 10**5000, 1.5, float("nan"), float("inf"), number("1e999"), number("-0"),
        "", "5", "1.5", "x", "aGk=", "é", "\ud800", "9" * 5000, "1e9999", b"", b"hi", [], {}, Point(1, 2), object(), {1: 2},
    ]  # fmt: skip

    def some(depth: int) -> Any:
        if depth and random.random() < 0.4:
            parts = [some(depth - 1) for _ in range(random.randint(0, 3))]
            return parts if random.random() < 0.6 else {str(key): part for key, part in enumerate(parts)}
        return random.choice(leaves)

    for _ in range(5000):
        value, type_name = some(3), random.choice([*WIRE_TYPES, "main.T", "[][]int", "[]json"])
        with suppress(ArgumentError):
            decode_value(type_name, value)
        with suppress(EncodeError):
            encode_signature(Signature("add", [Arg(type_name, value)]))
        with suppress(EncodeError):
            encode_signature(Signature("add", [value]))


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        2**63 - 1,
        2**64 - 1,
        1.5,
        1e300,
        -0.0,
        1e-9,
        "é",
        "",
        True,
        b"\x00\xff",
        [1, 2],
        [0.1, 2.0],
        ["a"],
        [True],
        {"a": [1.0]},
        None,
    ],
)
def test_what_is_sent_is_what_arrives(value: object) -> None:
    (received,) = decode_signature(encode_signature(Signature("add", [value]))).args

    arrived = decode_value(received.type, received.value)

    assert arrived == value
    assert repr(arrived) == repr(value)
