"""Signatures, states and groups → bytes. What `machinery.wire` promises of encoding is kept here.

The texts are put together by hand: the keys never change, and nearly every signature ends in the same zeros.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from machinery._go_json import (
    bytes_text,
    float32_text,
    float_text,
    int_text,
    own_float_text,
    quote,
    to_bytes,
    write_json,
)
from machinery._reading import INT_RANGES
from machinery._signatures import MAX_PRIORITY, Signature
from machinery._states import GroupMeta, TaskResult, TaskState
from machinery._times import encode_time
from machinery._values import WIRE_TYPES, Arg
from machinery.errors import EncodeError

_UNSOUND = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError)
"""What Python raises where a field holds something that is not of its type."""

_MIN_INT64, _MAX_INT64 = INT_RANGES["int64"]


def encode_signature(signature: Signature) -> bytes:
    """The message body. Raises `EncodeError`."""
    try:
        if _has_zero_tail(signature):
            return to_bytes(_head_text(signature) + ZERO_TAIL)
        if not (signature.on_success or signature.on_error or signature.chord_callback):
            return to_bytes(_head_text(signature) + _NO_PARTS.join(_tail_texts(signature)))
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


ZERO_TAIL = (
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
            pieces.append(ZERO_TAIL)
        else:
            pending += [(depth + 1, part) for part in reversed(_tail_parts(piece))]
    return pieces


DEEPEST_SIGNATURE = 4_900
"""Go reads 10,000 levels; each link of a chain is two, and its arguments need some."""


def _tail_parts(made: Signature) -> list[str | Signature]:
    before, after = _tail_texts(made)
    return [
        before,
        *_list_parts(made.on_success),
        ',"OnError":',
        *_list_parts(made.on_error),
        ',"ChordCallback":',
        "null" if made.chord_callback is None else _part(made.chord_callback),
        after,
    ]


def _tail_texts(made: Signature) -> tuple[str, str]:
    """What stands before and after the signatures that this one holds."""
    before = (
        f'"Priority":{_priority(made.priority)},"Immutable":{_bool(made.immutable)},'
        f'"RetryCount":{_int64(made.retry_count)},"RetryTimeout":{_int64(made.retry_timeout)},"OnSuccess":'
    )
    after = (
        f',"BrokerMessageGroupId":{quote(made.broker_message_group_id)},'
        f'"SQSReceiptHandle":{quote(made.sqs_receipt_handle)},'
        f'"StopTaskDeletionOnError":{_bool(made.stop_task_deletion_on_error)},'
        f'"IgnoreWhenTaskNotRegistered":{_bool(made.ignore_when_task_not_registered)}}}'
    )
    return before, after


_NO_PARTS = 'null,"OnError":null,"ChordCallback":null'


def _list_parts(signatures: tuple[Signature, ...]) -> list[str | Signature]:
    if not signatures:
        return ["null"]
    parts: list[str | Signature] = []
    for signature in signatures:
        parts += [",", _part(signature)]
    return ["[", *parts[1:], "]"]


def _part(signature: object) -> Signature:
    if isinstance(signature, Signature):
        return signature
    raise EncodeError(f"{_name_of(signature)!r} among the successors is no signature")


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
        return _FLOAT_TEXTS.get(type_name, float_text)(value)
    if kind is bytes:
        return bytes_text(value)
    if type_name == "[]float32" and kind is list:
        return "[" + ",".join([encode_value("float32", element) for element in value]) + "]"
    return write_json(value, as_go=type_name != "json")


_FLOAT_TEXTS = {"float32": float32_text, "json": own_float_text}


def plain_value(value: Any) -> Any:
    """``value`` of an argument or a result in plain JSON types, for stores that keep more than text: bytes become base64.

    Numbers lose the text they were decoded from. Raises `EncodeError` where it is nested too deeply.
    """
    try:
        return _plain(value)
    except RecursionError:
        raise EncodeError("the value is nested too deeply, or contains itself") from None


def _plain(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray)):
        return b64encode(value).decode()
    if isinstance(value, (list, tuple)):
        return [_plain(element) for element in value]
    if isinstance(value, Mapping):
        return {key: _plain(element) for key, element in value.items()}
    return float(value) if isinstance(value, float) else value


def _headers_text(headers: Mapping[str, Any], made: Signature) -> str:
    try:
        return write_json(headers)
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
    if not 0 <= value <= MAX_PRIORITY:
        raise EncodeError(f"the priority {value!r} is outside 0 to {MAX_PRIORITY}")
    return _int64(value)


def _name_of(signature: object) -> str:
    name = getattr(signature, "name", None)
    return name if isinstance(name, str) else type(signature).__name__


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


# ---------------------------------------------------------------------------------------------------------- records


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
