"""What a finished task sets off, and how results travel to it (protocol §7.4 to §7.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import NAMESPACE_OID, uuid5

from machinery._values import Arg

if TYPE_CHECKING:
    from machinery._signatures import Signature
    from machinery._states import TaskResult


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


def derived_uuid(parent_uuid: str, kind: str, position: int) -> str:
    """The id of a successor that came without one: the same at each replay, so that a replay sends the same task."""
    return f"task_{uuid5(NAMESPACE_OID, f'{parent_uuid}/{kind}/{position}')}"
