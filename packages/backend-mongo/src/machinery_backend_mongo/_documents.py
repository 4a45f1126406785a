"""Records and groups as Go Machinery's documents (protocol §6.1), and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.errors import BSONError
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument

from machinery.abc import GroupMeta, State, TaskState
from machinery.errors import DecodeError, EncodeError
from machinery.wire import decode_signature, decode_time, encode_signature
from machinery_backend_mongo._values import from_results, to_results, to_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from machinery.abc import Signature, TaskResult

ZERO_TIME = datetime(1, 1, 1, tzinfo=UTC)
"""What Go calls no time."""
ZERO_TEXT = "0001-01-01T00:00:00Z"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STATES = {str(state): state for state in State} | {"": State.PENDING}
_MILLISECOND = 1000

CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True,
    tzinfo=UTC,
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
"""Instants are aware; what no `datetime` can say, and text that is no UTF-8, is read all the same."""


# ---------------------------------------------------------------------------------------------------------- records


def to_record(state: TaskState) -> RawBSONDocument:
    """What a write says of a task: all but its name and its creation time, which may be there already, and when it ends.

    Raises `EncodeError`.
    """
    document: dict[str, Any] = {"_id": state.task_uuid, "state": str(state.state)}
    if state.results is not None:
        document["results"] = _naming(state, lambda: to_results(state.results or ()))
    if state.error:
        document["error"] = to_text(state.error)
    if state.crashes:
        document["crashes"] = Int64(state.crashes)
    return encoded(document, f"the state of {state.task_name} {state.task_uuid}")


def _naming(state: TaskState, make: Any) -> Any:
    try:
        return make()
    except EncodeError as error:
        raise EncodeError(f"the state of {state.task_name} {state.task_uuid}: {error}") from None


def encoded(document: Mapping[str, Any], what: str) -> RawBSONDocument:
    """The document as bytes: its size is known then, and it is encoded once. Raises `EncodeError`, which says ``what`` it is."""
    try:
        return RawBSONDocument(bson.encode(document, codec_options=CODEC))
    except (BSONError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise EncodeError(f"{what} cannot be stored: {error}") from None


def to_date(moment: datetime) -> datetime | None:
    """A creation time as it is stored, in whole milliseconds; ``None``: there is none. Raises `EncodeError`."""
    if moment.utcoffset() is None:
        raise EncodeError(
            f"the time {moment.isoformat()} has no time zone; use an aware datetime such as datetime.now(UTC)"
        )
    if moment == ZERO_TIME:
        return None
    whole = moment.microsecond // _MILLISECOND * _MILLISECOND
    return datetime.combine(moment.date(), moment.timetz()).replace(microsecond=whole)


def from_record(document: Mapping[str, Any]) -> TaskState | None:
    """The record that a document says; ``None``: it only keeps a place. Raises `DecodeError`, naming the field.

    Results count in SUCCESS alone and an error in FAILURE alone: Go leaves both behind when it sends a task again.
    """
    name = _text(document, "state")
    if name is None:
        return None
    state = _STATES.get(name)
    if state is None:
        raise DecodeError(f"state is {name!r}; the states are {', '.join(State)}")
    return TaskState(
        document["_id"],
        _text(document, "task_name") or "",
        state,
        from_results(_results_in(document)) if state is State.SUCCESS else None,
        (_text(document, "error") or "") if state is State.FAILURE else "",
        from_date(document.get("created_at")),
        _whole(document, "ttl"),
        _whole(document, "crashes"),
    )


def results_are(document: Mapping[str, Any], results: tuple[TaskResult, ...]) -> bool:
    """Whether these results, stored, would be those that stand in the document, byte for byte. Raises `EncodeError`."""
    found, own = (
        bson.encode({"results": each}, codec_options=CODEC) for each in (_results_in(document), to_results(results))
    )
    return found == own


def _results_in(document: Mapping[str, Any]) -> Any:
    found = document.get("results")
    return [] if found is None else found


def from_date(found: Any) -> datetime:
    """A creation time in any form in which it was ever written: a date, text, milliseconds. What is none of them says no time.

    It is no reason to take a record for unreadable: a final one would be lost by it.
    """
    if isinstance(found, datetime):
        return found
    if isinstance(found, str):
        try:
            return decode_time(found)
        except DecodeError:
            return ZERO_TIME
    if isinstance(found, DatetimeMS):
        found = int(found)
    elif isinstance(found, Decimal128):
        found = found.to_decimal()
    elif isinstance(found, bool) or not isinstance(found, int | float):
        return ZERO_TIME
    try:
        return _EPOCH + timedelta(milliseconds=int(found))
    except (OverflowError, ValueError, ArithmeticError):  # no datetime can say it
        return ZERO_TIME


# ----------------------------------------------------------------------------------------------------------- groups


def to_meta(group: GroupMeta, callback: Signature | None) -> RawBSONDocument:
    """Go's document of a group. ``callback``, a field of ours, is there in every group that we made. Raises `EncodeError`."""
    document: dict[str, Any] = {
        "_id": group.group_uuid,
        "task_uuids": list(group.task_uuids),
        "chord_triggered": group.chord_triggered,
        "lock": group.lock,
    }
    if (created := to_date(group.created_at)) is not None:
        document["created_at"] = created
    document["callback"] = None if callback is None else encode_signature(callback).decode()
    return encoded(document, f"the group {group.group_uuid}")


def from_meta(document: Mapping[str, Any]) -> GroupMeta:
    """The group that a document says. Raises `DecodeError`, naming the field."""
    return GroupMeta(
        document["_id"],
        members_of(document),
        _flag(document, "chord_triggered"),
        _flag(document, "lock"),
        from_date(document.get("created_at")),
        _whole(document, "ttl"),
    )


def members_of(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The members' ids that a group's document says. Raises `DecodeError`."""
    found = document.get("task_uuids")
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(uuid, str) for uuid in found):
        raise DecodeError("task_uuids is not an array of strings")
    return tuple(found)


def callback_of(document: Mapping[str, Any]) -> Signature | None:
    """The callback kept in a group's document. Raises `DecodeError`."""
    text = _text(document, "callback")
    return None if text is None else decode_signature(text.encode())


# ----------------------------------------------------------------------------------------------------------- fields


def _text(document: Mapping[str, Any], field: str) -> str | None:
    found = document.get(field)
    if found is None or isinstance(found, str):
        return found
    raise DecodeError(f"{field} is of the type {type(found).__name__}, not a string")


def _flag(document: Mapping[str, Any], field: str) -> bool:
    found = document.get(field)
    if found is None or isinstance(found, bool):
        return bool(found)
    raise DecodeError(f"{field} is of the type {type(found).__name__}, not a bool")


def _whole(document: Mapping[str, Any], field: str) -> int:
    found = document.get(field)
    if isinstance(found, Decimal128):
        found = float(found.to_decimal())
    if found is None:
        return 0
    if isinstance(found, int | float) and not isinstance(found, bool):
        try:
            return int(found)
        except (ValueError, OverflowError):
            return 0
    raise DecodeError(f"{field} is of the type {type(found).__name__}, not a number")
