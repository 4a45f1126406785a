"""Annotations → the wire types that they stand for."""

from __future__ import annotations

import types
from collections.abc import Collection, Iterable, MutableSequence, Sequence
from typing import Annotated, Literal, NewType, Union, get_args, get_origin

_PLAIN: dict[object, str] = {
    int: "int64",
    float: "float64",
    str: "string",
    bool: "bool",
    bytes: "[]uint8",
    bytearray: "[]uint8",
}
_ELEMENTS = {"int64", "float64", "string", "bool"}
_LISTS = {list, Sequence, MutableSequence, Collection, Iterable}


def wire_type(annotation: object) -> str | None:
    """The wire type that a resolved annotation stands for; ``None`` where the value has to say it.

    Knows ``int float str bool bytes``, lists, sequences and ``tuple[X, ...]`` of the first four, and these in ``Optional``,
    ``Annotated``, ``NewType`` and ``Literal``.
    """
    bare = _unwrapped(annotation)
    origin, parts = get_origin(bare), get_args(bare)
    if origin is Literal:
        kinds = {type(part) for part in parts}
        return _PLAIN.get(kinds.pop()) if len(kinds) == 1 else None
    if parts and (origin in _LISTS or (origin is tuple and parts[1:] == (...,))):
        element = wire_type(parts[0])
        return f"[]{element}" if element in _ELEMENTS else None
    return _PLAIN.get(bare) if isinstance(bare, type) else None


def result_types(annotation: object) -> tuple[str | None, ...]:
    """The `wire_type` of each result of a task whose resolved return annotation is this; ``()`` where it says nothing."""
    bare = _unwrapped(annotation)
    if get_origin(bare) is tuple:
        return tuple([wire_type(part) for part in get_args(bare) if part is not ...])
    only = wire_type(annotation)
    return () if only is None else (only,)


def _unwrapped(annotation: object) -> object:
    """What is inside ``NewType``, ``Annotated`` and ``Optional``."""
    while True:
        origin, parts = get_origin(annotation), get_args(annotation)
        if isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif origin is Annotated:
            annotation = parts[0]
        elif origin is Union or origin is types.UnionType:
            others = [part for part in parts if part is not type(None)]
            if len(others) != 1:
                return annotation
            annotation = others[0]
        else:
            return annotation
