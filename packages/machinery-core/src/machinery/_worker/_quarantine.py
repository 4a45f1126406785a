"""Tasks that were there when workers crashed run one at a time, so that only the guilty one is there at the next crash."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from machinery._worker._run import Run

CRASHES = 2
"""After so many crashes a task runs apart. After the first it does not: a worker that was killed once says nothing of its tasks,
and they should not wait for each other."""


class Quarantine:
    """One place for one worker. Safe from any thread."""

    def __init__(self) -> None:
        self._inside: Run | None = None
        self._entering = threading.Lock()

    def admits(self, run: Run, max_crashes: int) -> bool:
        """Whether ``run`` may run now: it is not suspect enough, or the place is free, and is taken until `leave`."""
        if run.crashes < max(1, min(CRASHES, max_crashes)):
            return True
        with self._entering:
            if self._inside is not None:
                return False
            self._inside = run
            return True

    def leave(self, run: Run) -> None:
        """``run`` is settled or handed back. Nothing happens when it was not inside."""
        if self._inside is run:
            self._inside = None
