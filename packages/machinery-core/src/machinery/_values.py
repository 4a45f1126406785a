"""Values on their way out: Python values become arguments and results with wire types (protocol §1.3).

`to_arg` checks and names the type of one argument, `encode_results` of what a task returned. Annotations are advice: they
decide where the value leaves a choice, and never turn it into another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from operator import index
from typing import Any

from machinery._annotations import result_types, wire_type
from machinery._go_json import JsonFloat, to_float32
from machinery._reading import ARGUMENT_ERROR_PREFIX, INT_RANGES, SLICES, base64_bytes, decode_value
from machinery.errors import ArgumentError, EncodeError

__all__ = [
    "ARGUMENT_ERROR_PREFIX",
    "WIRE_TYPES",
    "Arg",
    "TaskResult",
    "decode_value",
    "encode_results",
    "result_types",
    "to_arg",
    "typed_arg",
    "wire_type",
]

_MIN_INT64, _MAX_INT64 = INT_RANGES["int64"]
_MAX_UINT64 = INT_RANGES["uint64"][1]
_MOST_BITS = 14_000
"""Python refuses decimal texts of more than 4,300 digits; such a number could be sent and never be read."""

Where = Callable[[], str]
"""Names the value in an error; called only when there is one."""


@dataclass(frozen=True, slots=True, init=False)
class Arg:
    """One argument as it travels: its wire type and its value, with a ``name`` when it is a keyword argument.

    In a signature that a program made, ``value`` fits ``type`` and bytes are ``bytes``; in one that was decoded it is the raw
    JSON value, for `decode_value`.
    """

    type: str
    value: Any
    name: str = ""

    def __init__(self, type: str, value: Any, name: str = "") -> None:  # noqa: A002 - Go's name
        _set_arg_type(self, type)
        _set_arg_value(self, value)
        _set_arg_name(self, name)


@dataclass(frozen=True, slots=True, init=False)
class TaskResult:
    """One value that a task returned, as stored: the wire type and the JSON value (``bytes`` where made here)."""

    type: str
    value: Any

    def __init__(self, type: str, value: Any) -> None:  # noqa: A002 - Go's name
        _set_result_type(self, type)
        _set_result_value(self, value)


# The slots' own setters: what a frozen dataclass would do in several times the time.
_set_arg_type, _set_arg_value, _set_arg_name = (getattr(Arg, slot).__set__ for slot in ("type", "value", "name"))
_set_result_type, _set_result_value = (getattr(TaskResult, slot).__set__ for slot in ("type", "value"))


# -------------------------------------------------------------------------------------------------------- arguments


def to_arg(value: Any, position: int, task_name: str) -> Arg:
    """The argument at ``position`` (from 0) of ``task_name``: an `Arg` is checked, a plain value gets its type inferred.

    Raises `EncodeError` that names the argument: a type that does not exist, a value that does not fit, one JSON cannot say.
    """
    kind = type(value)
    if kind is int and _MIN_INT64 <= value <= _MAX_INT64:
        return Arg("int64", value)
    if kind is str and value.isascii():
        return Arg("string", value)
    if kind is Arg:
        made, stated = value.value, value.type
        if stated == "int64" and type(made) is int and _MIN_INT64 <= made <= _MAX_INT64:
            return value  # type: ignore[no-any-return]  # its kind is Arg
        return _checked(value, position, task_name)
    return Arg(*_infer(value, _naming(position, task_name)))


def typed_arg(type_name: str | None, value: Any, place: int | str, task_name: str) -> Arg:
    """An argument for a parameter whose annotation says ``type_name`` (of `wire_type`).

    ``place`` is the argument's position (from 0), or its name when it goes by name. The annotation decides what the value
    leaves open: ``1`` for a float is a ``float64``, ``[]`` for a list of ints is ``[]int64``. A value that it does not describe
    (``None`` for an optional one, a float for an int) goes as what it is. Raises `EncodeError`, like `to_arg`.
    """
    kind = type(value)
    name = place if type(place) is str else ""
    if kind is int and type_name != "float64" and _MIN_INT64 <= value <= _MAX_INT64:
        return Arg("int64", value, name)
    if kind is str and value.isascii():
        return Arg("string", value, name)
    if isinstance(value, Arg):
        return _checked(Arg(value.type, value.value, value.name or name), place, task_name)
    made_type, made = _advised(type_name, value, _naming(place, task_name))
    return Arg(made_type, made, name)


def _checked(arg: Arg, place: int | str, task_name: str) -> Arg:
    if not isinstance(arg.name, str):
        raise EncodeError(f"{_naming(place, task_name)()}: its name is {arg.name!r}, not a string")
    fitting = _fit(arg.type, arg.value, _naming(arg.name or place, task_name))
    return arg if fitting is arg.value else Arg(arg.type, fitting, arg.name)


def _naming(place: int | str, task_name: str) -> Where:
    return lambda: f"argument {place + 1 if isinstance(place, int) else repr(place)} of {task_name}"


def _advised(type_name: str | None, value: Any, where: Where) -> tuple[str, Any]:
    """The wire type and value of ``value``, where an annotation has said ``type_name``."""
    if type_name == "float64":
        if type(value) is int and _is_exact(value):
            return type_name, float(value)
    elif type_name in SLICES and isinstance(value, (list, tuple)):
        if not value and type_name != "[]uint8":
            return type_name, []
        if type_name == "[]float64" and set(map(type, value)) == {int} and all(map(_is_exact, value)):
            return type_name, list(map(float, value))
    return _infer(value, where)


def _is_exact(number: int) -> bool:
    try:
        return int(float(number)) == number
    except OverflowError:
        return False


# -------------------------------------------------------------------------------------------------------- inference


def _infer(value: Any, where: Where) -> tuple[str, Any]:
    """The wire type and the value that a plain Python value travels as."""
    infer = _SCALARS.get(type(value)) or (_infer_bytes if isinstance(value, (bytes, bytearray)) else None)
    if infer is not None:
        return infer(value, where)
    if isinstance(value, (list, tuple)):
        return _infer_list(value, where)
    if value is None or isinstance(value, Mapping):
        return "json", _jsonable(value, where, ())
    return _infer(_unwrapped(value, where), where)


def _infer_int(value: Any, where: Where) -> tuple[str, int]:
    if _MIN_INT64 <= value <= _MAX_INT64:
        return "int64", value
    if 0 <= value <= _MAX_UINT64:
        return "uint64", value
    raise EncodeError(f"{where()}: {_shown(value)} fits neither int64 nor uint64")


def _infer_float(value: Any, where: Where) -> tuple[str, float]:
    return "float64", _finite(value, where)


def _infer_str(value: Any, where: Where) -> tuple[str, str]:
    return "string", _sayable(value, where)


def _infer_bool(value: Any, _where: Where) -> tuple[str, bool]:
    return "bool", value


def _infer_bytes(value: Any, _where: Where) -> tuple[str, bytes]:
    return "[]uint8", bytes(value)


_SCALARS: dict[type, Callable[[Any, Where], tuple[str, Any]]] = {
    bool: _infer_bool,
    int: _infer_int,
    str: _infer_str,
    float: _infer_float,
    bytes: _infer_bytes,
    bytearray: _infer_bytes,
    memoryview: _infer_bytes,
}


def _infer_list(value: Sequence[Any], where: Where) -> tuple[str, list[Any]]:
    kinds = set(map(type, value))
    if kinds == {int} and (fitting := _int_slice(min(value), max(value))):
        return fitting, list(value)
    if kinds == {str}:
        return "[]string", [_sayable(element, where) for element in value]
    if kinds == {bool}:
        return "[]bool", list(value)
    if float in kinds and kinds <= _NUMBERS and all(_is_exact(element) for element in value if type(element) is int):
        return "[]float64", [_finite(float(element), where) for element in value]
    elements = _jsonable(value, where, ())
    if kinds != set(map(type, elements)) and kinds.isdisjoint(_CONTAINERS):
        return _infer_list(elements, where)  # there were instances of subclasses; now there are none
    return "json", elements


def _int_slice(lowest: int, highest: int) -> str | None:
    if lowest >= _MIN_INT64 and highest <= _MAX_INT64:
        return "[]int64"
    return "[]uint64" if lowest >= 0 and highest <= _MAX_UINT64 else None


_NUMBERS = {int, float}
_CONTAINERS = {list, tuple, dict}


def _jsonable(value: Any, where: Where, path: tuple[int, ...]) -> Any:
    """A copy of ``value`` in JSON's own types; a later change of the original does not reach the message."""
    kind = type(value)
    if kind is bool or value is None or kind is JsonFloat:
        return value
    if isinstance(value, (list, tuple, Mapping)):
        if id(value) in path or len(path) >= _DEEPEST:
            raise EncodeError(f"{where()} contains itself, or is nested more than {_DEEPEST} deep")
        path = (*path, id(value))
        if isinstance(value, Mapping):
            return {_key(key, where): _jsonable(value[key], where, path) for key in value}
        return [_jsonable(element, where, path) for element in value]
    plain = _unwrapped(value, where)
    if isinstance(plain, str):
        return _sayable(plain, where)
    if isinstance(plain, float):
        return _finite(plain, where)
    if plain.bit_length() > _MOST_BITS:
        raise EncodeError(f"{where()}: an integer of {plain.bit_length()} bits is too long")
    return plain


_DEEPEST = 100
"""Readers have limits too, and theirs depend on how deep they stand themselves."""


def _key(key: object, where: Where) -> str:
    if not isinstance(key, str):
        raise EncodeError(f"{where()} has a dict key of type {_type_name(key)}; JSON's keys are strings")
    return _sayable(str.__str__(key), where)


def _unwrapped(value: Any, where: Where) -> int | float | str:
    """The plain value of an instance of int, float, str or a subclass, or of what has an ``__index__``, such as numpy's."""
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, str):
        return str.__str__(value)  # whatever the subclass makes of it
    try:
        return int(index(value))
    except TypeError:
        raise _unsayable(value, where) from None


def _finite(value: float, where: Where) -> float:
    if not isfinite(value):
        raise EncodeError(f"{where()}: JSON has no number {value!r}")
    return value


def _sayable(value: str, where: Where) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise EncodeError(f"{where()}: the text contains a lone surrogate, which UTF-8 cannot say") from None
    return value


def _unsayable(value: object, where: Where) -> EncodeError:
    return EncodeError(
        f"{where()} is of type {_type_name(value)}, which cannot travel; send numbers, text, bytes, bools, None, or "
        "lists and dicts of these"
    )


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a broken repr, or an int over the digit limit, must not hide the real error
        return f"a value of type {_type_name(value)}"
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


_LONGEST_SHOWN = 80


# --------------------------------------------------------------------------------------------------- declared types


def _fit(type_name: object, value: Any, where: Where) -> Any:
    """``value`` as the declared type has it, or an `EncodeError`: nothing is wrapped, cut or guessed."""
    if not isinstance(type_name, str) or type_name not in WIRE_TYPES:
        raise EncodeError(f"{where()}: there is no type {type_name!r}; the types are {', '.join(WIRE_TYPES)}")
    if type_name == "json":
        return _jsonable(value, where, ())
    element_type = SLICES.get(type_name)
    if element_type is None:
        return _fit_scalar(type_name, value, where)
    return _fit_slice(type_name, element_type, value, where)


def _fit_scalar(type_name: str, value: Any, where: Where) -> Any:
    if type_name in INT_RANGES:
        return _fit_int(type_name, value, where)
    if type_name == "string":
        if isinstance(value, str):
            return _sayable(str.__str__(value), where)
    elif type_name == "bool":
        if isinstance(value, bool):
            return value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        return _fit_float(type_name, value, where)
    raise _misfit(type_name, value, where)


def _fit_int(type_name: str, value: Any, where: Where) -> int:
    try:
        number = int(index(value))
    except TypeError:
        raise _misfit(type_name, value, where) from None
    if isinstance(value, bool):
        raise _misfit(type_name, value, where)
    lowest, highest = INT_RANGES[type_name]
    if lowest <= number <= highest:
        return number
    raise EncodeError(f"{where()}: {_shown(number)} does not fit {type_name} ({lowest} to {highest})")


def _misfit(type_name: str, value: Any, where: Where) -> EncodeError:
    return EncodeError(f"{where()}: {_shown(value)} of type {_type_name(value)} is not {type_name}")


def _fit_float(type_name: str, value: float, where: Where) -> float:
    try:
        number = value if type(value) is JsonFloat else float(value)
        if type_name == "float32" and isfinite(number):
            to_float32(number)
    except OverflowError:
        raise EncodeError(f"{where()}: {_shown(value)} does not fit {type_name}") from None
    return _finite(number, where)


def _fit_slice(type_name: str, element_type: str, value: Any, where: Where) -> Any:
    if value is None:
        return None
    is_bytes = element_type == "uint8"
    if isinstance(value, (bytes, bytearray, memoryview)) and is_bytes:
        return bytes(value)
    if isinstance(value, str) and element_type.startswith("uint"):
        try:
            decoded = base64_bytes(value)
        except ArgumentError as error:
            raise EncodeError(f"{where()}: text for {type_name} has to be base64: {error}") from None
        return decoded if is_bytes else list(decoded)
    if not isinstance(value, (list, tuple)):
        raise _misfit(type_name, value, where)
    elements = [
        _fit_scalar(element_type, element, lambda number=number: f"{where()}, element {number}")  # type: ignore[misc]
        for number, element in enumerate(value, 1)
    ]
    return bytes(elements) if is_bytes else elements


WIRE_TYPES: tuple[str, ...] = ("bool", "string", *INT_RANGES, "float32", "float64", *SLICES, "json")
"""Every type name an `Arg` can state: Go's, and our own ``json``, which Go workers cannot read."""


# ---------------------------------------------------------------------------------------------------------- results


def encode_results(value: Any, advice: Sequence[str | None] = (), task_name: str = "") -> tuple[TaskResult, ...]:
    """What a task returned, as results: ``None`` and ``()`` are none, a tuple is several, anything else is one.

    ``advice`` are the `result_types` of the return annotation; the last holds for all further results. Raises `EncodeError`
    that names the task.
    """
    if value is None:
        return ()
    kind = type(value)
    advised = advice[0] if advice else None
    if kind is int and advised != "float64" and _MIN_INT64 <= value <= _MAX_INT64:
        return (TaskResult("int64", value),)
    if kind is str and value.isascii():
        return (TaskResult("string", value),)
    if not isinstance(value, tuple):
        return (TaskResult(*_advised(advised, value, lambda: f"the result of {task_name}")),)
    results = []
    for number, one in enumerate(value, 1):
        advised = advice[min(number, len(advice)) - 1] if advice else None
        results.append(TaskResult(*_advised(advised, one, lambda number=number: f"result {number} of {task_name}")))  # type: ignore[misc]
    return tuple(results)
