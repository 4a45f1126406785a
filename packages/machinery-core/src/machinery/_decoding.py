"""Bytes → signatures, states and groups. What `machinery.wire` promises of decoding is kept here.

A document that has exactly the keys and types Go writes takes the short way; everything else goes through `_lenient`, which
also knows what to complain about.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from itertools import product
from operator import itemgetter
from typing import Any, NamedTuple

from machinery._encoding import ZERO_TAIL
from machinery._go_json import JsonFloat, read_json, read_text
from machinery._reading import INT_RANGES
from machinery._signatures import MAX_PRIORITY, Signature, raw_signature
from machinery._states import GroupMeta, State, TaskResult, TaskState
from machinery._times import ZERO_TIME, decode_time
from machinery._values import Arg
from machinery.errors import DecodeError

_MIN_INT64, _MAX_INT64 = INT_RANGES["int64"]


def decode_signature(body: bytes) -> Signature:
    """The signature that a message body says. Raises `DecodeError`."""
    if body.endswith(_ZERO_TAIL_BYTES):
        if (values := _head_values_of(body[: -len(_ZERO_TAIL_BYTES)])) is not None:
            return _to_signature(values + _ZERO_VALUES)
    elif _CHORD in body and (member := _member_of(body)) is not None:
        return member
    document = read_json(body)
    if type(document) is not dict:
        raise DecodeError(f"a signature is a JSON object, not {_json_kind(document)}")
    values = _values_of(document)
    if any(values[position] for position in _INNER.values()):
        return _to_nested(document)
    return _to_signature(values)


def _head_values_of(head: bytes) -> tuple[Any, ...] | None:
    """The values of a body's first keys, up to the comma before the priority; ``None``: go the long way.

    Bodies end alike, and reading the head alone halves the time. With a brace it has to be a whole object, or the rest of
    the body belongs to something else.
    """
    try:
        text = head.decode() + "}"
        document, end = read_text(text)
        values = _head_values(document)
    except (DecodeError, UnicodeDecodeError, LookupError, TypeError):
        return None
    if end == len(text) and len(document) == len(values) and tuple(map(type, values)) in _HEAD_SHAPES:
        return values
    return None


def _member_of(body: bytes) -> Signature | None:
    """The member of a chord that a body says; ``None``: go the long way."""
    head, comma, tail = body.partition(_HEAD_END)
    if not comma or len(tail) > _LONGEST_TAIL:
        return None
    rest = _end_of_members(tail)
    if rest is None or (values := _head_values_of(head)) is None:
        return None
    values += (
        rest.priority, rest.immutable, rest.retry_count, rest.retry_timeout, None, None, None, rest.broker_message_group_id,
        rest.sqs_receipt_handle, rest.stop_task_deletion_on_error, rest.ignore_when_task_not_registered,
    )  # fmt: skip
    return _to_signature(values, rest.on_success, rest.on_error, rest.chord_callback)


@lru_cache(maxsize=8)
def _end_of_members(tail: bytes) -> Signature | None:
    """What follows `_HEAD_END` in the body of a chord's member: the same for all members, with the whole callback.

    ``None`` where it is not exactly what Go writes.
    """
    try:
        document = read_json(b'{"Priority":' + tail)
        if type(document) is not dict or document.keys() != _TAIL_NAMES:
            return None
        return _to_nested(_ZERO_HEAD | document)
    except DecodeError:
        return None


def _values_of(document: dict[str, Any]) -> tuple[Any, ...]:
    """The values of a signature's keys, in order and each of its type. Raises `DecodeError`."""
    try:
        values = _signature_values(document)
    except KeyError:
        return _lenient(document, _SIGNATURE)
    if len(document) == len(values) and tuple(map(type, values)) in _SIGNATURE_SHAPES:
        return values
    return _lenient(document, _SIGNATURE)


def _to_signature(
    values: tuple[Any, ...],
    on_success: tuple[Signature, ...] = (),
    on_error: tuple[Signature, ...] = (),
    chord_callback: Signature | None = None,
) -> Signature:
    (
        uuid, name, routing_key, eta, group_uuid, group_task_count, args, headers, priority, immutable, retry_count,
        retry_timeout, _, _, _, message_group_id, receipt_handle, stop_deletion, ignore,
    ) = values  # fmt: skip
    if not (
        0 <= priority <= MAX_PRIORITY
        and _MIN_INT64 <= group_task_count <= _MAX_INT64
        and _MIN_INT64 <= retry_count <= _MAX_INT64
        and _MIN_INT64 <= retry_timeout <= _MAX_INT64
    ):
        raise DecodeError(_out_of_range(values))
    return raw_signature(
        name,
        tuple([_to_arg(arg) for arg in args]) if args else (),
        uuid,
        routing_key,
        None if eta is None else _to_time("ETA", eta),
        group_uuid,
        group_task_count,
        headers,
        priority,
        immutable,
        retry_count,
        retry_timeout,
        on_success,
        on_error,
        chord_callback,
        message_group_id,
        receipt_handle,
        stop_deletion,
        ignore,
    )


def _out_of_range(values: tuple[Any, ...]) -> str:
    for key, value in zip(_SIGNATURE, values, strict=True):
        if key.kind is int and not _MIN_INT64 <= value <= _MAX_INT64:
            return f"{key.name} does not fit int64"
    return f"Priority is outside 0 to {MAX_PRIORITY}"


def _to_arg(document: Any) -> Arg:
    if type(document) is dict and len(document) == len(_ARG):
        try:
            name, kind, value = _arg_values(document)
        except KeyError:
            pass
        else:
            if type(name) is str and type(kind) is str:
                return Arg(kind, value, name)
    name, kind, value = _lenient(document, _ARG, "an element of Args")
    return Arg(kind, value, name)


def _to_time(key: str, text: str) -> datetime:
    try:
        return decode_time(text)
    except DecodeError as error:
        raise DecodeError(f"{key}: {error}") from None


class _Inner:
    """A signature among others: its document, where it stands, and what it holds itself by key, last first."""

    __slots__ = ("document", "key", "made", "number", "parent", "values")

    def __init__(self, document: Any, parent: _Inner | None, key: str, number: int) -> None:
        self.document = document
        self.parent = parent
        self.key = key
        self.number = number
        self.values: tuple[Any, ...] = ()
        self.made: dict[str, list[Signature]] = {}

    @property
    def path(self) -> str:
        """What an error calls it: ``OnSuccess[0].OnError[1]``, shortened where it stands very deep."""
        labels: list[str] = []
        inner = self
        while inner.parent is not None:
            labels.insert(0, f"{inner.key}[{inner.number}]")
            inner = inner.parent
        if len(labels) > _LONGEST_PATH:
            labels[2:-2] = [f"… {len(labels) - 4} more …"]
        return ".".join(labels)


_LONGEST_PATH = 8


def _to_nested(document: dict[str, Any]) -> Signature:
    """A signature with all that it holds, without recursion: chains nest as deep as they are long."""
    inner = _Inner(document, None, "", 0)
    everything = [inner]
    try:
        for inner in everything:  # the list grows meanwhile: every signature puts those that it holds at the end
            inner.values = _values_of(inner.document)
            for key, position in _INNER.items():
                if found := inner.values[position]:
                    parts = enumerate(_parts(key, found))
                    everything += [_Inner(part, inner, key, number) for number, part in parts]
        for inner in reversed(everything):  # from the innermost out
            made = _to_signature(inner.values, *_all_parts(inner.made)) if inner.made else _to_signature(inner.values)
            if inner.parent is None:
                return made
            inner.parent.made.setdefault(inner.key, []).append(made)
    except DecodeError as problem:
        raise DecodeError(f"{inner.path}: {problem}" if inner.path else str(problem)) from None
    raise AssertionError("the outermost signature has no parent")


def _all_parts(
    made: dict[str, list[Signature]],
) -> tuple[tuple[Signature, ...], tuple[Signature, ...], Signature | None]:
    success, error, chord = (made.get(key, [])[::-1] for key in _INNER)
    return tuple(success), tuple(error), chord[0] if chord else None


def _parts(key: str, found: Any) -> list[dict[str, Any]]:
    """The documents under one of the keys that hold signatures."""
    documents = [found] if isinstance(found, dict) else found
    for number, document in enumerate(documents):
        if document is not None and type(document) is not dict:
            raise DecodeError(f"{key}[{number}] is {_json_kind(document)}, not an object")
    # Go keeps a nil for a null, and crashes when it gets there; it says nothing that could be lost.
    return [document for document in documents if document is not None]


# ---------------------------------------------------------------------------------------------------------- records


def decode_state(body: bytes) -> TaskState:
    """The task's record that these bytes say. Raises `DecodeError`."""
    document = read_json(body)
    try:
        values = (*_state_values(document), 0)
    except (LookupError, TypeError):
        values = _lenient(document, _STATE)
    else:
        if len(document) != len(values) - 1 or tuple(map(type, values)) not in _STATE_SHAPES:
            values = _lenient(document, _STATE)
    uuid, name, state, results, error, created_at, ttl, crashes = values
    known = _STATES.get(state)
    if known is None:
        raise DecodeError(f"State is {state!r}; the states are {', '.join(State)}")
    return TaskState(
        uuid,
        name,
        known,
        None if results is None else tuple([_to_result(result) for result in results]),
        error,
        ZERO_TIME if created_at is None else _to_time("CreatedAt", created_at),
        ttl,
        crashes,
    )


_STATES = {str(state): state for state in State} | {"": State.PENDING}


def _to_result(document: Any) -> TaskResult:
    if type(document) is dict and len(document) == len(_RESULT):
        try:
            kind, value = _result_values(document)
        except KeyError:
            pass
        else:
            if type(kind) is str:
                return TaskResult(kind, value)
    kind, value = _lenient(document, _RESULT, "an element of Results")
    return TaskResult(kind, value)


def decode_group(body: bytes) -> GroupMeta:
    """The group's metadata that these bytes say. Raises `DecodeError`."""
    uuid, members, triggered, lock, created_at, ttl = _lenient(read_json(body), _GROUP)
    members = members or []
    if not all(type(member) is str for member in members):
        members = ["" if member is None else member for member in members]
        for member in members:
            if type(member) is not str:
                raise DecodeError(f"an element of TaskUUIDs is {_json_kind(member)}, not a string")
    return GroupMeta(
        uuid,
        tuple(members),
        triggered,
        lock,
        ZERO_TIME if created_at is None else _to_time("CreatedAt", created_at),
        ttl,
    )


# --------------------------------------------------------------------------------------------------------- leniency


class _Key(NamedTuple):
    """A key of a Go struct: its type as JSON gives it, and what stands for a missing one."""

    name: str
    kind: type
    zero: Any


_SIGNATURE = (
    _Key("UUID", str, ""),
    _Key("Name", str, ""),
    _Key("RoutingKey", str, ""),
    _Key("ETA", str, None),
    _Key("GroupUUID", str, ""),
    _Key("GroupTaskCount", int, 0),
    _Key("Args", list, None),
    _Key("Headers", dict, None),
    _Key("Priority", int, 0),
    _Key("Immutable", bool, False),
    _Key("RetryCount", int, 0),
    _Key("RetryTimeout", int, 0),
    _Key("OnSuccess", list, None),
    _Key("OnError", list, None),
    _Key("ChordCallback", dict, None),
    _Key("BrokerMessageGroupId", str, ""),
    _Key("SQSReceiptHandle", str, ""),
    _Key("StopTaskDeletionOnError", bool, False),
    _Key("IgnoreWhenTaskNotRegistered", bool, False),
)
_HEAD, _TAIL = _SIGNATURE[:8], _SIGNATURE[8:]
_ARG = (_Key("Name", str, ""), _Key("Type", str, ""), _Key("Value", object, None))
_RESULT = (_Key("Type", str, ""), _Key("Value", object, None))
_STATE = (
    _Key("TaskUUID", str, ""),
    _Key("TaskName", str, ""),
    _Key("State", str, ""),
    _Key("Results", list, None),
    _Key("Error", str, ""),
    _Key("CreatedAt", str, None),
    _Key("TTL", int, 0),
    _Key("Crashes", int, 0),  # ours, and absent when it is 0
)
_GROUP = (
    _Key("GroupUUID", str, ""),
    _Key("TaskUUIDs", list, None),
    _Key("ChordTriggered", bool, False),
    _Key("Lock", bool, False),
    _Key("CreatedAt", str, None),
    _Key("TTL", int, 0),
)

_INNER = {
    key.name: _SIGNATURE.index(key) for key in _SIGNATURE if key.name in {"OnSuccess", "OnError", "ChordCallback"}
}
"""The keys that hold signatures, and their places."""

_ZERO_TAIL_BYTES = f",{ZERO_TAIL}".encode()
_ZERO_VALUES = tuple(key.zero for key in _TAIL)
_ZERO_HEAD = {key.name: key.zero for key in _HEAD}
_TAIL_NAMES = {key.name for key in _TAIL}
_HEAD_END = b',"Priority":'
_CHORD = b'"ChordCallback":{"'
_LONGEST_TAIL = 64 * 1024
"""Bytes: no more is kept of a callback than that, to be compared with the next one's."""


def _values_getter(keys: tuple[_Key, ...]) -> Callable[[Any], tuple[Any, ...]]:
    return itemgetter(*[key.name for key in keys])


def _shapes(keys: tuple[_Key, ...]) -> frozenset[tuple[type, ...]]:
    """The types of the keys' values, in every combination that Go writes."""
    return frozenset(product(*[(key.kind, type(None)) if key.zero is None else (key.kind,) for key in keys]))


_signature_values, _head_values = _values_getter(_SIGNATURE), _values_getter(_HEAD)
_state_values, _arg_values, _result_values = _values_getter(_STATE[:-1]), _values_getter(_ARG), _values_getter(_RESULT)
_SIGNATURE_SHAPES, _HEAD_SHAPES, _STATE_SHAPES = _shapes(_SIGNATURE), _shapes(_HEAD), _shapes(_STATE)


def _lenient(document: Any, keys: tuple[_Key, ...], called: str = "the document") -> tuple[Any, ...]:
    """The values of ``keys`` in ``document`` as Go's decoder would find them. Raises `DecodeError` naming the key."""
    if document is None:
        document = {}
    if type(document) is not dict:
        raise DecodeError(f"{called} is {_json_kind(document)}, not an object")
    by_folded_name = {_folded(name): value for name, value in document.items()}
    values = []
    for key in keys:
        value = by_folded_name.get(_folded(key.name))
        if value is None:
            value = key.zero
        elif key.kind is int and type(value) is JsonFloat and value.text == "-0":
            value = 0
        elif key.kind is not object and type(value) is not key.kind:
            raise DecodeError(f"{key.name} is {_json_kind(value)}, not {_KINDS[key.kind]}")
        elif key.kind is int and not _MIN_INT64 <= value <= _MAX_INT64:
            raise DecodeError(f"{key.name} does not fit int64")
        values.append(value)
    return tuple(values)


def _folded(name: str) -> str:
    """``name`` as Go compares keys: by simple case folding, character by character."""
    folded = name.casefold()
    return folded if len(folded) == len(name) else name


_KINDS = {str: "a string", int: "an integer", bool: "a bool", list: "an array", dict: "an object", type(None): "null"}


def _json_kind(value: object) -> str:
    return _KINDS.get(type(value), "a number with a fraction or exponent")
