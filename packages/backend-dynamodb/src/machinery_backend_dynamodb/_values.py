"""Results ⇄ DynamoDB's typed attributes (protocol §6.3).

Written are typed attributes, from which Go reads all it can read: S, BOOL, N, B, L and NULL. Read are these and Go's own text:
what ``fmt`` prints of the value, to be understood by the result's type.

Every value reads back as it was. What a number of DynamoDB cannot say stands as text: integers beyond 2**53, which Go would
change without a word, floats outside its range, -0.0 and what is no number. Type ``json`` is JSON text.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from math import copysign, isfinite, isnan
from typing import Any

from machinery.errors import DecodeError, EncodeError
from machinery.wire import encode_value

Attribute = dict[str, Any]
"""One value as DynamoDB says it, such as ``{"N": "5"}``."""

LARGEST_EXACT = 2**53
"""Integers up to it, either sign, are numbers to Go too: it reads N as a float."""
_SMALLEST_FLOAT, _LARGEST_FLOAT = 1e-129, 1e125
"""Well within the range of DynamoDB's numbers: 1E-130 to 9.99E+125, with 38 digits."""

_SURROGATES = re.compile("[\ud800-\udfff]")
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_FLOATS = frozenset({"float32", "float64"})
_INTEGERS = frozenset({f"{kind}{width}" for kind in ("int", "uint") for width in ("", "8", "16", "32", "64")})
_BYTES = frozenset({"[]uint8", "[]byte"})
_FLAGS = {"true": True, "false": False}


# ---------------------------------------------------------------------------------------------------------- writing


def to_attribute(type_name: str, value: Any) -> Attribute:
    """A result's value of that wire type. Raises `EncodeError`."""
    if type_name == "json":
        return text(encode_value("json", value))
    try:
        return _to_attribute(type_name, value)
    except RecursionError:
        raise EncodeError("the value is nested too deeply, or contains itself") from None


def text(value: str) -> Attribute:
    """S. Lone surrogates, which UTF-8 cannot say, become U+FFFD."""
    return {"S": value if value.isascii() else _SURROGATES.sub("\ufffd", value)}


def number(value: int) -> Attribute:
    """N."""
    return {"N": str(value)}


NULL: Attribute = {"NULL": True}


def _to_attribute(type_name: str, value: Any) -> Attribute:  # noqa: PLR0911 - one line for each kind of value
    if value is None:
        return NULL
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int):
        return number(value) if abs(value) <= LARGEST_EXACT else text(str(value))
    if isinstance(value, float):
        return _float(float(value))
    if isinstance(value, str):
        return _bytes_of(value) if type_name in _BYTES else text(value)
    if isinstance(value, (bytes, bytearray)):
        return {"B": bytes(value)}
    if isinstance(value, (list, tuple)):
        if type_name in _BYTES and all(type(one) is int and 0 <= one <= 255 for one in value):  # noqa: PLR2004 - a byte
            return {"B": bytes(value)}
        return {"L": [_to_attribute(type_name.removeprefix("[]"), one) for one in value]}
    return text(encode_value("json", value))


def _float(value: float) -> Attribute:
    if not isfinite(value):
        return text("NaN" if isnan(value) else "+Inf" if value > 0 else "-Inf")
    if value == 0:
        return text("-0") if copysign(1, value) < 0 else {"N": "0"}
    said = repr(value)
    return {"N": said} if _SMALLEST_FLOAT < abs(value) < _LARGEST_FLOAT else text(said)


def _bytes_of(value: str) -> Attribute:
    """Bytes that came as JSON says them."""
    try:
        return {"B": b64decode(value, validate=True)}
    except (Base64Error, ValueError):
        return text(value)


# ---------------------------------------------------------------------------------------------------------- reading


def from_attribute(type_name: str, attribute: Attribute) -> Any:
    """The JSON value of a result of that wire type, ``bytes`` for B. What cannot be understood stays text.

    Raises `DecodeError` for what is no attribute.
    """
    try:
        return _from_attribute(type_name, attribute)
    except (RecursionError, InvalidOperation, ValueError, TypeError, AttributeError) as error:
        raise DecodeError(f"a result of type {type_name} cannot be read: {error}") from None


def _from_attribute(type_name: str, attribute: Attribute) -> Any:
    ((kind, value),) = attribute.items()
    read = _READERS.get(kind)
    return value if read is None else read(type_name, value)


def _read_number(type_name: str, said: str) -> int | float:
    if type_name in _FLOATS:
        return float(said)
    if _INTEGER.fullmatch(said):
        return int(said)
    exact = Decimal(said)
    return int(exact) if exact == exact.to_integral_value() else float(said)


def _read_text(type_name: str, said: str) -> Any:
    if type_name == "string":
        return said
    try:
        return _from_text(type_name, said)
    except (ValueError, KeyError):
        return said  # whoever wants the value is told that it is none


def _from_text(type_name: str, said: str) -> Any:
    if type_name == "json":
        return json.loads(said)
    if type_name == "bool":
        return _FLAGS[said]
    if type_name in _INTEGERS:
        return int(said)
    if type_name in _FLOATS:
        return float(said)
    if type_name.startswith("[]") and said[:1] == "[" and said[-1:] == "]":
        return _from_list_text(type_name, said[1:-1].split())
    return said


def _from_list_text(type_name: str, words: list[str]) -> Any:
    """What Go prints of a list. One of strings says not where they end, so only the empty one can be told (protocol §6.3)."""
    if type_name == "[]string" and words:
        raise ValueError("a list of strings")
    if type_name in _BYTES:
        return bytes([int(word) for word in words])
    return [_from_text(type_name.removeprefix("[]"), word) for word in words]


def _read_list(type_name: str, elements: list[Attribute]) -> list[Any]:
    return [_from_attribute(type_name.removeprefix("[]"), element) for element in elements]


def _read_map(_: str, attributes: Mapping[str, Attribute]) -> dict[str, Any]:
    return {name: _from_attribute("", attribute) for name, attribute in attributes.items()}


_READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "S": _read_text,
    "N": _read_number,
    "L": _read_list,
    "M": _read_map,
    "NULL": lambda _, __: None,
    "NS": lambda type_name, numbers: [_read_number(type_name.removeprefix("[]"), one) for one in numbers],
    "SS": lambda _, texts: list(texts),
    "BS": lambda _, some: list(some),
}
"""Kind of attribute → what reads it, by the result's type. BOOL and B are what they are."""


# ------------------------------------------------------------------------------------------------------------ sizes


def size_of(item: Mapping[str, Attribute]) -> int:
    """Bytes that DynamoDB counts for an item: names and values; a number is taken for somewhat more than it may be.

    Amazon's rules: "DynamoDB item sizes and formats" in the developer's guide.
    """
    return sum(len(name.encode()) + _size(attribute) for name, attribute in item.items())


def _size(attribute: Attribute) -> int:
    ((kind, value),) = attribute.items()
    if kind == "S":
        return len(value) if value.isascii() else len(value.encode())
    if kind == "B":
        return len(value)
    if kind == "N":
        return len(value) // 2 + 2
    if kind == "L":
        return 3 + sum(1 + _size(element) for element in value)
    if kind == "M":
        return 3 + len(value) + size_of(value)
    return 1
