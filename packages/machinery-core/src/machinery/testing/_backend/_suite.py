"""What the themes of the backend's contract share: ids, and records as the worker writes them."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from machinery._signatures import Signature
from machinery.abc import GroupMeta, State, TaskResult, TaskState

if TYPE_CHECKING:
    from machinery.abc import Backend

NAME = "contract"


class BackendSuite:
    """What a plug-in may set to suit its service."""

    def new_id(self) -> str:
        """A task's id that nobody else uses."""
        return f"task_{uuid4()}"

    def new_ids(self, count: int) -> list[str]:
        """Several."""
        return [self.new_id() for _ in range(count)]

    def submit(self, backend: Backend, *ids: str) -> None:
        """Write PENDING records, as a sender does."""
        backend.submit([TaskState(uuid, NAME, created_at=now()) for uuid in ids])

    def create_group(self, backend: Backend, count: int, *, chord: bool = True) -> GroupMeta:
        """A group with ``count`` members, with a callback if it is a chord."""
        group = GroupMeta(f"group_{uuid4()}", tuple(self.new_ids(count)), created_at=now())
        backend.create_group(group, Signature("callback", ["first"], uuid=f"chord_{uuid4()}") if chord else None)
        return group


def now() -> datetime:
    """The time in whole milliseconds: no store keeps less."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def a_moment_later() -> None:
    """Returns in another millisecond of every store's clock."""
    threading.Event().wait(0.02)


def succeeded(uuid: str, *values: Any) -> TaskState:
    """A final record with ``values`` (integers) as results, as a worker writes it."""
    return TaskState(uuid, "", State.SUCCESS, tuple(TaskResult("int64", value) for value in values))


def failed(uuid: str, error: str = "it broke") -> TaskState:
    """A final record of a failure, as a worker writes it."""
    return TaskState(uuid, "", State.FAILURE, None, error)


def state_of(backend: Backend, uuid: str) -> TaskState:
    """The record, which must be there."""
    (state,) = backend.load([uuid])
    assert state is not None, f"there is no record of {uuid}"
    return state
