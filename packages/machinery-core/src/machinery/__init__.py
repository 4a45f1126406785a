"""Machinery: a task queue that shares queues and stores with Go Machinery and loses nothing.

This module is the application author's API; `machinery.abc` is the plug-in author's, `machinery.errors` holds every error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from machinery._config import Config
from machinery._group_results import ChordResult, GroupResult
from machinery._results import AsyncResult, ChainResult
from machinery._retry import Exponential, Fibonacci, Retry
from machinery._server import Server
from machinery._signatures import Signature
from machinery._states import GroupMeta, State, TaskResult, TaskState
from machinery._task import Task, TaskContext
from machinery._values import Arg
from machinery._workflows import Chain, Chord, Group, chain, chord, group
from machinery.errors import MachineryError, Reject, ResultTimeout, RetryTaskLater, SoftTimeLimitExceeded, TaskFailed

if TYPE_CHECKING:
    from machinery._worker import Worker

__version__ = "0.1.0"

__all__ = [
    "Arg",
    "AsyncResult",
    "Chain",
    "ChainResult",
    "Chord",
    "ChordResult",
    "Config",
    "Exponential",
    "Fibonacci",
    "Group",
    "GroupMeta",
    "GroupResult",
    "MachineryError",
    "Reject",
    "ResultTimeout",
    "Retry",
    "RetryTaskLater",
    "Server",
    "Signature",
    "SoftTimeLimitExceeded",
    "State",
    "Task",
    "TaskContext",
    "TaskFailed",
    "TaskResult",
    "TaskState",
    "Worker",
    "__version__",
    "chain",
    "chord",
    "group",
]


if not TYPE_CHECKING:  # or type checkers would take any name

    def __getattr__(name: str) -> type[Worker]:
        """`Worker`, imported when it is first named: it is most of core, and those who only send do without it."""
        if name != "Worker":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from machinery._worker import Worker  # noqa: PLC0415 - see above

        globals()[name] = Worker  # the next time, Python asks no more
        return Worker

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
