"""Values on their way in: what an argument or a stored result says, as a Python value (protocol §1.3).

`decode_value` accepts what Go accepts, and says no in Go's words, but never wraps a number that is too large for its type and
never crashes. Beyond Go, decimal text is accepted for numbers, as some stores hold no others (protocol §13).
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Callable, Mapping, Sequence
from math import isinf
from typing import Any

from machinery._go_json import JsonFloat, to_float32
from machinery.errors import ArgumentError

ARGUMENT_ERROR_PREFIX = "Reflect task args error: "
"""Stands before the text of an `ArgumentError` where it becomes a task's stored error; Go puts it there."""

INT_RANGES: dict[str, tuple[int, int]] = {
    "int": (-(2**63), 2**63 - 1),
    "int8": (-(2**7), 2**7 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint": (0, 2**64 - 1),
    "uint8": (0, 2**8 - 1),
    "uint16": (0, 2**16 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
"""Lowest and highest value of each integer type; Go's ``int`` and ``uint`` have 64 bits."""

SLICES: dict[str, str] = {
    f"[]{element}": element for element in ("bool", "string", *INT_RANGES, "float32", "float64")
} | {"[]byte": "uint8"}
"""Slice type → type of its elements."""

_INTEGER = re.compile(r"[+-]?[0-9]+")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def decode_value(type_name: str, value: Any) -> Any:
    """The Python value of a JSON value of that wire type: ``bytes`` for ``[]uint8``, lists for other slices.

    Raises `ArgumentError`, with Go's text but without its prefix; nothing else, whatever the input.
    """
    try:
        return _decode(type_name, value)
    except RecursionError:
        raise ArgumentError(f"the value is nested too deeply for {type_name}") from None


def _decode(type_name: str, value: Any) -> Any:
    # The two most frequent types, without a detour.
    if type_name == "int64" and type(value) is int and _MIN_INT64 <= value <= _MAX_INT64:
        return value
    if type_name == "string" and type(value) is str:
        return value
    if not isinstance(type_name, str):
        raise ArgumentError(f"{go_text(type_name)} is not one of supported types")
    decode = _SCALARS.get(type_name)
    if decode is not None:
        return decode(type_name, value)
    if type_name in SLICES:
        return _decode_slice(type_name, SLICES[type_name], value)
    if type_name == "json":
        return _plain(value)
    raise ArgumentError(f"{type_name} is not one of supported types")


_MIN_INT64, _MAX_INT64 = INT_RANGES["int64"]


# ---------------------------------------------------------------------------------------------------------- scalars


def _decode_bool(type_name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _is_not(value, type_name)


def _decode_string(type_name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise _is_not(value, type_name)


def _decode_int(type_name: str, value: Any) -> int:
    parse = "ParseUint" if type_name.startswith("uint") else "ParseInt"
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        try:
            value = int(value)
        except ValueError:  # more digits than Python reads
            raise ArgumentError(f'strconv.{parse}: parsing "{value}": value out of range') from None
    if isinstance(value, int) and not isinstance(value, bool):
        lowest, highest = INT_RANGES[type_name]
        if lowest <= value <= highest:
            return int(value)
        reason = "invalid syntax" if lowest == 0 and value < 0 else "value out of range"
        raise ArgumentError(f'strconv.{parse}: parsing "{go_text(value)}": {reason}')
    if type(value) is JsonFloat:
        if value.text == "-0" and parse == "ParseInt":
            return 0
        raise ArgumentError(f'strconv.{parse}: parsing "{value.text}": invalid syntax')
    raise _is_not(value, type_name)


def _decode_float(type_name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _is_not(value, type_name)
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        raise _is_not(value, type_name)
    try:
        number = float(value)
        if type_name == "float32":
            to_float32(number)
    except OverflowError:
        raise _float_out_of_range(value) from None
    if isinf(number) and type(value) is not float:  # a store that has a type for floats may hold an infinity
        raise _float_out_of_range(value)
    return number


def _float_out_of_range(value: Any) -> ArgumentError:
    return ArgumentError(f'strconv.ParseFloat: parsing "{go_text(value)}": value out of range')


_SCALARS: dict[str, Callable[[str, Any], Any]] = {
    "bool": _decode_bool,
    "string": _decode_string,
    "float32": _decode_float,
    "float64": _decode_float,
    **dict.fromkeys(INT_RANGES, _decode_int),
}


# ----------------------------------------------------------------------------------------------------------- slices


def _decode_slice(type_name: str, element_type: str, value: Any) -> Any:
    elements = _elements(type_name, element_type, value)
    if element_type == "uint8" and isinstance(elements, (bytes, bytearray)):
        return bytes(elements)
    decode = _SCALARS[element_type]
    decoded = [decode(element_type, element) for element in elements]
    return bytes(decoded) if element_type == "uint8" else decoded


def _elements(type_name: str, element_type: str, value: Any) -> Sequence[Any]:
    if isinstance(value, (list, tuple)):
        return value
    if value is None or value == {}:
        return ()
    is_unsigned = element_type.startswith("uint")
    if isinstance(value, str):
        characters = base64_bytes(value) if is_unsigned else value.encode(errors="replace")
    elif isinstance(value, (bytes, bytearray)):  # read from a store that has a type for them
        characters = bytes(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        characters = go_text(value).encode()  # Go takes a bare number for its digits
    else:
        raise _is_not(value, type_name)
    if characters and not is_unsigned:
        raise _is_not(characters[0], element_type)
    return characters


def base64_bytes(text: str) -> bytes:
    """The bytes of standard base64 with padding; line breaks are skipped, as in Go. Raises `ArgumentError`."""
    compact = text.replace("\r", "").replace("\n", "")
    if _BASE64.fullmatch(compact):
        return a2b_base64(compact)
    raise ArgumentError(f"illegal base64 data at input byte {_illegal_position(text.encode(errors='replace'))}")


_ALPHABET = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_PAD = ord("=")
_QUANTUM = 4


def _illegal_position(data: bytes) -> int:
    """The byte that Go names: the first one that cannot stand where it is, or where the last, short quantum began."""
    places = [place for place, byte in enumerate(data) if byte not in b"\r\n"]
    for count, place in enumerate(places):
        if data[place] in _ALPHABET:
            continue
        within = count % _QUANTUM
        if data[place] != _PAD or within < 2:  # noqa: PLR2004 - a quantum has two characters at least
            return place
        following = places[count + 1 :]
        if within == 2:  # noqa: PLR2004 - two characters want two pads
            if not following:
                return len(data)
            if data[following[0]] != _PAD:
                return following[0] - 1
            following = following[1:]
        return following[0] if following else len(data)
    return len(data) - len(places) % _QUANTUM


# ------------------------------------------------------------------------------------------------------------ texts


def _is_not(value: Any, type_name: str) -> ArgumentError:
    try:
        return ArgumentError(f"{go_text(value)} is not {type_name}")
    except RecursionError:
        return ArgumentError(f"a deeply nested value is not {type_name}")


def go_text(value: Any) -> str:
    """``value`` as Go's ``%v`` prints it."""
    if isinstance(value, (list, tuple, bytes, bytearray)):
        return "[" + " ".join([go_text(element) for element in value]) + "]"
    if isinstance(value, Mapping):
        return "map[" + " ".join([f"{key}:{go_text(value[key])}" for key in sorted(value, key=str)]) + "]"
    if type(value) is JsonFloat:
        return value.text
    try:
        return _GO_WORDS[value] if value is None or isinstance(value, bool) else str(value)
    except ValueError:  # an int over Python's digit limit
        return f"a number of {value.bit_length()} bits"


_GO_WORDS = {None: "<nil>", True: "true", False: "false"}


def _plain(value: Any) -> Any:
    """``value`` with plain floats in place of those that remember their text."""
    if isinstance(value, list):
        return [_plain(element) for element in value]
    if isinstance(value, dict):
        return {key: _plain(element) for key, element in value.items()}
    return float(value) if type(value) is JsonFloat else value
