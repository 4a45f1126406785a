"""Results as BSON that Go Machinery reads (protocol §6.1), and every form in which Go and others have written them.

==========================  ================================  ==================================================
wire type                   stored as                         read besides
==========================  ================================  ==================================================
integers, also in lists     Int64                             Int32, double, Decimal128, decimal text
integers that do not fit    decimal text: Go refuses it with
Int64 (``uint64``)          an error, and cannot wrap it
``float32``, ``float64``    double                            Int32, Int64, Decimal128, decimal text
``bool``, ``string``        bool, string; lone surrogates as U+FFFD
``[]uint8``                 base64 text, null                 Binary, array of integers
other slices                array, null
``json`` (not Go's)         its JSON text                     the sub-document or null that Go makes of a string
==========================  ================================  ==================================================

``json`` is stored as text because BSON's documents cannot say all of JSON: no integers beyond 64 bits, no NUL in a key, no more
than 100 levels. Go stores under that type nothing but sub-documents and null, so the two are never taken for each other.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from bson.decimal128 import Decimal128
from bson.int64 import Int64

from machinery.abc import TaskResult
from machinery.errors import DecodeError, EncodeError
from machinery.wire import decode_state, encode_value, plain_value

_MIN_INT64, _MAX_INT64 = -(2**63), 2**63 - 1
_BYTES = frozenset({"[]uint8", "[]byte"})
_FLOATS = frozenset({"float32", "float64"})
_SURROGATES = re.compile("[\ud800-\udfff]")


def to_results(results: tuple[TaskResult, ...]) -> list[dict[str, Any]]:
    """The array ``results`` of a record. Raises `EncodeError`."""
    return [{"type": result.type, "value": to_bson(result.type, result.value)} for result in results]


def to_bson(type_name: str, value: Any) -> Any:
    """``value`` of that wire type as BSON's encoder takes it. Raises `EncodeError`."""
    if type_name == "json":
        value = encode_value(type_name, value)
    kind = type(value)
    if kind is int:
        return _to_number(type_name, value)
    if isinstance(value, str):
        return to_text(value)
    if kind is bool or kind is float:
        return value
    if isinstance(value, bytes | bytearray):
        return b64encode(value).decode()
    if isinstance(value, list | tuple):
        return _to_array(type_name, value)
    return plain_value(value)


def to_text(value: str) -> str:
    """``value`` with U+FFFD for every lone surrogate, which UTF-8, and so BSON, cannot say."""
    return value if value.isascii() else _SURROGATES.sub("\ufffd", value)


def _to_number(type_name: str, value: int) -> Int64 | float | str:
    if type_name in _FLOATS:
        try:
            return float(value)
        except OverflowError:
            raise EncodeError(f"an integer of {value.bit_length()} bits does not fit {type_name}") from None
    return Int64(value) if _MIN_INT64 <= value <= _MAX_INT64 else str(value)


def _to_array(type_name: str, value: list[Any] | tuple[Any, ...]) -> Any:
    if type_name in _BYTES:
        try:
            return b64encode(bytes(value)).decode()
        except (TypeError, ValueError):
            raise EncodeError(f"the elements of {type_name} are integers from 0 to 255") from None
    element_type = type_name.removeprefix("[]")
    return [to_bson(element_type, element) for element in value]


def from_results(found: Any) -> tuple[TaskResult, ...]:
    """The results that a record's array says. Raises `DecodeError`."""
    if not isinstance(found, list):
        raise DecodeError(f"results is of the type {type(found).__name__}, not an array")
    return tuple([_from_result(one) for one in found])


def _from_result(found: Any) -> TaskResult:
    if found is None:
        return TaskResult("", None)
    if not isinstance(found, dict):
        raise DecodeError(f"an element of results is of the type {type(found).__name__}, not a document")
    type_name = found.get("type")
    if type_name is None:
        type_name = ""
    elif not isinstance(type_name, str):
        raise DecodeError(f"the type of a result is of the type {type(type_name).__name__}, not a string")
    value = found.get("value")
    if type_name == "json" and isinstance(value, str):
        return TaskResult(type_name, _from_json(value))
    return TaskResult(type_name, from_bson(type_name, value))


def from_bson(type_name: str, value: Any) -> Any:  # noqa: PLR0911 - one for each type of BSON
    """What BSON's decoder found, in JSON's types: what `machinery` decodes values from. Bytes become base64 text."""
    kind = type(value)
    if kind is str or kind is bool or kind is float or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, Decimal128):
        return _from_decimal(type_name, value)
    if isinstance(value, list):
        element_type = type_name.removeprefix("[]")
        return [from_bson(element_type, element) for element in value]
    if isinstance(value, Mapping):
        return {key: from_bson(type_name, element) for key, element in value.items()}
    return str(value)


def _from_decimal(type_name: str, value: Decimal128) -> int | float:
    number = value.to_decimal()
    if type_name in _FLOATS or not number.is_finite() or number != number.to_integral_value():
        return float(number)
    return int(number)


def _from_json(text: str) -> Any:
    """The value that JSON text says, read as all JSON is in this project: through a record around it."""
    state = decode_state(f'{{"Results":[{{"Type":"json","Value":{text}}}]}}'.encode(errors="replace"))
    (result,) = state.results or (TaskResult("json", None),)
    return result.value
