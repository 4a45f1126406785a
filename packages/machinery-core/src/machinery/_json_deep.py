"""A JSON reader that needs no recursion: for documents nested deeper than Python's own reader goes.

A chain of tasks nests two levels a task, so that Python's reader ends at about 500 of them; Go's at 10,000 levels, and so does
this one. Ten times slower than the other, and asked only when that one gave up.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed leaves it out
from typing import Any

DEEPEST = 10_000
"""Levels of arrays and objects; Go's limit."""

_blanks = re.compile(r"[ \t\r\n]*").match
_literal = re.compile(
    r"null|true|false|(?P<number>-?(?:0|[1-9][0-9]*)(?P<fraction>\.[0-9]+)?(?P<exponent>[eE][+-]?[0-9]+)?)"
).match
_LITERALS: dict[str, Any] = {"null": None, "true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Leaves:
    """What the values at the ends become: the texts of numbers, and strings."""

    of_int: Callable[[str], Any]
    of_float: Callable[[str], Any]
    of_string: Callable[[str], str]


def read_deep(text: str, start: int, leaves: Leaves) -> tuple[Any, int]:
    """The JSON value that begins at ``start``, and the position after it. Raises `ValueError`."""
    return _Reader(text, leaves).read(start)


class _Reader:
    def __init__(self, text: str, leaves: Leaves) -> None:
        self._text = text
        self._leaves = leaves
        self._open: list[list[Any] | dict[str, Any]] = []
        """The containers that are not closed yet, outermost first."""
        self._keys: list[str] = []
        """The key that each open object is waiting for a value of."""

    def read(self, position: int) -> tuple[Any, int]:
        while True:
            value, position = self._value(position)
            if value is _OPENED:
                continue
            while self._open:
                value, position = self._put(value, position)
                if value is _OPENED:
                    break
            else:
                return value, position

    def _value(self, position: int) -> tuple[Any, int]:
        """A value without parts and the position after it; or `_OPENED` and the position of a container's first value."""
        text = self._text
        char = text[position : position + 1]
        if char == '"':
            return self._string(position)
        if char in {"[", "{"}:
            if len(self._open) == DEEPEST:
                raise ValueError(f"nested more than {DEEPEST} deep")
            made: list[Any] | dict[str, Any] = [] if char == "[" else {}
            position = self._skip_blanks(position + 1)
            if text.startswith("]" if char == "[" else "}", position):
                return made, position + 1
            self._open.append(made)
            return _OPENED, position if char == "[" else self._key(position)
        found = _literal(text, position)
        if found is None:
            raise ValueError(f"no value at character {position}")
        said = found.group()
        if found["number"] is None:
            return _LITERALS[said], found.end()
        is_int = found["fraction"] is None and found["exponent"] is None
        return (self._leaves.of_int if is_int else self._leaves.of_float)(said), found.end()

    def _put(self, value: Any, position: int) -> tuple[Any, int]:
        """Puts a finished value where it belongs: the container, if that ends it, or `_OPENED` and where the next value is."""
        around = self._open[-1]
        if isinstance(around, list):
            around.append(value)
        else:
            around[self._keys.pop()] = value
        position = self._skip_blanks(position)
        char = self._text[position : position + 1]
        if char == ",":
            position = self._skip_blanks(position + 1)
            return _OPENED, position if isinstance(around, list) else self._key(position)
        if char != ("]" if isinstance(around, list) else "}"):
            raise ValueError(f"neither a comma nor an end at character {position}")
        return self._open.pop(), position + 1

    def _key(self, position: int) -> int:
        """Remembers the key at ``position``; the position of its value."""
        if not self._text.startswith('"', position):
            raise ValueError(f"no key at character {position}")
        key, position = self._string(position)
        position = self._skip_blanks(position)
        if not self._text.startswith(":", position):
            raise ValueError(f"no colon at character {position}")
        self._keys.append(key)
        return self._skip_blanks(position + 1)

    def _string(self, position: int) -> tuple[str, int]:
        said, position = scanstring(self._text, position + 1)
        return self._leaves.of_string(said), position

    def _skip_blanks(self, position: int) -> int:
        return _blanks(self._text, position).end()  # type: ignore[union-attr]  # it matches the empty text


_OPENED = object()
"""No value yet: a container has been opened, or goes on."""
