"""Items ⇄ records of tasks and metadata of groups (protocol §6.3). Read as leniently as Go reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from machinery.abc import GroupMeta, State, TaskResult, TaskState
from machinery.errors import DecodeError
from machinery.wire import decode_time, encode_time
from machinery_backend_dynamodb import _keys as names
from machinery_backend_dynamodb._values import NULL, Attribute, from_attribute, number, text, to_attribute

if TYPE_CHECKING:
    from collections.abc import Mapping

    from machinery_backend_dynamodb._batches import Item

LARGEST_ITEM = 400 * 1024
"""Bytes of names and values: Amazon's limit on one item."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZERO_TIME = TaskState("").created_at
"""Go's zero time: a record that was written without anything before it."""


# ---------------------------------------------------------------------------------------------------------- records


def _results_attribute(state: TaskState) -> Attribute:
    """Go's list of results; NULL where there are none to be."""
    if state.results is None:
        return NULL
    return {
        "L": [
            {"M": {"Type": text(result.type), "Value": to_attribute(result.type, result.value)}}
            for result in state.results
        ]
    }


def to_record(state: TaskState, writer: str = "") -> Item:
    """The whole item of a record, with its ``ttl``; without what is not known of it. Raises `EncodeError`.

    ``writer``: who writes it, for a final one.
    """
    item = {
        names.TASK_UUID: text(state.task_uuid),
        names.STATE: text(state.state),
        names.RESULTS: _results_attribute(state),
        names.ERROR: text(state.error),
        names.TTL: number(state.ttl),
    }
    if state.task_name:
        item[names.TASK_NAME] = text(state.task_name)
    if state.created_at != _ZERO_TIME:
        item[names.CREATED_AT] = text(encode_time(state.created_at))
    if state.crashes:
        item[names.CRASHES] = number(state.crashes)
    if writer and state.is_completed:
        item[names.WRITER] = text(writer)
    return item


def has_writer(item: Item, writer: Attribute | None) -> bool:
    """Whether ``writer``, as a record says it, wrote this one, which is final."""
    return writer is not None and item.get(names.WRITER) == writer


def from_record(item: Item) -> TaskState:
    """The record that an item says. Raises `DecodeError` naming the attribute."""
    said = _text(item, names.STATE)
    try:
        state = State(said) if said else State.PENDING
    except ValueError:
        raise DecodeError(f"State is {said!r}; the states are {', '.join(State)}") from None
    results, error = _results(item), _text(item, names.ERROR)
    return TaskState(
        _text(item, names.TASK_UUID),
        _text(item, names.TASK_NAME),
        state,
        # Go writes none for a task that returned nothing, and leaves there what the state before had.
        (results or ()) if state is State.SUCCESS else None,
        error if state is State.FAILURE else "",
        _time(item),
        integer(item, names.TTL),
        integer(item, names.CRASHES),
    )


def _results(item: Item) -> tuple[TaskResult, ...] | None:
    elements = _elements(item, names.RESULTS)
    return None if elements is None else tuple([_result(element) for element in elements])


def _result(element: Attribute) -> TaskResult:
    found = element.get("M")
    if not isinstance(found, dict):
        raise DecodeError("an element of Results is no map")
    kind = _text(found, "Type")
    return TaskResult(kind, from_attribute(kind, found.get("Value", NULL)))


# ----------------------------------------------------------------------------------------------------------- groups


def to_meta(group: GroupMeta, callback: str, ttl: int) -> Item:
    """The whole item of a group's metadata, with its callback's signature in JSON. Go's ``Lock`` is never set (protocol §13)."""
    return {
        names.GROUP_UUID: text(group.group_uuid),
        names.TASK_UUIDS: {"L": [text(uuid) for uuid in group.task_uuids]},
        names.CHORD_TRIGGERED: {"BOOL": group.chord_triggered},
        names.LOCK: {"BOOL": False},
        names.CREATED_AT: text(encode_time(group.created_at)),
        names.TTL: number(ttl),
        names.CALLBACK: text(callback),
    }


def from_meta(item: Item) -> GroupMeta:
    """The metadata that an item says. Raises `DecodeError` naming the attribute."""
    return GroupMeta(
        _text(item, names.GROUP_UUID),
        members_of(item),
        flag(item, names.CHORD_TRIGGERED),
        flag(item, names.LOCK),
        _time(item),
        integer(item, names.TTL),
    )


def members_of(item: Item) -> tuple[str, ...]:
    """The members of a group, in its order. Raises `DecodeError`."""
    members = [from_attribute("string", element) for element in _elements(item, names.TASK_UUIDS) or ()]
    if not all(isinstance(member, str) for member in members):
        raise DecodeError("an element of TaskUUIDs is no string")
    return tuple(members)


# ------------------------------------------------------------------------------------------------------- attributes


def is_over(item: Item, now: float) -> bool:
    """Whether an item's time is over, though DynamoDB has not deleted it yet, as it may take days to."""
    ttl = integer(item, names.TTL)
    return 0 < ttl <= now


def expiry_in(item: Item) -> int:
    """Unix seconds at which an item may go; 0: never, or it cannot be told."""
    try:
        return integer(item, names.TTL)
    except DecodeError:
        return 0


def kept_until(item: Item) -> int:
    """Unix seconds until which an open group wants a record; 0: none does."""
    try:
        return integer(item, names.KEPT_UNTIL)
    except DecodeError:
        return 0


def integer(item: Item, name: str) -> int:
    """The whole number that an attribute says; 0: NULL, or not there. Raises `DecodeError`."""
    said = _value(item, name, "N")
    try:
        return 0 if said is None else int(Decimal(said))
    except (InvalidOperation, ValueError, OverflowError):
        raise DecodeError(f"{name} is {said!r}, which is no number") from None


def flag(item: Item, name: str) -> bool:
    """Whether an attribute is true; not where it is NULL or not there. Raises `DecodeError`."""
    return bool(_value(item, name, "BOOL"))


def string(item: Item, name: str) -> str | None:
    """The text of an attribute; ``None``: it is not there. Raises `DecodeError`."""
    said = _value(item, name, "S")
    return None if said is None else str(said)


def _text(item: Item, name: str) -> str:
    return string(item, name) or ""


def _elements(item: Item, name: str) -> list[Attribute] | None:
    attribute = item.get(name, NULL)
    if "SS" in attribute:
        return [text(one) for one in attribute["SS"]]
    found = _value(item, name, "L")
    return None if found is None else list(found)


def _value(item: Mapping[str, Attribute], name: str, kind: str) -> Any:
    attribute = item.get(name, NULL)
    if "NULL" in attribute:
        return None
    if kind not in attribute:
        raise DecodeError(f"{name} is of type {', '.join(attribute)}, not {kind}")
    return attribute[kind]


def _time(item: Item) -> datetime:
    """When it was made. Go writes RFC 3339; its newest release reads Unix seconds too (protocol §13)."""
    if "N" in item.get(names.CREATED_AT, NULL):
        return _EPOCH + timedelta(seconds=integer(item, names.CREATED_AT))
    said = _text(item, names.CREATED_AT)
    try:
        return decode_time(said) if said else _ZERO_TIME
    except DecodeError as error:
        raise DecodeError(f"{names.CREATED_AT}: {error}") from None
