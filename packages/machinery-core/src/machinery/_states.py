"""What a result backend remembers: the state of a task, its results, and the metadata of a group (protocol §2)."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import StrEnum

from machinery._times import ZERO_TIME
from machinery._values import TaskResult

__all__ = ["GroupMeta", "State", "TaskResult", "TaskState"]


class State(StrEnum):
    """The six states. SUCCESS and FAILURE are final: a final record is never replaced but by sending the task again."""

    PENDING = "PENDING"
    RECEIVED = "RECEIVED"
    STARTED = "STARTED"
    RETRY = "RETRY"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"

    @property
    def is_final(self) -> bool:
        """Whether the task has ended, well or badly."""
        return self is State.SUCCESS or self is State.FAILURE


@dataclass(frozen=True, slots=True, init=False)
class TaskState:
    """One record of a task, as the backend keeps it. Keys and order of the wire: protocol §2.2."""

    task_uuid: str
    task_name: str = ""
    state: State = State.PENDING
    results: tuple[TaskResult, ...] | None = None
    """What the task returned: ``()`` for nothing, ``None`` in every state but SUCCESS."""
    error: str = ""
    """The failure's text; only in FAILURE."""
    created_at: datetime = ZERO_TIME
    """When the task was sent; year 1 when the record was written without one before it."""
    ttl: int = 0
    """Unix seconds at which the record expires, where the store keeps that (DynamoDB); else 0."""
    crashes: int = 0
    """How many started runs ended with neither answer nor hand-back. A key of ours, left out of the wire when 0."""
    was_final: bool = field(default=False, compare=False, repr=False)
    """In what `Backend.save` answers: this record was final before, so it stays. Not stored."""

    def __init__(
        self,
        task_uuid: str,
        task_name: str = "",
        state: State = State.PENDING,
        results: tuple[TaskResult, ...] | None = None,
        error: str = "",
        created_at: datetime = ZERO_TIME,
        ttl: int = 0,
        crashes: int = 0,
        was_final: bool = False,
    ) -> None:
        _set_task_uuid(self, task_uuid)
        _set_task_name(self, task_name)
        _set_state(self, state)
        _set_results(self, results)
        _set_error(self, error)
        _set_created_at(self, created_at)
        _set_ttl(self, ttl)
        _set_crashes(self, crashes)
        _set_was_final(self, was_final)

    @property
    def is_completed(self) -> bool:
        """SUCCESS or FAILURE."""
        return self.state.is_final

    @property
    def is_success(self) -> bool:
        """SUCCESS."""
        return self.state is State.SUCCESS

    @property
    def is_failure(self) -> bool:
        """FAILURE."""
        return self.state is State.FAILURE

    def as_found(self) -> TaskState:
        """This final record as the answer to a `Backend.save` that it withstood."""
        return replace(self, was_final=True)

    def with_origin_of(self, earlier: TaskState) -> TaskState:
        """This record with the name and creation time of an earlier one: what every backend keeps when it overwrites."""
        return replace(
            self,
            task_name=earlier.task_name or self.task_name,
            created_at=earlier.created_at if earlier.created_at != ZERO_TIME else self.created_at,
        )


# The slots' own setters: what a frozen dataclass would do in twice the time, several times a task.
(
    _set_task_uuid, _set_task_name, _set_state, _set_results, _set_error, _set_created_at, _set_ttl, _set_crashes,
    _set_was_final,
) = [getattr(TaskState, each.name).__set__ for each in fields(TaskState)]  # fmt: skip


@dataclass(frozen=True, slots=True)
class GroupMeta:
    """A group as the backend keeps it, Go's record (protocol §2.3)."""

    group_uuid: str
    task_uuids: tuple[str, ...] = ()
    """The members in group order."""
    chord_triggered: bool = False
    lock: bool = False
    """Go's own lock flag on Memcached and DynamoDB; kept as found."""
    created_at: datetime = ZERO_TIME
    ttl: int = 0
