"""The callables that an application may hang into a worker (protocol §7.7)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from machinery.errors import TaskFailed

if TYPE_CHECKING:
    from machinery._signatures import Signature
    from machinery._worker._run import Run
    from machinery._worker._worker import Worker

ErrorHandler = Callable[[BaseException, "Signature | None"], None]
"""Gets a task's final failure with its signature, or a worker's own trouble with ``None``."""
TaskHandler = Callable[["Signature"], None]
"""Gets the signature before the task is called, or after its outcome was stored and its successors were sent."""
PreConsumeHandler = Callable[["Worker"], bool]
"""Asked before each fetch; false: not now."""


class Hooks:
    """What is set; ``None``: nothing."""

    def __init__(self, logger: logging.Logger) -> None:
        self.logger = logger
        self.error: ErrorHandler | None = None
        self.pre_task: TaskHandler | None = None
        self.post_task: TaskHandler | None = None
        self.pre_consume: PreConsumeHandler | None = None

    def report_failure(self, run: Run) -> None:
        """A task failed for good: to the error handler, else to the log with id and traceback."""
        name, uuid = run.signature.name, run.signature.uuid
        if self.error is not None:
            self._call(self.error, run.exception or TaskFailed(run.error, uuid=uuid, name=name), run.signature)
            return
        self.logger.error("task %s %s failed: %s", name, uuid, run.error, exc_info=run.exception)

    def report_trouble(self, error: Exception, what: str) -> None:
        """The worker itself is in trouble and will try again: to the log and, where set, the error handler."""
        self.logger.warning("%s: %s", what, error)
        if self.error is not None:
            self._call(self.error, error, None)

    def report_end(self, run: Run) -> None:
        """A task's outcome is stored and its successors are sent."""
        if self.post_task is not None:
            self._call(self.post_task, run.signature)

    def may_consume(self, worker: Worker) -> bool:
        """Whether to fetch now."""
        if self.pre_consume is None:
            return True
        try:
            return self.pre_consume(worker)
        except BaseException:  # a SystemExit would end the fetcher's thread, and nobody would notice
            self.logger.exception("the pre-consume handler failed; fetching goes on")
            return True

    def _call(self, handler: Callable[..., None], *args: object) -> None:
        try:
            handler(*args)
        except BaseException:  # a SystemExit would end a thread of the worker's, and nobody would notice
            self.logger.exception("the handler %r failed", handler)
