"""Fetches one queue: asks for as many messages as can be started soon, and keeps ours what is being worked on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from machinery._retry import Backoff
from machinery._states import State, TaskState
from machinery._worker._debts import Debts
from machinery._worker._growing_delays import GrowingDelays
from machinery._worker._patience import GivenUp, Patience
from machinery._worker._run import Run
from machinery._worker._sorter import Sorter
from machinery.errors import Closed, MachineryError, Unavailable

if TYPE_CHECKING:
    from machinery._config import Config
    from machinery._registry import Registry
    from machinery._worker._executor import Executor
    from machinery._worker._hooks import Hooks
    from machinery._worker._quarantine import Quarantine
    from machinery._worker._settler import Settler
    from machinery.abc import Backend, Broker, Delivery

HORIZON = 0.05
"""Seconds: beyond its free slots a worker holds only what it expects to start within this."""
MAX_SURPLUS = 1000
"""The largest surplus, however short the tasks are: with 2 ms more to the service, 400 were run before the next had come."""
GROWTH = 4
"""How many times as much as came last the surplus may be: who has just begun neither takes a whole burst from the other workers,
nor sorts out hundreds of messages before it runs the second task."""
GROWTH_THAT_MATTERS = 1.5
"""A service that pushes is told of a capacity that is larger by so much."""
LASTING = 0.5
"""Seconds for which a capacity must have been half of what it was, or less, until a service that pushes is told so."""
RECEIVE_TIMEOUT = 5.0
"""Seconds that one `receive` waits at most."""
LATER = timedelta(seconds=10)
"""After which a message that could not be settled, for a defect of some kind, is tried again; twice as long each time."""
LONGEST_LATER = timedelta(minutes=10)


class Fetcher:
    """The fetching of one queue. `run` is its thread; the rest is for the worker's other threads."""

    def __init__(
        self,
        broker: Broker,
        backend: Backend,
        queue: str,
        name: str,
        *,
        registry: Registry,
        executor: Executor,
        settler: Settler,
        hooks: Hooks,
        patience: Patience,
        may_consume: Callable[[], bool],
        config: Callable[[], Config],
        quarantine: Quarantine,
    ) -> None:
        self.queue = queue
        self.consumer = broker.consumer(queue, name)
        self.debts = Debts(self.consumer, hooks)
        self.keeps_dead_letters = broker.capabilities.dead_letters
        self.held: dict[Run, None] = {}
        """What was received, is not settled, and is to be kept ours."""
        self.room = threading.Event()
        """Set when something was settled."""
        self.last_look = time.monotonic()
        """When the service last answered, or fetching last paused of its own will."""
        self._backend = backend
        self._executor = executor
        self._settler = settler
        self._hooks = hooks
        self._patience = patience
        self._may_consume = may_consume
        self._config = config
        self._quarantine = quarantine
        self._lease = broker.capabilities.leases
        self._lease_ends = float("inf")
        # A lease counts from when the receive began: waiting must use up little of it.
        self._receive_timeout = (
            RECEIVE_TIMEOUT if self._lease is None else min(RECEIVE_TIMEOUT, self._lease.total_seconds() / 4)
        )
        self._by_uuid: dict[str, Run] = {}
        self._last_count = MAX_SURPLUS
        """How many messages came last; before the first, the surplus is as small as what is known of the tasks."""
        self._capacity = 0
        """What the consumer was told last to keep to."""
        self._lower_since = 0.0
        self._most_wanted = 0
        """The largest capacity that was enough since then."""
        self._later = GrowingDelays(2.0, LONGEST_LATER)
        self._stopping = threading.Event()
        self._sorter = Sorter(
            self,
            registry=registry,
            backend=backend,
            settler=settler,
            hooks=hooks,
            patience=patience,
            config=config,
            quarantine=quarantine,
            max_delay=broker.capabilities.max_delay,
        )

    # -- the thread ---------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Fetch until stopped. A service that is away is waited for."""
        backoff = Backoff()
        while not self._stopping.is_set():
            try:
                self._fetch_once()
                backoff.reset()
            except Unavailable as error:
                pause = backoff.next()
                self._hooks.report_trouble(error, f"cannot fetch from {self.queue}; trying again in {pause:.1f} s")
                self.last_look = time.monotonic()
                self._stopping.wait(pause)
            except (Closed, GivenUp):
                if not self._stopping.is_set():
                    self._hooks.logger.exception("fetching from %s ended", self.queue)
                return
            except MachineryError as error:
                pause = backoff.next()
                self._hooks.report_trouble(
                    error, f"fetching from {self.queue} is refused; trying again in {pause:.1f} s"
                )
                self.last_look = time.monotonic()
                self._stopping.wait(pause)
            except Exception as error:
                pause = backoff.next()
                self._hooks.logger.exception("fetching from %s failed; trying again in %.1f s", self.queue, pause)
                self._hooks.report_trouble(error, f"fetching from {self.queue} failed")
                self._stopping.wait(pause)

    def stop(self) -> None:
        """Fetch no more."""
        self._stopping.set()
        self.room.set()
        self.consumer.stop()

    def _fetch_once(self) -> None:
        limit = self._wanted()
        if limit <= 0 or not self._may_consume():
            self.last_look = time.monotonic()
            self.room.wait(0.1)
            self.room.clear()
            return
        self.room.clear()
        begin = time.monotonic()
        deliveries = self.consumer.receive(limit, self._receive_timeout)
        now = self.last_look = time.monotonic()
        self._last_count = len(deliveries)
        if not deliveries:
            return
        if not self.held:  # else what is held already has less time left than these; the keeper renews all
            self.renewed(begin)
        if self._stopping.is_set():
            self._give_back(deliveries)
            return
        try:
            runs = self._sorter.sort_out(deliveries, now)
        except BaseException:
            self._give_back_unheld(deliveries)
            raise
        if self._stopping.is_set():
            self.hand_back(runs)
        elif runs:
            self._executor.start(runs)

    def _wanted(self) -> int:
        """How many messages can be started soon: free slots, and a surplus while tasks are short."""
        executor = self._executor
        slots = executor.slots
        busy = executor.busy
        capacity = slots + self._surplus(slots, busy)
        self._resize(capacity)
        free = capacity - busy - self._settler.backlog
        if 0 < free < slots // 2 and executor.ready:
            return 0  # enough waits to be started: a fuller batch will be fetched in a moment
        return free

    def _resize(self, capacity: int) -> None:
        """Have a service that pushes keep to ``capacity``: to more at once, to a good deal less when that lasts.

        What was pushed beyond a smaller capacity has to be given back and pushed again, which costs more than to hold it for a
        moment: the surplus of tasks that take microseconds goes up and down many times a second.
        """
        now = time.monotonic()
        if capacity >= GROWTH_THAT_MATTERS * self._capacity:
            self._capacity, self._lower_since, self._most_wanted = capacity, now, 0
            self.consumer.resize(capacity)
        elif capacity > self._capacity / 2:
            self._lower_since, self._most_wanted = now, 0
        else:
            self._most_wanted = max(self._most_wanted, capacity)
            if now - self._lower_since >= LASTING:
                self._capacity, self._lower_since, self._most_wanted = self._most_wanted, now, 0
                self.consumer.resize(self._capacity)

    def _surplus(self, slots: int, busy: int) -> int:
        if self._patience.struggling:
            return slots  # a service is away: stop at twice the slots unsettled
        mean = self._executor.mean_duration
        if mean <= 0.0 or (busy >= slots and time.monotonic() - self._executor.last_end > HORIZON):
            return 0  # nobody knows yet how long the tasks are, or those of the moment are long
        return min(MAX_SURPLUS, slots + GROWTH * self._last_count, int(slots * HORIZON / mean))

    # -- what is held -------------------------------------------------------------------------------------------------------

    @property
    def default_queue(self) -> str:
        """Where successors without a queue go."""
        return self._config().default_queue

    @property
    def lease_term(self) -> float | None:
        """Seconds that a lease lasts; ``None``: there are none."""
        return None if self._lease is None else self._lease.total_seconds()

    def deliveries(self) -> list[Delivery]:
        """All that is held, adopted ones included."""
        found: list[Delivery] = []
        for run in list(self.held):
            found.append(run.delivery)
            if run.adopted:
                found += run.adopted
        return found

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing was heard of the service for so long, although nobody knows that it is away."""
        return not self._patience.struggling and time.monotonic() - self.last_look >= seconds

    def reconnect(self) -> None:
        """Cut the connection that does not answer; the waiting fetch fails, and the next one connects anew."""
        self.last_look = time.monotonic()
        try:
            self.consumer.reset()
        except Exception as error:  # noqa: BLE001 - the keeper has more to do
            self._hooks.report_trouble(error, f"cannot reconnect to {self.queue}")

    def hold(self, run: Run) -> None:
        """From now on ``run``'s delivery is to be kept ours."""
        self.held[run] = None
        self._by_uuid[run.signature.uuid] = run

    def hold_again(self, run: Run) -> bool:
        """Keep ours what was lost and came back while it ran. Whether it still runs; else nothing is held."""
        self.held[run] = None
        if self.held_as(run.signature.uuid) is run:
            return True
        self.held.pop(run, None)
        return False

    def held_as(self, uuid: str) -> Run | None:
        """The run of that task that is not settled yet, though its message may have been lost."""
        return self._by_uuid.get(uuid)

    def owns(self, run: Run) -> bool:
        """Whether ``run``'s delivery is still ours, as far as we can know without asking."""
        return run in self.held and time.monotonic() < self._lease_ends

    def begin(self, run: Run) -> bool:
        """Say that a suspect run has started, before it does: should it crash its worker, that will count. Whether it may."""
        record = TaskState(run.signature.uuid, run.signature.name, State.STARTED, crashes=run.crashes)
        try:
            with self._settler.writing:
                if run.abandoned:
                    run.give_back()
                    return False
                (stored,) = self._patience.call(partial(self._backend.save, [record]), "cannot store states")
                run.announced = True
        except GivenUp:
            run.give_back()
            return False
        if stored.is_completed:
            run.replay(stored)
        return not stored.is_completed

    def renewed(self, when: float) -> None:
        """The leases of all that is held were renewed (or given) at ``when``, monotonic."""
        if self._lease is not None:
            ends = when + self._lease.total_seconds()
            self._lease_ends = ends if self._lease_ends == float("inf") else max(self._lease_ends, ends)

    def forget(self, run: Run) -> None:
        """It is settled or handed back."""
        self.held.pop(run, None)
        if run.crashes:
            self._quarantine.leave(run)
        if self._by_uuid.get(run.signature.uuid) is run:
            del self._by_uuid[run.signature.uuid]

    def hand_back(self, runs: Sequence[Run]) -> None:
        """Give back what has not started, or must not count; it is delivered again at once."""
        if not runs:
            return
        for run in runs:
            run.abandoned = True
            self.forget(run)
        self._give_back(_all_deliveries(runs))

    def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        self.debts.give_back(deliveries)

    def _give_back_unheld(self, deliveries: Sequence[Delivery]) -> None:
        """Sorting out was cut short: what it has not settled and nobody is going to run goes back."""
        for run in list(self.held):
            if run.started == 0.0 and run.outcome is None and any(run.delivery is delivery for delivery in deliveries):
                self.forget(run)
        held = {id(delivery) for delivery in self.deliveries()}
        # What was settled already is no longer ours, and the broker leaves it alone.
        self._give_back([delivery for delivery in deliveries if id(delivery) not in held])

    def postpone_quietly(self, run: Run) -> None:
        """Give back what could not be settled, for later, each time for longer."""
        self.forget(run)
        self.debts.give_back(_all_deliveries([run]), self._later.next(run.delivery.body, LATER))

    def lost(self, deliveries: Sequence[Delivery]) -> int:
        """These are no longer ours: what has not started will not; what runs goes on, and adopts the message if it comes back.

        Returns how many of them were still being worked on; the others were settled while the service was asked.
        """
        gone = {id(delivery) for delivery in deliveries}
        lost = [run for run in list(self.held) if all(id(delivery) in gone for delivery in _all_deliveries([run]))]
        for run in lost:
            self.held.pop(run, None)
        return sum(run.outcome is None for run in lost)


def _all_deliveries(runs: Sequence[Run]) -> list[Delivery]:
    return [delivery for run in runs for delivery in (run.delivery, *(run.adopted or ()))]
