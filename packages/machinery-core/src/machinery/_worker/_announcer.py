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
AGAIN = 0.5
"""Seconds to leave the backend alone after it did not take a record."""


class Announcer:
    """One thread; sleeps while nothing runs."""

    def __init__(
        self, executor: Executor, settler: Settler, backend: Backend, hooks: Hooks, started: threading.Event
    ) -> None:
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
        """Look every moment while something runs unannounced or waits."""
        while True:
            self._started.wait()
            if self._stopped.wait(MOMENT):
                return
            self._started.clear()
            if self._stopped.is_set():  # `stop` set both: the event that was just cleared would not come again
                return
            try:
                left = self._announce()
            except MachineryError as error:
                # Not worth insisting on: the outcome will be. It is tried again while the task runs.
                self._hooks.logger.debug("cannot store STARTED: %s", error)
                left = not self._stopped.wait(AGAIN)
            except Exception:  # a plug-in's defect must not let every state stay PENDING silently
                self._hooks.logger.exception("cannot store STARTED")
                left = not self._stopped.wait(AGAIN)
            if left:
                self._started.set()

    def _announce(self) -> bool:
        """Write what is due. Returns whether something is left to be announced later."""
        now = time.monotonic()
        executor = self._executor
        if executor.ready and now - executor.last_end > MOMENT:
            executor.relieve()
        fresh = [run for run in executor.running() if not run.announced]
        due = [run for run in fresh if run.started and now - run.started >= MOMENT]
        unnoted = [run for run in (*executor.ready.copy(), *list(executor.ready_on_loop)) if not run.noted]
        waiting = [run for run in unnoted if now - run.received >= WAITING]
        if due or waiting:
            self._write(due, waiting)
        return len(due) < len(fresh) or len(waiting) < len(unnoted)

    def _write(self, due: list[Run], waiting: list[Run]) -> None:
        with self._settler.writing:
            # Under the lock nothing is saved by the settler: what has no outcome now cannot be overtaken.
            due = [run for run in due if run.outcome is None and not run.abandoned]
            waiting = [run for run in waiting if not run.started and not run.abandoned]
            records = [_record(run, State.STARTED) for run in due] + [_record(run, State.RECEIVED) for run in waiting]
            if not records:
                return
            self._backend.save(records)
        for run in due:
            run.announced = True
        for run in waiting:
            run.noted = True


def _record(run: Run, state: State) -> TaskState:
    return TaskState(run.signature.uuid, run.signature.name, state, crashes=run.crashes)
