"""JSON as Go's ``encoding/json`` writes and reads it, byte for byte (protocol §1.2).

`write_json` and its relatives give text that still has to pass through `to_bytes`, which does the escapes that hold for a
whole document at once. `read_json` is as lenient as Go's decoder, and keeps the text of every number that is not an integer.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from json.decoder import JSONDecoder
from json.encoder import encode_basestring
from math import frexp, isfinite
from struct import pack, unpack
from types import NoneType
from typing import Any, NoReturn

from machinery.errors import DecodeError, EncodeError

quote = encode_basestring
"""A string's JSON text, but for what `to_bytes` escapes."""

_SURROGATES = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"
_BLANKS = " \t\r\n"


class JsonFloat(float):
    """A number that was read, with the text that said it: re-emitted verbatim, as Go does with numbers it passes on."""

    __slots__ = ("text",)
    text: str


# ---------------------------------------------------------------------------------------------------------- writing


def to_bytes(text: str) -> bytes:
    """The bytes of a whole JSON text, with Go's escapes for HTML. Lone surrogates become U+FFFD, as in Go."""
    # None of these characters occurs in JSON but inside strings, so one sweep over the document does for all of them.
    if "<" in text or ">" in text or "&" in text:
        text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    if text.isascii():
        return text.encode()
    text = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    try:
        return text.encode()
    except UnicodeEncodeError:
        return without_surrogates(text).encode()


def without_surrogates(text: str) -> str:
    """``text`` with U+FFFD for every lone surrogate, which UTF-8 cannot say."""
    return _SURROGATES.sub(_REPLACEMENT, text)


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can say ``text``: it has no lone surrogate."""
    return text.isascii() or _SURROGATES.search(text) is None


_SMALLEST, _LARGEST = 1e-6, 1e21
"""Go writes numbers from the one up to the other without an exponent."""


def float_text(number: float) -> str:
    """The shortest text that reads back as ``number``, in Go's spelling: ``1``, ``1e+21``, ``1e-7``.

    Raises `EncodeError` for NaN and the infinities.
    """
    text = float.__repr__(number)
    if text.endswith(".0"):
        return text[:-2]
    if "e" not in text:
        if text[-1] in "nf":  # nan, inf
            raise EncodeError(f"JSON has no number {text}")
        return text
    return _go_spelling(text, positional=_SMALLEST <= abs(number) < _LARGEST)


def own_float_text(number: float) -> str:
    """Like `float_text`, but a float that Go writes as an integer keeps its point, so that Python reads a float again."""
    text = float_text(number)
    return text if "." in text or "e" in text else text + ".0"


def float32_text(number: float) -> str:
    """Like `float_text`, for the 32-bit float nearest to ``number``."""
    try:
        narrow = to_float32(number)
    except OverflowError:
        raise EncodeError(f"{number!r} does not fit float32") from None
    if not narrow or not isfinite(narrow):
        return float_text(narrow)
    return _go_spelling(_shortest32(narrow), positional=to_float32(_SMALLEST) <= abs(narrow) < to_float32(_LARGEST))


def to_float32(number: float) -> float:
    """The 32-bit float nearest to ``number``. Raises `OverflowError` beyond its range."""
    nearest: float = unpack("<f", pack("<f", number))[0]
    return nearest


def _shortest32(narrow: float) -> str:
    size = abs(narrow)
    from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal  # noqa: PLC0415 - for float32 alone

    exact = Decimal(size)
    # Where two texts are equally near Go takes the even one, but at a power of two (2**-12 is the only case) the upper.
    roundings = (
        (ROUND_CEILING, ROUND_FLOOR) if frexp(size)[0] == _HALF else (ROUND_HALF_EVEN, ROUND_CEILING, ROUND_FLOOR)
    )
    for digits in range(1, _MOST_DIGITS_32):
        # All neighbours: just above a power of two the nearest may read back as another number, and the next one not.
        texts = [str(Context(digits, rounding).create_decimal(exact)) for rounding in roundings]
        if found := [text for text in texts if _reads_back(text, size)]:
            nearest = min(found, key=lambda text: abs(Decimal(text) - exact))
            return f"-{nearest}" if narrow < 0 else nearest
    return f"{narrow:.{_MOST_DIGITS_32}g}"


_HALF = 0.5
"""The mantissa of a power of two."""

_MOST_DIGITS_32 = 9
"""Enough for any 32-bit float."""


def _reads_back(text: str, narrow: float) -> bool:
    try:
        return to_float32(float(text)) == narrow
    except OverflowError:
        return False


def _go_spelling(text: str, *, positional: bool) -> str:
    mantissa, _, exponent = text.lower().partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    point = len(whole) + int(exponent or 0)
    digits = (whole + fraction).lstrip("0")
    point -= len(whole) + len(fraction) - len(digits)
    digits = digits.rstrip("0")
    if positional:
        if point <= 0:
            return f"{sign}0.{'0' * -point}{digits}"
        if point >= len(digits):
            return sign + digits.ljust(point, "0")
        return f"{sign}{digits[:point]}.{digits[point:]}"
    tail = "." + digits[1:] if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1:+d}"


def write_json(value: Any, *, as_go: bool = True) -> str:
    """The JSON text of any value that JSON can say; bytes become base64. Raises `EncodeError` for anything else.

    Go sorts keys and writes ``1`` for 1.0. Otherwise, for readers that have other dicts and floats, both stay as they are.
    """
    try:
        return _write(value, _GO_WRITERS if as_go else _OWN_WRITERS, as_go)
    except RecursionError:
        raise EncodeError("the value is nested too deeply, or contains itself") from None


_Writers = Mapping[type, Callable[[Any], str]]


def _write(value: Any, writers: _Writers, sort_keys: bool) -> str:
    write = writers.get(type(value))
    if write is not None:
        return write(value)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join([_write(element, writers, sort_keys) for element in value]) + "]"
    if isinstance(value, Mapping):
        return _write_mapping(value, writers, sort_keys)
    for base in (str, int, float):
        if isinstance(value, base):
            return writers[base](value)
    raise EncodeError(f"a value of type {type(value).__qualname__} cannot be said in JSON")


def _write_mapping(value: Mapping[Any, Any], writers: _Writers, sort_keys: bool) -> str:
    keys = list(value)
    for key in keys:
        if not isinstance(key, str):
            raise EncodeError(f"a key of type {type(key).__qualname__} cannot be said in JSON; keys are strings")
    if sort_keys:
        keys.sort()  # by code point, which is the order of the UTF-8 bytes
    return "{" + ",".join([f"{quote(key)}:{_write(value[key], writers, sort_keys)}" for key in keys]) + "}"


def int_text(number: int) -> str:
    """Decimal digits. Raises `EncodeError` beyond Python's limit on them (thousands)."""
    try:
        return int.__repr__(number)
    except ValueError:
        raise EncodeError(f"an integer of {number.bit_length()} bits is too long to be written in decimal") from None


def bytes_text(value: bytes | bytearray) -> str:
    """Quoted standard base64 with padding, as Go writes ``[]byte``."""
    return '"' + b64encode(value).decode() + '"'


def _text_of(number: JsonFloat) -> str:
    return number.text


_GO_WRITERS: _Writers = {
    str: quote,
    int: int_text,
    float: float_text,
    JsonFloat: _text_of,
    bool: lambda value: "true" if value else "false",
    NoneType: lambda _: "null",
    bytes: bytes_text,
    bytearray: bytes_text,
}
_OWN_WRITERS: _Writers = {**_GO_WRITERS, float: own_float_text}


# ---------------------------------------------------------------------------------------------------------- reading


def read_json(body: bytes) -> Any:
    """The first JSON value in ``body``; what follows it is ignored, as by Go's streaming decoder.

    Integers are ``int``, all other numbers `JsonFloat`. Invalid UTF-8 and lone surrogates become U+FFFD. Raises `DecodeError`.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        # One U+FFFD for every byte that is not UTF-8, as Go does; "replace" would merge some.
        text = without_surrogates(body.decode(errors="surrogateescape"))
    value, _ = read_text(text)
    return value


def read_text(text: str) -> tuple[Any, int]:
    """The first JSON value in ``text``, and the position after it. Raises `DecodeError`."""
    scan = _scan
    if "-0" in text and _NEGATIVE_ZERO.search(text):
        scan = _scan_negative_zero
    start = 0 if text[:1] == "{" else len(text) - len(text.lstrip(_BLANKS))
    try:
        value, end = scan(text, start)
        if "\\" in text and ("\\ud" in text or "\\uD" in text):
            value = _cleaned(value)
    except StopIteration as stop:
        raise DecodeError(_where(text, stop.value)) from None
    except ValueError as error:  # JSONDecodeError is one too
        raise DecodeError(f"not JSON: {error}") from None
    except RecursionError:
        return _read_deep_text(text, start)
    return value, end


def _read_deep_text(text: str, start: int) -> tuple[Any, int]:
    from machinery._json_deep import Leaves, read_deep  # noqa: PLC0415 - for chains of hundreds of tasks alone

    try:
        return read_deep(text, start, Leaves(_read_int, _read_float, without_surrogates))
    except ValueError as error:
        raise DecodeError(f"not JSON: {error}") from None


def _where(text: str, position: int) -> str:
    if not text.strip(_BLANKS):
        return "not JSON: the body is empty"
    return f"not JSON: no value at character {position}"


def _read_float(text: str) -> JsonFloat:
    made = JsonFloat(text)
    made.text = text
    return made


def _read_int(text: str) -> int | JsonFloat:
    return _read_float(text) if text == "-0" else int(text)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


_NEGATIVE_ZERO = re.compile(r"-0(?<=[:,\[\s]-0)(?![.eE0-9])")
"""An integer literal whose sign would get lost: Go writes the float -0.0 so."""

_decoder = JSONDecoder(parse_float=_read_float, parse_constant=_refuse_constant)
_careful_decoder = JSONDecoder(parse_float=_read_float, parse_int=_read_int, parse_constant=_refuse_constant)
# What `raw_decode` calls, without the frame around it.
_scan = _decoder.scan_once  # type: ignore[attr-defined]  # typeshed leaves it out
_scan_negative_zero = _careful_decoder.scan_once  # type: ignore[attr-defined]  # likewise


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, list):
        return [_cleaned(element) for element in value]
    if isinstance(value, dict):
        return {without_surrogates(key): _cleaned(element) for key, element in value.items()}
    return value
