"""Signatures: what to call, with which arguments, and what to do afterwards. Plain data, frozen (protocol §1.1)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter
from typing import Any

from machinery._go_json import is_utf8
from machinery._values import Arg, to_arg
from machinery.errors import EncodeError

MAX_PRIORITY = 255
"""The wire's priority is an unsigned byte; Go cannot decode a message with another (protocol §1.1)."""

MAX_COUNT = 2**63
"""Go's ``int`` ends before this."""


def new_uuid(prefix: str) -> str:
    """A fresh id, ``<prefix>_<uuid>``: 122 random bits as a UUID of version 4 (RFC 9562 §5.4).

    Python's own `uuid` takes three times as long, for an object that nobody needs, and reads the platform when imported.
    """
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{prefix}_{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def new_task_uuid() -> str:
    """A fresh task id, ``task_<uuid4>``."""
    return new_uuid("task")


@dataclass(frozen=True, slots=True)
class Signature:
    """One call of a registered task, as it travels. Fields stand in the order of the wire; names are Go's in snake case.

    ``args`` takes plain Python values (their wire types are inferred) or `Arg` objects that state one. A signature without
    ``uuid`` gets one when it is sent, so the same object can be sent twice; one *with* a uuid is re-submitted under it.
    Raises `EncodeError`, naming the argument or field, for what the wire cannot say.
    """

    name: str
    args: tuple[Arg, ...] = ()
    uuid: str = ""
    routing_key: str = ""
    """The queue; empty means the server's default queue."""
    eta: datetime | None = None
    """Earliest time to run, aware."""
    group_uuid: str = ""
    group_task_count: int = 0
    headers: Mapping[str, Any] | None = None
    priority: int = 0
    immutable: bool = False
    """Do not pass this task's results on to its ``on_success``; for a chord's callback: do not take the group's results."""
    retry_count: int = 0
    """Retries left."""
    retry_timeout: int = 0
    """The last delay in seconds: the state of the Fibonacci row."""
    on_success: tuple[Signature, ...] = ()
    on_error: tuple[Signature, ...] = ()
    chord_callback: Signature | None = None
    broker_message_group_id: str = ""
    sqs_receipt_handle: str = ""
    stop_task_deletion_on_error: bool = False
    ignore_when_task_not_registered: bool = False

    def __init__(
        self,
        name: str,
        args: Iterable[object] | None = (),
        *,
        uuid: str = "",
        routing_key: str = "",
        eta: datetime | None = None,
        group_uuid: str = "",
        group_task_count: int = 0,
        headers: Mapping[str, Any] | None = None,
        priority: int = 0,
        immutable: bool = False,
        retry_count: int = 0,
        retry_timeout: int = 0,
        on_success: Iterable[Signature] | None = (),
        on_error: Iterable[Signature] | None = (),
        chord_callback: Signature | None = None,
        broker_message_group_id: str = "",
        sqs_receipt_handle: str = "",
        stop_task_deletion_on_error: bool = False,
        ignore_when_task_not_registered: bool = False,
    ) -> None:
        if not name or not isinstance(name, str):
            raise EncodeError(f"a signature needs the task's name, a non-empty string, not {name!r}")
        check_texts(name, uuid, routing_key, group_uuid, broker_message_group_id, sqs_receipt_handle)
        if eta is not None:
            _check_eta(name, eta)
        if priority or group_task_count or retry_count or retry_timeout:
            _check_counts(name, priority, group_task_count, retry_count, retry_timeout)
        after_success = _signatures(name, "on_success", on_success) if on_success else ()
        after_error = _signatures(name, "on_error", on_error) if on_error else ()
        if after_success or after_error or chord_callback is not None:
            _check_signatures(name, after_success, after_error, chord_callback)
        values = args if type(args) is list or type(args) is tuple else _values(name, args)
        raw_signature(
            name,
            tuple([to_arg(value, position, name) for position, value in enumerate(values)]),
            uuid,
            routing_key,
            eta,
            group_uuid,
            group_task_count,
            None if headers is None else checked_headers(name, headers),
            priority,
            immutable,
            retry_count,
            retry_timeout,
            after_success,
            after_error,
            chord_callback,
            broker_message_group_id,
            sqs_receipt_handle,
            stop_task_deletion_on_error,
            ignore_when_task_not_registered,
            made=self,
        )

    def with_(self, **changes: Any) -> Signature:
        """A copy with some fields changed; the values are taken as they are. Raises `TypeError` for a field there is not."""
        values = list(_values_of(self))
        for field, value in changes.items():
            if field not in _POSITIONS:
                raise TypeError(f"a signature has no field {field!r}; it has {', '.join(FIELDS)}")
            values[_POSITIONS[field]] = value
        return raw_signature(*values)


_TEXTS = ("name", "uuid", "routing_key", "group_uuid", "broker_message_group_id", "sqs_receipt_handle")


def check_texts(*texts: str) -> None:
    """Raise `EncodeError` unless these values of `_TEXTS` are strings that every service can keep: UTF-8."""
    try:
        if "".join(texts).isascii():
            return
    except TypeError:
        pass  # said below
    for field, text in zip(_TEXTS, texts, strict=True):
        require_text(f"the {field} of {texts[0]!r}", text)


def require_text(what: str, text: object) -> None:
    """Raise `EncodeError` unless ``text`` is a string that UTF-8 can say."""
    if not isinstance(text, str):
        raise EncodeError(f"{what} is {text!r}, not a string")
    if not is_utf8(text):
        raise EncodeError(f"{what} is {text!r}; it has a lone surrogate, which UTF-8 cannot say")


def checked_headers(name: str, headers: Any) -> dict[str, Any] | None:
    """A copy of ``headers``. Raises `EncodeError` unless they are a mapping with strings as keys."""
    if headers is None:
        return None
    if not isinstance(headers, Mapping):
        raise EncodeError(f"the headers of {name} are {headers!r}, not a mapping")
    for key in headers:
        if not isinstance(key, str):
            raise EncodeError(f"the headers of {name} have the key {key!r}, which is not a string")
    return dict(headers)


def _values(name: str, args: Any) -> Iterable[object]:
    if args is None:
        return ()
    if isinstance(args, (str, bytes, bytearray, Mapping)) or not isinstance(args, Iterable):
        raise EncodeError(f"the args of {name} are {args!r}, not a list of values")
    return args


def _signatures(name: str, field: str, given: Any) -> tuple[Any, ...]:
    if not isinstance(given, Iterable):
        raise EncodeError(f"the {field} of {name} is a {type(given).__qualname__}, not a list of signatures")
    return tuple(given)


def _check_eta(name: str, eta: object) -> None:
    if not isinstance(eta, datetime):
        raise EncodeError(f"the eta of {name} is of type {type(eta).__qualname__}, not an aware datetime")
    if eta.utcoffset() is None:
        raise EncodeError(f"the eta {eta.isoformat()} of {name} has no time zone; use an aware datetime")


def _check_counts(name: str, priority: object, *counts: object) -> None:
    if not isinstance(priority, int) or not 0 <= priority <= MAX_PRIORITY:
        raise EncodeError(f"the priority of {name} is {priority!r}, not a whole number from 0 to {MAX_PRIORITY}")
    for field, count in zip(("group_task_count", "retry_count", "retry_timeout"), counts, strict=True):
        if not isinstance(count, int) or not 0 <= count < MAX_COUNT:
            raise EncodeError(f"the {field} of {name} is {count!r}, not a whole number from 0 to 2**63 - 1")


def _check_signatures(
    name: str, on_success: tuple[object, ...], on_error: tuple[object, ...], chord_callback: object
) -> None:
    callbacks = () if chord_callback is None else (chord_callback,)
    for field, found in (("on_success", on_success), ("on_error", on_error), ("chord_callback", callbacks)):
        for one in found:
            if not isinstance(one, Signature):
                raise EncodeError(f"the {field} of {name} holds a {type(one).__qualname__}, not a signature")


FIELDS = tuple(field.name for field in fields(Signature))
"""The fields in the order that `raw_signature` takes them."""

_POSITIONS = {field: position for position, field in enumerate(FIELDS)}
_values_of = attrgetter(*FIELDS)
values_after_args = attrgetter(*FIELDS[2:])
"""All that a signature says besides its task's name and the arguments, for `raw_signature`."""

# The slots' own setters: what a frozen dataclass would do in several times the time.
(
    _set_name, _set_args, _set_uuid, _set_routing_key, _set_eta, _set_group_uuid, _set_group_task_count, _set_headers,
    _set_priority, _set_immutable, _set_retry_count, _set_retry_timeout, _set_on_success, _set_on_error,
    _set_chord_callback, _set_broker_message_group_id, _set_sqs_receipt_handle, _set_stop_task_deletion_on_error,
    _set_ignore_when_task_not_registered,
) = [getattr(Signature, field).__set__ for field in FIELDS]  # fmt: skip
_new = object.__new__


def raw_signature(
    name: str, args: tuple[Arg, ...], uuid: str, routing_key: str, eta: datetime | None, group_uuid: str,
    group_task_count: int, headers: Mapping[str, Any] | None, priority: int, immutable: bool, retry_count: int,
    retry_timeout: int, on_success: tuple[Signature, ...], on_error: tuple[Signature, ...],
    chord_callback: Signature | None, broker_message_group_id: str, sqs_receipt_handle: str,
    stop_task_deletion_on_error: bool, ignore_when_task_not_registered: bool, made: Signature | None = None,
) -> Signature:  # fmt: skip
    """A signature of these field values (order of `FIELDS`), unchecked: for decoding and copying, on the hot path."""
    if made is None:
        made = _new(Signature)
    _set_name(made, name)
    _set_args(made, args)
    _set_uuid(made, uuid)
    _set_routing_key(made, routing_key)
    _set_eta(made, eta)
    _set_group_uuid(made, group_uuid)
    _set_group_task_count(made, group_task_count)
    _set_headers(made, headers)
    _set_priority(made, priority)
    _set_immutable(made, immutable)
    _set_retry_count(made, retry_count)
    _set_retry_timeout(made, retry_timeout)
    _set_on_success(made, on_success)
    _set_on_error(made, on_error)
    _set_chord_callback(made, chord_callback)
    _set_broker_message_group_id(made, broker_message_group_id)
    _set_sqs_receipt_handle(made, sqs_receipt_handle)
    _set_stop_task_deletion_on_error(made, stop_task_deletion_on_error)
    _set_ignore_when_task_not_registered(made, ignore_when_task_not_registered)
    return made
