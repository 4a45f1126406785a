"""Signatures, states and group metadata ⇄ bytes, byte for byte as Go Machinery writes them (protocol §1.2, §2.2, §2.3).

Encoding raises `EncodeError` and nothing else; decoding raises `DecodeError`, naming the key, and nothing else, whatever the
bytes. Decoding is as lenient as Go: missing keys and ``null`` are zero values, unknown keys are dropped, keys may be in any
case, and what follows the first JSON value is ignored. A number that was decoded is encoded with the text it had.

Both directions are the hot path. A document that has exactly the keys and types Go writes takes the short way;
everything else goes through `_lenient`, which also knows what to complain about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from itertools import product
from operator import itemgetter
from typing import Any, NamedTuple

from machinery._json import (
    JsonFloat,
    bytes_text,
    float32_text,
    float_text,
    int_text,
    quote,
    read_json,
    read_text,
    to_bytes,
    write_json,
)
from machinery._signatures import MAX_PRIORITY, Signature, raw_signature
from machinery._states import GroupMeta, State, TaskResult, TaskState
from machinery._times import ZERO_TIME, decode_time, encode_time
from machinery._values import WIRE_TYPES, Arg
from machinery.errors import DecodeError, EncodeError

__all__ = [
    "decode_group",
    "decode_signature",
    "decode_state",
    "decode_time",
    "encode_group",
    "encode_signature",
    "encode_state",
    "encode_time",
    "encode_value",
]

_UNSOUND = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError)
"""What Python raises where a field holds something that is not of its type."""


# ----------------------------------------------------------------------------------------------- encoding signatures


def encode_signature(signature: Signature) -> bytes:
    """The message body. Raises `EncodeError`."""
    try:
        if _has_zero_tail(signature):
            return to_bytes(_head_text(signature) + _ZERO_TAIL)
        return to_bytes("".join(_pieces(signature)))
    except _UNSOUND as error:
        raise EncodeError(f"the signature of {_name_of(signature)} cannot be encoded: {_reason(error)}") from error


def _head_text(made: Signature) -> str:
    eta, headers, args, count = made.eta, made.headers, made.args, made.group_task_count
    return (
        f'{{"UUID":{quote(made.uuid)},"Name":{quote(made.name)},"RoutingKey":{quote(made.routing_key)},'
        f'"ETA":{"null" if eta is None else _quoted_time(eta)},"GroupUUID":{quote(made.group_uuid)},'
        f'"GroupTaskCount":{_int64(count) if count else 0},"Args":{_args_text(args, made) if args else "null"},'
        f'"Headers":{"null" if headers is None else _headers_text(headers, made) if headers else "{}"},'
    )


_ZERO_TAIL = (
    '"Priority":0,"Immutable":false,"RetryCount":0,"RetryTimeout":0,"OnSuccess":null,"OnError":null,"ChordCallback":null,'
    '"BrokerMessageGroupId":"","SQSReceiptHandle":"","StopTaskDeletionOnError":false,"IgnoreWhenTaskNotRegistered":false}'
)
"""How most signatures end: everything from the priority on is zero."""


def _has_zero_tail(made: Signature) -> bool:
    return not (
        made.priority
        or made.immutable
        or made.retry_count
        or made.retry_timeout
        or made.on_success
        or made.on_error
        or made.chord_callback
        or made.broker_message_group_id
        or made.sqs_receipt_handle
        or made.stop_task_deletion_on_error
        or made.ignore_when_task_not_registered
    )


def _pieces(outermost: Signature) -> list[str]:
    """The text of a signature that may hold others, without recursion: chains nest as deep as they are long."""
    pieces: list[str] = []
    pending: list[tuple[int, str | Signature]] = [(0, outermost)]
    while pending:
        depth, piece = pending.pop()
        if isinstance(piece, str):
            pieces.append(piece)
            continue
        if depth > DEEPEST_SIGNATURE:
            raise EncodeError(
                f"{_name_of(outermost)} nests more than {DEEPEST_SIGNATURE} signatures, deeper than Go's workers can read"
            )
        pieces.append(_head_text(piece))
        if _has_zero_tail(piece):
            pieces.append(_ZERO_TAIL)
        else:
            pending += [(depth + 1, part) for part in reversed(_tail_parts(piece))]
    return pieces


DEEPEST_SIGNATURE = 4_900
"""Go reads 10,000 levels; each link of a chain is two, and its arguments need some."""


def _tail_parts(made: Signature) -> list[str | Signature]:
    return [
        f'"Priority":{_priority(made.priority)},"Immutable":{_bool(made.immutable)},'
        f'"RetryCount":{_int64(made.retry_count)},"RetryTimeout":{_int64(made.retry_timeout)},"OnSuccess":',
        *_list_parts(made.on_success),
        ',"OnError":',
        *_list_parts(made.on_error),
        ',"ChordCallback":',
        "null" if made.chord_callback is None else made.chord_callback,
        f',"BrokerMessageGroupId":{quote(made.broker_message_group_id)},'
        f'"SQSReceiptHandle":{quote(made.sqs_receipt_handle)},'
        f'"StopTaskDeletionOnError":{_bool(made.stop_task_deletion_on_error)},'
        f'"IgnoreWhenTaskNotRegistered":{_bool(made.ignore_when_task_not_registered)}}}',
    ]


def _list_parts(signatures: tuple[Signature, ...]) -> list[str | Signature]:
    if not signatures:
        return ["null"]
    parts: list[str | Signature] = []
    for signature in signatures:
        parts += [",", signature]
    return ["[", *parts[1:], "]"]


def _args_text(args: tuple[Arg, ...], made: Signature) -> str:
    texts = []
    for arg in args:
        kind, value = arg.type, arg.value
        prefix = _ARG_PREFIXES.get(kind) if not arg.name else None
        if prefix is None:
            prefix = f'{{"Name":{quote(arg.name)},"Type":{quote(kind)},"Value":'
        try:
            texts.append(f"{prefix}{encode_value(kind, value)}}}")
        except EncodeError as error:
            which = repr(arg.name) if arg.name else str(len(texts) + 1)
            raise EncodeError(f"argument {which} of {_name_of(made)}: {error}") from None
    return "[" + ",".join(texts) + "]"


_ARG_PREFIXES = {name: f'{{"Name":"","Type":"{name}","Value":' for name in WIRE_TYPES}


def encode_value(type_name: str, value: Any) -> str:
    """The JSON text of an argument's or a result's value, before Go's escapes for HTML. Raises `EncodeError`."""
    kind = type(value)
    if kind is int:
        return int_text(value)
    if kind is str:
        return quote(value)
    if kind is float:
        return float32_text(value) if type_name == "float32" else float_text(value)
    if kind is bytes:
        return bytes_text(value)
    if type_name == "[]float32" and kind is list:
        return "[" + ",".join([encode_value("float32", element) for element in value]) + "]"
    return write_json(value)


def _headers_text(headers: Mapping[str, Any], made: Signature) -> str:
    try:
        return write_json(headers, sort_keys=True)
    except EncodeError as error:
        raise EncodeError(f"the headers of {_name_of(made)}: {error}") from None


def _quoted_time(moment: datetime) -> str:
    return f'"{encode_time(moment)}"'


def _bool(value: object) -> str:
    return "true" if value else "false"


def _int64(value: int) -> str:
    if not isinstance(value, int):
        raise EncodeError(f"{value!r} is not an integer")
    if not _MIN_INT64 <= value <= _MAX_INT64:
        raise EncodeError(f"an integer of {value.bit_length()} bits does not fit int64")
    return int.__repr__(value)


def _priority(value: int) -> str:
    if isinstance(value, int) and 0 <= value <= MAX_PRIORITY:
        return int.__repr__(value)
    raise EncodeError(f"the priority {value!r} is not an integer from 0 to {MAX_PRIORITY}")


def _name_of(signature: object) -> str:
    return str(getattr(signature, "name", type(signature).__name__))


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


_MIN_INT64, _MAX_INT64 = -(2**63), 2**63 - 1


# --------------------------------------------------------------------------------------------------- encoding records


def encode_state(state: TaskState) -> bytes:
    """A task's record as Redis, Memcached and AMQP keep it. ``Crashes``, a key of ours, is left out when 0."""
    try:
        results = state.results
        return to_bytes(
            f'{{"TaskUUID":{quote(state.task_uuid)},"TaskName":{quote(state.task_name)},"State":{quote(state.state)},'
            f'"Results":{"null" if results is None else _results_text(results)},"Error":{quote(state.error)},'
            f'"CreatedAt":{_quoted_time(state.created_at)},"TTL":{_int64(state.ttl) if state.ttl else 0}'
            f"{_crashes_text(state.crashes) if state.crashes else ''}}}"
        )
    except EncodeError as error:
        raise EncodeError(f"the state of {state.task_name} {state.task_uuid}: {error}") from None
    except _UNSOUND as error:
        raise EncodeError(f"the state cannot be encoded: {_reason(error)}") from error


def _crashes_text(crashes: int) -> str:
    return f',"Crashes":{_int64(crashes)}'


def _results_text(results: tuple[TaskResult, ...]) -> str:
    texts = []
    for result in results:
        kind = result.type
        prefix = _RESULT_PREFIXES.get(kind) or f'{{"Type":{quote(kind)},"Value":'
        texts.append(f"{prefix}{encode_value(kind, result.value)}}}")
    return "[" + ",".join(texts) + "]"


_RESULT_PREFIXES = {name: f'{{"Type":"{name}","Value":' for name in WIRE_TYPES}


def encode_group(group: GroupMeta) -> bytes:
    """A group's metadata as Redis and Memcached keep it. Raises `EncodeError`."""
    try:
        return to_bytes(
            f'{{"GroupUUID":{quote(group.group_uuid)},"TaskUUIDs":[{",".join(map(quote, group.task_uuids))}],'
            f'"ChordTriggered":{_bool(group.chord_triggered)},"Lock":{_bool(group.lock)},'
            f'"CreatedAt":{_quoted_time(group.created_at)},"TTL":{_int64(group.ttl)}}}'
        )
    except _UNSOUND as error:
        raise EncodeError(f"the group cannot be encoded: {_reason(error)}") from error


# ----------------------------------------------------------------------------------------------- decoding signatures


def decode_signature(body: bytes) -> Signature:
    """The signature that a message body says. Raises `DecodeError`."""
    if body.endswith(_ZERO_TAIL_BYTES) and (values := _head_values_of(body)) is not None:
        return _to_signature(values)
    document = read_json(body)
    if type(document) is not dict:
        raise DecodeError(f"a signature is a JSON object, not {_json_kind(document)}")
    values = _values_of(document)
    if any(values[position] for position in _INNER.values()):
        return _to_nested(document)
    return _to_signature(values)


def _head_values_of(body: bytes) -> tuple[Any, ...] | None:
    """The values of a body that ends in zeros, read from its head alone, which halves the time; ``None``: go the long way.

    The head with a brace for its last comma has to be a whole object, or the zeros belong to something else.
    """
    try:
        text = body[: -len(_ZERO_TAIL_BYTES)].decode() + "}"
        head, end = read_text(text)
        values = _head_values(head)
    except (DecodeError, UnicodeDecodeError, LookupError, TypeError):
        return None
    if end == len(text) and len(head) == len(values) and tuple(map(type, values)) in _HEAD_SHAPES:
        return values + _ZERO_VALUES
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
    """A signature inside others: the document, where it stands, and what it holds itself, last first."""

    __slots__ = ("document", "key", "made", "number", "parent", "values")

    def __init__(self, document: Any, parent: _Inner | None, key: str, number: int) -> None:
        self.document = document
        self.parent = parent
        self.key = key
        self.number = number
        self.values: tuple[Any, ...] = ()
        self.made: dict[str, list[Signature]] = {key: [] for key in _INNER}

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
    outermost = _Inner(document, None, "", 0)
    everything = [outermost]
    for inner in everything:  # the list grows meanwhile: every signature puts those that it holds at the end
        with _located(inner):
            inner.values = _values_of(inner.document)
            everything += [
                _Inner(part, inner, key, number)
                for key, position in _INNER.items()
                for number, part in enumerate(_parts(key, inner.values[position]))
            ]
    for inner in reversed(everything):  # from the innermost out
        with _located(inner):
            success, error, chord = inner.made.values()
            made = _to_signature(inner.values, tuple(success[::-1]), tuple(error[::-1]), chord[0] if chord else None)
        if inner.parent is not None:
            inner.parent.made[inner.key].append(made)
    return made


@contextmanager
def _located(inner: _Inner) -> Iterator[None]:
    try:
        yield
    except DecodeError as error:
        raise DecodeError(f"{inner.path}: {error}" if inner.path else str(error)) from None


def _parts(key: str, found: Any) -> list[dict[str, Any]]:
    """The documents under one of the keys that hold signatures."""
    documents = [found] if isinstance(found, dict) else found or []
    for number, document in enumerate(documents):
        if document is not None and type(document) is not dict:
            raise DecodeError(f"{key}[{number}] is {_json_kind(document)}, not an object")
    # Go keeps a nil for a null, and crashes when it gets there; it says nothing that could be lost.
    return [document for document in documents if document is not None]


# --------------------------------------------------------------------------------------------------- decoding records


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


# ------------------------------------------------------------------------------------------------------------- leniency


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

_INNER = {key.name: _SIGNATURE.index(key) for key in _SIGNATURE if key.name in {"OnSuccess", "OnError", "ChordCallback"}}
"""The keys that hold signatures, and their places."""

_ZERO_TAIL_BYTES = f",{_ZERO_TAIL}".encode()
_ZERO_VALUES = tuple(key.zero for key in _TAIL)


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
