"""Keeps what is held ours, the service's queues moving, and fetching alive."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from machinery._retry import Backoff
from machinery.errors import MachineryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from machinery._worker._executor import Executor
    from machinery._worker._fetcher import Fetcher
    from machinery._worker._hooks import Hooks
    from machinery._worker._origin import Origin
    from machinery._worker._run import Run

TICK = 0.5
"""Seconds between two looks at most."""
STALE = 1.0
"""Seconds after which what waits for a slot is handed back, when no slot gets free."""
WATCHDOG = 60.0
"""Seconds without any answer to a fetch after which the connection is given up."""


class Keeper:
    """One thread for all queues of a worker."""

    def __init__(self, fetchers: Sequence[Fetcher], executor: Executor, hooks: Hooks) -> None:
        self._fetchers = fetchers
        self._executor = executor
        self._hooks = hooks
        self._stopped = threading.Event()
        self._renewals = dict.fromkeys(fetchers, 0.0)
        self._chores = dict.fromkeys(fetchers, 0.0)
        self._backoffs = {fetcher: Backoff(base=0.5, cap=10.0) for fetcher in fetchers}
        self._complained: set[tuple[str, Fetcher]] = set()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def run(self) -> None:
        """Look after the queues until stopped."""
        pause = 0.0
        while not self._stopped.wait(pause):
            now = time.monotonic()
            self._hand_back_stale(now)
            for fetcher in self._fetchers:
                self._renew(fetcher, now)
                self._maintain(fetcher, now)
                self._watch(fetcher)
                fetcher.debts.pay()
            nearest = min([*self._renewals.values(), *self._chores.values()])
            pause = max(0.0, min(TICK, nearest - time.monotonic()))

    def _renew(self, fetcher: Fetcher, now: float) -> None:
        """Renew every lease in one call, at a third of its term."""
        term = fetcher.lease_term
        if term is None:
            self._renewals[fetcher] = now + TICK
            return
        if now < self._renewals[fetcher]:
            return
        deliveries = fetcher.deliveries()
        if not deliveries:
            self._renewals[fetcher] = now + term / 6
            return
        begin = time.monotonic()
        try:
            lost = fetcher.consumer.extend(deliveries)
        except Exception as error:  # noqa: BLE001 - nor must a plug-in's defect let all leases run out silently
            self._complain(error, "cannot renew the leases of", fetcher)
            self._renewals[fetcher] = now + min(1.0, term / 6)
            return
        self._complained.discard(("cannot renew the leases of", fetcher))
        self._renewals[fetcher] = now + term / 3
        if lost and (count := fetcher.lost(lost)):
            self._hooks.logger.warning("%d deliveries of %s are no longer ours", count, fetcher.queue)
        fetcher.renewed(begin)

    def _maintain(self, fetcher: Fetcher, now: float) -> None:
        if now < self._chores[fetcher]:
            return
        try:
            pause = fetcher.consumer.maintain()
            self._backoffs[fetcher].reset()
            self._complained.discard(("cannot look after", fetcher))
        except MachineryError as error:
            self._complain(error, "cannot look after", fetcher)
            pause = self._backoffs[fetcher].next()
        except Exception:
            self._hooks.logger.exception("looking after %s failed", fetcher.queue)
            pause = self._backoffs[fetcher].next()
        self._chores[fetcher] = float("inf") if pause is None else time.monotonic() + pause

    def _complain(self, error: Exception, what: str, fetcher: Fetcher) -> None:
        """Once for each time that the service goes away: the fetcher goes on saying so."""
        if (what, fetcher) not in self._complained:
            self._complained.add((what, fetcher))
            self._hooks.report_trouble(error, f"{what} {fetcher.queue}")

    def _watch(self, fetcher: Fetcher) -> None:
        """The watchdog: a fetch that neither answers nor fails is cut off, which makes it fail and reconnect."""
        if fetcher.is_silent(WATCHDOG):
            self._hooks.logger.error("nothing was heard of %s for %.0f s; reconnecting", fetcher.queue, WATCHDOG)
            fetcher.reconnect()

    def _hand_back_stale(self, now: float) -> None:
        """All slots are busy with long tasks: what was fetched in hope goes back, for others to take."""
        since = self._executor.stuck_since()
        if since is None or now - since < STALE:
            return
        back: dict[Origin, list[Run]] = {}
        for run in self._executor.take_back():
            back.setdefault(run.fetcher, []).append(run)
        for origin, runs in back.items():
            origin.hand_back(runs)
