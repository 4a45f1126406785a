"""Finding the loans of dead consumers without trusting any clock that is shared.

A living consumer raises the ``beat`` of its loans (`Consumer.extend`). A loan is taken back when its beat stood still for one
lease by the observer's own stopwatch. Steps of the machine's time of day, a suspended machine, or a file that was locked for a
while make nobody look dead: an observer that could not look for one lease starts anew.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from machinery.sqlite import _messages as sql

if TYPE_CHECKING:
    import sqlite3


class LoanWatch:
    """What one broker has seen of everybody's loans. Safe from any thread."""

    def __init__(self) -> None:
        self._seen: dict[sql.Handle, tuple[int, float]] = {}
        """For each loan its beat, and since when (monotonic) it stands still."""
        self._looked = 0.0
        self._lock = threading.Lock()

    def take_back(self, connection: sqlite3.Connection) -> int:
        """Look once; make ready what was silent for a lease, and return how many that were."""
        with self._lock:
            now = time.monotonic()
            loans = connection.execute(sql.LOANS).fetchall()
            unwatched = now - self._looked
            self._looked = now
            before, self._seen = self._seen, {}
            taken = 0
            for row, loan, beat, lease in loans:
                last_beat, since = before.get((row, loan), (beat, now))
                if beat != last_beat or unwatched > lease:
                    since = now
                if now - since < lease:
                    self._seen[row, loan] = (beat, since)
                else:
                    taken += connection.execute(sql.TAKE_BACK, (row, loan, beat)).rowcount
            return taken
