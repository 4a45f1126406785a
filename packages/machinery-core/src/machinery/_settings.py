"""One setting: a value as a person wrote it, checked and turned into the type that its field declares.

Used for `Config` itself and for the plug-ins' options. Every refusal says where the setting stands, its value (redacted) and
what would be right.
"""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, overload

from machinery._urls import redact_value
from machinery.errors import ConfigError

LONGEST_SPAN = timedelta(days=36_500)
"""A hundred years: longer is a slip, and would overflow dates."""

_FLAGS = {
    **dict.fromkeys(("1", "on", "t", "true", "y", "yes"), True),
    **dict.fromkeys(("0", "f", "false", "n", "no", "off"), False),
}


class Span:
    """The type of a dataclass field that takes a `timedelta` or a number of seconds and gives a `timedelta`.

    For type checkers, which read the two types off ``__set__`` and ``__get__``; the dataclass must be slotted and turn what it
    was given into a `timedelta` itself (`to_setting`).
    """

    def __init__(self, default: timedelta) -> None:
        self.default = default

    @overload
    def __get__(self, instance: None, owner: type) -> timedelta: ...
    @overload
    def __get__(self, instance: object, owner: type) -> timedelta: ...
    def __get__(self, instance: object | None, owner: type) -> timedelta:
        return self.default

    def __set__(self, instance: object, value: timedelta | float) -> None:
        raise NotImplementedError("a dataclass with Span fields must be slotted")


def refuse(label: str, name: str, value: Any, right: str) -> NoReturn:
    """Raise `ConfigError`: the setting ``name``, shown as ``label``, has a ``value`` that is not ``right``."""
    raise ConfigError(f"{label} is {redact_value(name, value)!r}; {right}")


def to_setting(value: Any, hint: Any, name: str, label: str, *, from_text: bool = False) -> Any:
    """``value`` as the type ``hint``. Raises `ConfigError`.

    ``hint`` is `str`, `bool`, `int`, `float`, `timedelta` or `Span`, a `Literal`, a list, tuple or mapping, or any of these or
    ``None`` (``None`` itself is for a key that is left out); of any other type everything is let through. ``from_text``: text
    that says a flag, a number, ``a,b`` or ``k:v,k:v`` will do (environment variables).
    """
    if get_origin(hint) in {Union, types.UnionType}:
        hint = next(inner for inner in get_args(hint) if inner is not types.NoneType)
    kind = get_origin(hint) or hint
    if from_text and isinstance(value, str):
        value = _read_text(value, kind)
    if kind is Literal:
        return _to_choice(value, get_args(hint), name, label)
    if kind in {timedelta, Span}:
        return _to_span(value, name, label)
    if kind is float:
        return _to_number(value, name, label)
    if kind in _KINDS:
        accepted, made, right = _KINDS[kind]
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is int):
            refuse(label, name, value, right)
        return made(value)
    return value


_KINDS: Mapping[Any, tuple[Any, Callable[[Any], Any], str]] = {
    str: (str, str, "it must be text"),
    bool: (bool, bool, "it must be true or false"),
    int: (int, int, "it must be a whole number"),
    list: (list | tuple, list, "it must be a list"),
    tuple: (list | tuple, tuple, "it must be a list"),
    dict: (Mapping, dict, "it must be a table of keys and values"),
    Mapping: (Mapping, dict, "it must be a table of keys and values"),
}
"""Type → what is accepted for it, what makes it, what to say of anything else."""


def _read_text(text: str, kind: Any) -> Any:
    """What ``text`` says as a ``kind``, or ``text`` itself where it says nothing of that kind."""
    if kind is bool:
        return _FLAGS.get(text.strip().lower(), text)
    if kind in {list, tuple}:
        return [item.strip() for item in text.split(",")] if text else []
    if kind in {dict, Mapping}:
        pairs = [item.partition(":") for item in text.split(",") if item]
        return {key.strip(): value.strip() for key, _, value in pairs} if all(colon for _, colon, _ in pairs) else text
    if kind in {int, float, timedelta, Span}:
        return _read_number(text, whole=kind is int)
    return text


def _read_number(text: str, *, whole: bool) -> Any:
    for read in (int,) if whole else (int, float):
        with contextlib.suppress(ValueError):
            return read(text)
    return text


def _to_number(value: Any, name: str, label: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        refuse(label, name, value, "it must be a number")
    return float(value)


def _to_span(value: Any, name: str, label: str) -> timedelta:
    right = "it must be a span from 0 to a hundred years: a timedelta or a number of seconds, such as 30"
    if isinstance(value, timedelta):
        span = value
    elif isinstance(value, bool) or not isinstance(value, int | float):
        refuse(label, name, value, right)
    elif abs(value) <= LONGEST_SPAN.total_seconds():
        span = timedelta(seconds=value)
    else:
        refuse(label, name, value, right)
    if not timedelta(0) <= span <= LONGEST_SPAN:
        refuse(label, name, value, right)
    return span


def _to_choice(value: Any, choices: tuple[Any, ...], name: str, label: str) -> Any:
    if value not in choices:
        refuse(label, name, value, f"it must be one of {', '.join(map(repr, choices))}{closest(value, choices)}")
    return value


def closest(word: object, words: Iterable[object], likeness: float = 0.6) -> str:
    """`` (did you mean 'redis'?)`` for the one of ``words`` that is most like ``word``; empty where none is (0 to 1)."""
    import difflib  # noqa: PLC0415 - only once something is wrong

    found = difflib.get_close_matches(str(word), [str(known) for known in words], n=1, cutoff=likeness)
    return f" (did you mean {found[0]!r}?)" if found else ""
