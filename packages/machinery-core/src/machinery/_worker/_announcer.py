"""Says of tasks that take longer than a moment that they were received or have started. Short ones skip these writes."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from machinery._states import State, TaskState
from machinery.errors import MachineryError

if TYPE_CHECKING:
    from machinery._worker._executor import Executor
    from machinery._worker._hooks import Hooks
    from machinery._worker._run import Run
    from machinery._worker._settler import Settler
    from machinery.abc import Backend

MOMENT = 0.005
"""Seconds: a task that runs longer is seen as STARTED by everyone."""
WAITING = 0.05
"""Seconds: a task that waits longer for a slot is seen as RECEIVED."""


class Announcer:
    """One thread; sleeps while nothing runs."""

    def __init__(self, executor: Executor, settler: Settler, backend: Backend, hooks: Hooks, started: threading.Event) -> None:
        self._executor = executor
        self._settler = settler
        self._backend = backend
        self._hooks = hooks
        self._started = started
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._started.set()

    def run(self) -> None:
        """Look every moment while something runs unannounced."""
        while True:
            self._started.wait()
            if self._stopped.wait(MOMENT):
                return
            self._started.clear()
            if self._announce():
                self._started.set()

    def _announce(self) -> bool:
        """Write what is due. Returns whether something is left to be announced later."""
        now = time.monotonic()
        fresh = [run for run in self._executor.running() if not run.announced]
        due = [run for run in fresh if now - run.started >= MOMENT]
        unnoted = self._unnoted()
        waiting = [run for run in unnoted if now - run.received >= WAITING]
        if due or waiting:
            self._write(due, waiting)
        return len(due) < len(fresh) or len(waiting) < len(unnoted)

    def _unnoted(self) -> list[Run]:
        try:
            return [run for run in self._executor.ready if not run.noted]
        except RuntimeError:  # it changed while we looked
            return []

    def _write(self, due: list[Run], waiting: list[Run]) -> None:
        with self._settler.writing:
            # Under the lock nothing is saved by the settler: what has no outcome now cannot be overtaken.
            due = [run for run in due if run.outcome is None]
            records = [TaskState(run.signature.uuid, run.signature.name, State.STARTED, crashes=run.crashes) for run in due]
            waiting = [run for run in waiting if not run.started]
            records += [TaskState(run.signature.uuid, run.signature.name, State.RECEIVED, crashes=run.crashes) for run in waiting]
            if not records:
                return
            try:
                self._backend.save(records)
            except MachineryError as error:
                # Not worth waiting for: the outcome will be. It is tried again while the task runs.
                self._hooks.logger.debug("cannot store STARTED: %s", error)
                return
        for run in due:
            run.announced = True
        for run in waiting:
            run.noted = True
