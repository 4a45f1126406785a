"""What a finished task or group sets off, and how results travel to it (protocol §7.4 to §7.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import NAMESPACE_OID, uuid5

from machinery._values import Arg

if TYPE_CHECKING:
    from machinery._signatures import Signature
    from machinery._states import TaskResult, TaskState


def after_success(parent: Signature, results: Sequence[TaskResult]) -> list[Signature]:
    """The ``on_success`` of ``parent`` with its results appended to their arguments, unless ``parent`` is immutable."""
    extra = () if parent.immutable else tuple([Arg(result.type, result.value) for result in results])
    return [
        callback.with_(args=callback.args + extra, uuid=callback.uuid or derived_uuid(parent.uuid, "success", position))
        for position, callback in enumerate(parent.on_success)
    ]


def after_failure(parent: Signature, error: str) -> list[Signature]:
    """The ``on_error`` of ``parent`` with the error's text put first, always."""
    text = Arg("string", error)
    return [
        callback.with_(args=(text, *callback.args), uuid=callback.uuid or derived_uuid(parent.uuid, "error", position))
        for position, callback in enumerate(parent.on_error)
    ]


def derived_uuid(parent_uuid: str, kind: str, position: int, prefix: str = "task") -> str:
    """The id of a successor that came without one: the same at each replay, so that a replay sends the same task."""
    return f"{prefix}_{uuid5(NAMESPACE_OID, f'{parent_uuid}/{kind}/{position}')}"


def after_group(callback: Signature, members: Sequence[TaskState]) -> Signature:
    """The chord's ``callback`` with all results of the ``members`` appended in their order, unless it is immutable itself."""
    if callback.immutable:
        return callback
    extra = [Arg(result.type, result.value) for state in members for result in state.results or ()]
    return callback.with_(args=(*callback.args, *extra))


def callback_of(member: Signature) -> Signature | None:
    """The callback of the chord that ``member`` belongs to, with the same id whichever member is asked; ``None``: no chord."""
    callback = member.chord_callback
    if callback is None or callback.uuid:
        return callback
    return callback.with_(uuid=derived_uuid(member.group_uuid, "chord", 0, prefix="chord"))
