"""Waiting for records in a store that tells nobody: looks, ever less often. For plug-ins whose `Backend.wait` cannot be woken."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from machinery._states import TaskState

SHORTEST_PAUSE = 0.005
"""Seconds between the first two looks, and the fewest between any."""
GROWTH = 1.25
"""Each pause is that much longer than the one before: a result is found late by at most a quarter of the time it took."""

Load = Callable[[Sequence[str]], list[TaskState | None]]


def poll(load: Load, ids: Sequence[str], timeout: float, interval: float) -> list[TaskState | None]:
    """The records in the order of ``ids`` once all are final, or ``timeout`` seconds are over.

    ``load`` is `Backend.load`; it is asked only for what was not final yet. Pauses grow from 5 ms to ``interval`` seconds, and
    are never shorter than 5 ms, whatever ``interval`` says. Raises what ``load`` raises.
    """
    deadline = time.monotonic() + timeout
    found: dict[str, TaskState | None] = dict.fromkeys(ids)
    running = list(found)
    pause = SHORTEST_PAUSE
    while True:
        found.update(zip(running, load(running), strict=True))
        running = [uuid for uuid in running if not _is_final(found[uuid])]
        left = deadline - time.monotonic()
        if not running or left <= 0:
            return [found[uuid] for uuid in ids]
        time.sleep(min(left, pause))
        pause = max(SHORTEST_PAUSE, min(interval, pause * GROWTH))


def _is_final(state: TaskState | None) -> bool:
    return state is not None and state.is_completed
