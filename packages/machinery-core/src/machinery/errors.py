"""Every error this project raises on purpose, as one tree.

::

    MachineryError
    ├── ConfigError                 a setting is wrong; names where it stands, its value and what would be right
    │   ├── UnknownScheme           no installed distribution serves the URL's scheme
    │   └── SchemeConflict          two installed distributions claim the scheme
    ├── EncodeError                 a value cannot be said on the wire; names the argument
    ├── DecodeError                 bytes are not a signature, a state or a group
    ├── ArgumentError               an argument's value does not fit its wire type (Go's texts)
    ├── TaskError
    │   ├── TaskNotRegistered       this server has no function of that name
    │   ├── TaskAlreadyRegistered   another function has that name
    │   └── TaskFailed              the task's final record is FAILURE
    ├── PublishError                messages that the broker did not accept; names exactly these
    │   ├── DelayTooLong            the broker cannot hold a message that long
    │   ├── PriorityNotSupported    the broker has no priorities
    │   └── MessageTooLarge         the service refuses a message of that size
    ├── GroupTooLarge               the store's limit on a group
    ├── WorkflowError               a workflow that cannot be sent (empty group, nothing to call back, nesting)
    ├── ResultError
    │   ├── ResultTimeout           the result did not come in time; the task goes on
    │   ├── ResultTooLarge          the store refuses a record of that size; names the ids
    │   ├── ResultsNotStored        there is no result backend to ask
    │   ├── StateNotFound           no record: never sent, expired or evicted
    │   └── GroupNotFound           no group metadata: never sent, expired or evicted
    ├── LockError
    │   ├── LockNotAcquired         somebody else holds the key
    │   └── LockLost                the holder's time ran out before it let go
    ├── Unsupported                 the service cannot do what was asked
    ├── Closed                      used after ``close()``
    └── Unavailable                 the service cannot be reached *now*; trying again later is right
        ├── BrokerUnavailable
        ├── BackendUnavailable
        └── LockUnavailable

Control flow stands outside the tree, so that ``except MachineryError`` inside a task cannot eat it: `RetryTaskLater` and
`Reject` (raised by a task), `SoftTimeLimitExceeded` (raised *in* a task).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

__all__ = [
    "ArgumentError",
    "BackendUnavailable",
    "BrokerUnavailable",
    "Closed",
    "ConfigError",
    "DecodeError",
    "DelayTooLong",
    "EncodeError",
    "GroupNotFound",
    "GroupTooLarge",
    "LockError",
    "LockLost",
    "LockNotAcquired",
    "LockUnavailable",
    "MachineryError",
    "MessageTooLarge",
    "PriorityNotSupported",
    "PublishError",
    "Reject",
    "ResultError",
    "ResultTimeout",
    "ResultTooLarge",
    "ResultsNotStored",
    "RetryTaskLater",
    "SchemeConflict",
    "SoftTimeLimitExceeded",
    "StateNotFound",
    "TaskAlreadyRegistered",
    "TaskError",
    "TaskFailed",
    "TaskNotRegistered",
    "Unavailable",
    "UnknownScheme",
    "Unsupported",
    "WorkflowError",
]


class MachineryError(Exception):
    """The root of the tree."""


class ConfigError(MachineryError):
    """A setting is wrong. The text names file or variable, key, value and what would be right; secrets are redacted."""


class UnknownScheme(ConfigError):
    """No installed distribution serves the URL's scheme. The text lists what is installed and what to install."""


class SchemeConflict(ConfigError):
    """Two installed distributions claim the same scheme. The text names both."""


class EncodeError(MachineryError):
    """A value cannot be said on the wire. The text names the argument."""


class DecodeError(MachineryError):
    """Bytes are not what they should be: not JSON, or a key of the wrong JSON type (protocol §1.2)."""


class ArgumentError(MachineryError):
    """An argument's or a result's value does not fit its wire type. The texts are Go's (protocol §1.3)."""


class TaskError(MachineryError):
    """The family of errors about a task."""


class TaskNotRegistered(TaskError):
    """This server has no function of that name."""


class TaskAlreadyRegistered(TaskError):
    """Another function is registered under that name already."""


class TaskFailed(TaskError):
    """The task's final record is FAILURE.

    ``uuid`` and ``name`` tell which task (a chord's failure names the member), ``error`` is the text that was stored.
    """

    def __init__(self, error: str, *, uuid: str = "", name: str = "") -> None:
        self.error = error
        self.uuid = uuid
        self.name = name
        super().__init__(f"task {name or '(no name stored)'} {uuid} failed: {error}")

    def __reduce__(self) -> tuple[object, ...]:
        return (_task_failed, (self.error, self.uuid, self.name))


def _task_failed(error: str, uuid: str, name: str) -> TaskFailed:
    return TaskFailed(error, uuid=uuid, name=name)


class PublishError(MachineryError):
    """The broker did not accept some messages; all others of the same call were accepted.

    ``failures`` maps the position of each refused message in the call's list to the reason it was refused. A reason in the
    `Unavailable` family means that sending again later is right; any other means that it never will be.
    """

    def __init__(self, message: str, failures: Mapping[int, Exception] | None = None) -> None:
        super().__init__(message)
        self.failures: dict[int, Exception] = dict(failures or {})


class DelayTooLong(PublishError):
    """The broker cannot hold a message back that long."""


class PriorityNotSupported(PublishError):
    """The broker has no priorities."""


class MessageTooLarge(PublishError):
    """The service refuses a message of that size."""


class GroupTooLarge(MachineryError):
    """The group has more members than the store's metadata can hold."""


class WorkflowError(MachineryError):
    """A workflow that cannot be sent: an empty group, no callback, or nesting that the wire format cannot express."""


class ResultError(MachineryError):
    """The family of errors about stored results."""


class ResultTimeout(ResultError, TimeoutError):
    """The result did not come in time. The task goes on; ask again."""


class ResultTooLarge(ResultError):
    """The store refuses a record of that size. ``ids`` names the tasks concerned; all others of the call were stored."""

    def __init__(self, message: str, ids: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.ids: tuple[str, ...] = tuple(ids)


class ResultsNotStored(ResultError):
    """The server has no result backend that stores anything. Configure one (``result_backend=``) to read results."""


class StateNotFound(ResultError):
    """There is no record of that task: it was never sent, or its record expired or was evicted."""


class GroupNotFound(ResultError):
    """There is no metadata of that group: it was never sent, or expired or was evicted."""


class LockError(MachineryError):
    """The family of errors about locks."""


class LockNotAcquired(LockError):
    """Somebody else holds the key."""


class LockLost(LockError):
    """The holder's time ran out, or somebody took the key over, before it was released."""


class Unsupported(MachineryError):
    """The service cannot do what was asked. The text says what it is and what to use instead."""


class Closed(MachineryError):
    """The object was used after ``close()``."""


class Unavailable(MachineryError):
    """The service cannot be reached now, or does not answer; trying again later is right. URLs are redacted."""


class BrokerUnavailable(Unavailable):
    """The broker cannot be reached now."""


class BackendUnavailable(Unavailable):
    """The result backend cannot be reached now."""


class LockUnavailable(Unavailable):
    """The lock's service cannot be reached now."""


class RetryTaskLater(Exception):
    """Raised by a task to be run again after ``retry_in``, without using up its `retry_count`.

    Recognised when wrapped too (``raise OtherError from RetryTaskLater(…)``). ``retry_in`` is a `timedelta` or seconds;
    at least 10 ms pass whatever it says.
    """

    def __init__(self, message: str = "", retry_in: timedelta | float = 0) -> None:
        self.message = message
        self.retry_in = retry_in if isinstance(retry_in, timedelta) else timedelta(seconds=retry_in)
        super().__init__(message, self.retry_in)

    def __str__(self) -> str:
        return f"Task error: {self.message} Will retry in: {self.retry_in.total_seconds():g}s"


class Reject(Exception):
    """Raised by a task to fail for good at once: no retry, FAILURE, ``on_error``, and the message to the dead letters."""


class SoftTimeLimitExceeded(Exception):
    """Raised *in* a task that has run longer than its ``soft_time_limit``. It may clean up; uncaught, it is a failure."""
