"""Where a run's delivery came from, and goes back to."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from machinery._worker._run import Run
    from machinery.abc import Consumer


class Origin(Protocol):
    """What executor and settler need of the one that fetched a run."""

    consumer: Consumer
    room: threading.Event

    @property
    def keeps_dead_letters(self) -> bool:
        """Whether a rejected message is kept."""

    @property
    def default_queue(self) -> str:
        """Where successors without a queue go."""

    def owns(self, run: Run) -> bool:
        """Whether the run's delivery is still ours."""

    def begin(self, run: Run) -> bool:
        """Store that a suspect run starts. Whether it may; if not, it has its outcome."""

    def forget(self, run: Run) -> None:
        """The run is settled."""

    def hand_back(self, runs: Sequence[Run]) -> None:
        """Give the runs' deliveries back."""

    def postpone_quietly(self, run: Run) -> None:
        """Give the run's delivery back for later, each time for longer; failing is no error."""
