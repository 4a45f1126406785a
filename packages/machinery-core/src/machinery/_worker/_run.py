"""One delivery on its way through the worker: what it calls, how far it is, how it ended."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from machinery._headers import ATTEMPT, FAILURES, count_of
from machinery.errors import Reject, RetryTaskLater

if TYPE_CHECKING:
    from machinery._signatures import Signature
    from machinery._states import TaskResult, TaskState
    from machinery._task import Task
    from machinery._worker._origin import Origin
    from machinery.abc import Delivery

E = TypeVar("E", bound=BaseException)


SHORTEST_PAUSE = timedelta(milliseconds=10)
"""The least that a retry waits, whatever is asked for: a task that asks to be run again at once must not spin."""


class Outcome(Enum):
    """How a run ended, for the settler."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRIED = "retried"
    REPLAYED = "replayed"
    """It had ended before, by the record found: send on what is missing, then ack."""
    RETURNED = "returned"
    """Not started, or not to count: give back."""


@dataclass(slots=True, eq=False)
class Run:
    """One delivery being worked on. Written by the thread that has it; the settler reads it once it is finished."""

    delivery: Delivery
    fetcher: Origin
    signature: Signature
    task: Task[..., Any, Any]
    received: float
    """Monotonic seconds."""
    crashes: int = 0
    started: float = 0.0
    """Monotonic seconds; 0: not yet."""
    suspect: bool = False
    """It may have crashed a worker: its STARTED is written before it runs."""
    announced: bool = False
    """Its STARTED is written."""
    noted: bool = False
    """Its RECEIVED is written."""
    abandoned: bool = False
    """Handed back while it ran; what it returns is nobody's."""
    later: bool = False
    """When returned: not now, but after a pause."""
    adopted: list[Delivery] | None = None
    """Further deliveries of the same message that came while it ran."""

    outcome: Outcome | None = None
    results: tuple[TaskResult, ...] = ()
    error: str = ""
    exception: BaseException | None = None
    dead: str = ""
    """Not empty: to the dead letters, for this reason."""
    again: Signature | None = None
    """The copy to publish, when retried."""
    sending: bool = False
    """What its end sets off may be stored, or sent, by us."""
    followed: bool = False
    """What its end sets off is sent."""
    joined: bool = False
    """Its end is counted in its group, and what the group's end sets off is sent."""
    settled: bool = False
    """All is done."""
    found: TaskState | None = None
    """The final record found, when replayed."""

    def succeed(self, results: tuple[TaskResult, ...]) -> None:
        """The function returned."""
        self.results = results
        self.outcome = Outcome.SUCCEEDED

    def fail(self, exception: BaseException | None, error: str, *, dead: str = "") -> None:
        """It failed for good. Go leaves the message of one so marked to the dead letters; here it is made one (protocol §5.1)."""
        self.exception = exception
        self.error = error
        self.dead = dead or (error if self.signature.stop_task_deletion_on_error else "")
        self.outcome = Outcome.FAILED

    def give_back(self, *, later: bool = False) -> None:
        """It is not to run here, or not now."""
        self.later = later
        self.outcome = Outcome.RETURNED

    def replay(self, found: TaskState) -> None:
        """It had ended before."""
        self.found = found
        self.outcome = Outcome.REPLAYED

    def raised(self, exception: BaseException) -> None:
        """The function raised: later, again or for good (protocol §7.3)."""
        try:
            self._judge(exception)
        except BaseException as defect:  # noqa: BLE001 - a retry rule of the application's own, or a pause beyond all calendars
            self.fail(exception, f"{error_text(exception)} (no retry: {error_text(defect)})")

    def _judge(self, exception: BaseException) -> None:
        later = _find(exception, RetryTaskLater)
        if later is not None:
            self._retry(exception, later.retry_in, failed=False)
            return
        reject = _find(exception, Reject)
        text = error_text(exception)
        if reject is not None:
            self.fail(exception, text, dead=text)
            return
        options = self.task.run_options
        retriable = isinstance(exception, options.retry_for) and not isinstance(exception, options.no_retry_for)
        if self.signature.retry_count > 0 and retriable:
            failures = count_of(self.signature.headers, FAILURES, 0) + 1
            self._retry(exception, options.retry.delay(failures, self.signature.retry_timeout), failed=True)
            return
        self.fail(exception, text)

    def _retry(self, exception: BaseException, pause: timedelta, *, failed: bool) -> None:
        delay = max(pause, SHORTEST_PAUSE)
        signature = self.signature
        headers = dict(signature.headers or {})
        headers[ATTEMPT] = str(self.attempt + 1)
        if failed:
            headers[FAILURES] = str(count_of(signature.headers, FAILURES, 0) + 1)
        self.again = signature.with_(
            eta=datetime.now(UTC) + delay,
            headers=headers,
            retry_count=signature.retry_count - failed,
            retry_timeout=math.ceil(delay.total_seconds()) if failed else signature.retry_timeout,
        )
        self.exception = exception
        self.error = error_text(exception)
        self.outcome = Outcome.RETRIED

    @property
    def attempt(self) -> int:
        """Which run of the task this is, by its retries and crashes."""
        return count_of(self.signature.headers, ATTEMPT, 1) + self.crashes


def error_text(exception: BaseException) -> str:
    """What is stored of an exception: its text, or its class's name when that is empty."""
    try:
        text = str.__str__(str(exception))  # a string's subclass may hold further surprises
    except BaseException:  # noqa: BLE001 - anybody's __str__, which may even want to end the program
        text = ""
    return text or type(exception).__name__


def may_be_second(run: Run) -> bool:
    """Whether another worker may have run the same task: it was delivered before, or our lease on it has run out."""
    return run.delivery.redelivered is not False or bool(run.adopted) or not run.fetcher.owns(run)


def _find(exception: BaseException, kind: type[E]) -> E | None:
    """``exception`` or one it was raised from, of that kind."""
    seen: set[int] = set()
    current: BaseException | None = exception
    while current is not None and id(current) not in seen:
        if isinstance(current, kind):
            return current
        seen.add(id(current))
        current = current.__cause__
    return None
