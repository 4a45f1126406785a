"""Fetches one queue: asks for as many messages as can be started soon, sorts out what must not run, starts the rest."""

from __future__ import annotations

import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from machinery._headers import expiry_of
from machinery._retry import Backoff
from machinery._states import State, TaskState
from machinery._worker._patience import GivenUp, Patience
from machinery._worker._run import Run
from machinery.errors import Closed, DecodeError, Unavailable
from machinery.wire import decode_signature

if TYPE_CHECKING:
    from machinery._config import Config
    from machinery._registry import Registry
    from machinery._worker._executor import Executor
    from machinery._worker._hooks import Hooks
    from machinery._worker._settler import Settler
    from machinery.abc import Backend, Broker, Delivery

HORIZON = 0.05
"""Seconds: beyond its free slots a worker holds only what it expects to start within this."""
MAX_SURPLUS = 400
"""The largest surplus, however short the tasks are."""
RECEIVE_TIMEOUT = 5.0
"""Seconds that one `receive` waits."""
FIRST_UNKNOWN_DELAY = timedelta(milliseconds=50)
UNKNOWN_DELAY_GROWTH = 1.5
"""Slow: each return is a toss between the workers that know the task and those that do not, and several may be lost in a row."""
LONGEST_UNKNOWN_DELAY = timedelta(seconds=60)
UNKNOWN_REMEMBERED = 10_000
"""How many unknown tasks' counts are kept."""
LATER = timedelta(seconds=10)
"""After which a message that could not be settled, for a defect of some kind, is tried again."""


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
    ) -> None:
        self.queue = queue
        self.consumer = broker.consumer(queue, name)
        self.keeps_dead_letters = broker.capabilities.dead_letters
        self.held: dict[Run, None] = {}
        """What was received, is not settled, and is to be kept ours."""
        self.room = threading.Event()
        """Set when something was settled."""
        self.last_look = time.monotonic()
        """When the service last answered, or fetching last paused of its own will."""
        self._broker = broker
        self._backend = backend
        self._registry = registry
        self._executor = executor
        self._settler = settler
        self._hooks = hooks
        self._patience = patience
        self._may_consume = may_consume
        self._config = config
        self._lease = broker.capabilities.leases
        self._max_delay = broker.capabilities.max_delay
        self._stores = backend.capabilities.stores
        self._lease_ends = float("inf")
        self._by_uuid: dict[str, Run] = {}
        self._unknown: OrderedDict[str, timedelta] = OrderedDict()
        self._stopping = threading.Event()

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
        deliveries = self.consumer.receive(limit, RECEIVE_TIMEOUT)
        now = self.last_look = time.monotonic()
        if not deliveries:
            return
        if not self.held:  # else what is held already has less time left than these; the keeper renews all
            self.renewed(begin)
        if self._stopping.is_set():
            self._give_back(deliveries)
            return
        try:
            runs = self._sort_out(deliveries, now)
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
        free = slots + self._surplus(slots, busy) - busy - self._settler.backlog
        if 0 < free < slots // 2 and executor.ready:
            return 0  # enough waits to be started: a fuller batch will be fetched in a moment
        return free

    def _surplus(self, slots: int, busy: int) -> int:
        if self._patience.struggling:
            return slots  # a service is away: stop at twice the slots unsettled
        mean = self._executor.mean_duration
        if mean <= 0.0 or (busy >= slots and time.monotonic() - self._executor.last_end > HORIZON):
            return 0  # nobody knows yet how long the tasks are, or those of the moment are long
        return min(MAX_SURPLUS, int(slots * HORIZON / mean))

    # -- sorting out --------------------------------------------------------------------------------------------------------

    def _sort_out(self, deliveries: Sequence[Delivery], now: float) -> list[Run]:
        """The runs to start. Everything else is settled here, or handed to the settler with its outcome."""
        runs: list[Run] = []
        doubtful: list[Run] = []
        find = self._registry.find
        for delivery in deliveries:
            try:
                signature = decode_signature(delivery.body)
            except DecodeError as error:
                self._give_up_on(delivery, f"undecodable: {error}")
                continue
            task = find(signature.name)
            if task is None:
                self._return_unknown(
                    delivery, signature.name, signature.uuid, ignore=signature.ignore_when_task_not_registered
                )
                continue
            if signature.eta is not None and self._max_delay is not None and self._is_early(delivery, signature.eta):
                continue
            if delivery.redelivered is not False and self._is_adopted(delivery, signature.uuid):
                continue
            run = Run(delivery, self, signature, task, now)
            self.held[run] = None
            self._by_uuid[signature.uuid] = run
            if delivery.redelivered is not False:
                doubtful.append(run)
                continue
            if signature.headers and self._is_late(run):
                continue
            runs.append(run)
        if doubtful:
            runs += self._examine(doubtful)
        return runs

    def _is_adopted(self, delivery: Delivery, uuid: str) -> bool:
        """Leave a redelivery of what we still have to the run we have. A retry's copy has the same id and is another message."""
        ours = self._by_uuid.get(uuid)
        if ours is None or ours.delivery.body != delivery.body:
            return False
        ours.adopted = [*(ours.adopted or ()), delivery]
        # Settled in this very moment? Then it may not have been seen, and is looked up like any other.
        return self._by_uuid.get(uuid) is ours

    def _is_early(self, delivery: Delivery, eta: datetime) -> bool:
        """Hand back what came before its time, where the broker cannot hold it long enough (protocol §5.1)."""
        rest = eta - datetime.now(UTC)
        if rest <= timedelta(0):
            return False
        delay = rest if not self._max_delay else min(rest, self._max_delay)
        self._patience.call(partial(self.consumer.postpone, [delivery], delay), "cannot postpone")
        return True

    def _is_late(self, run: Run) -> bool:
        expires = expiry_of(run.signature.headers)
        if expires is None or expires > datetime.now(UTC):
            return False
        run.fail(None, f"expired: it was not to start after {expires.isoformat()}")
        self._settler.finished(run)
        return True

    def _examine(self, doubtful: list[Run]) -> list[Run]:
        """Of what may have been delivered before: replay what has ended, give up on what crashes, run the rest."""
        runs: list[Run] = []
        for run, state in zip(doubtful, self._load([run.signature.uuid for run in doubtful]), strict=True):
            if state is not None and state.is_completed:
                run.replay(state)
                self._settler.finished(run)
                continue
            run.crashes = self._crashes(run, state)
            # Where the service cannot tell, what has no more than a PENDING record counts as delivered for the first time.
            run.suspect = self._stores and (
                run.delivery.redelivered is True or (state is not None and state.state is not State.PENDING)
            )
            if run.crashes > self._config().max_crashes:
                reason = f"crashed its worker {run.crashes} times"
                run.fail(None, reason, dead=reason)
                self._settler.finished(run)
            elif not self._is_late(run):
                runs.append(run)
        return runs

    def _load(self, ids: Sequence[str]) -> Sequence[TaskState | None]:
        """The records; one that cannot be read counts as none, so that it does not stand in the way of the others."""
        if not self._stores:
            return [None] * len(ids)
        try:
            return self._patience.call(partial(self._backend.load, ids), "cannot read records")
        except DecodeError:
            if len(ids) > 1:
                return [state for uuid in ids for state in self._load([uuid])]
            self._hooks.logger.exception("the record of task %s cannot be read; it runs as if there were none", ids[0])
            return [None]

    def _crashes(self, run: Run, state: TaskState | None) -> int:
        """Only a delivery that had *started* counts: the neighbours of a poison task in its batch never suffer."""
        if not self._stores:
            return max(0, (run.delivery.attempt or 1) - 1)
        if state is None:
            return 0
        return state.crashes + (state.state is State.STARTED)

    def _give_up_on(self, delivery: Delivery, reason: str) -> None:
        if self.keeps_dead_letters:
            self._hooks.logger.error("a message of %s goes to the dead letters: %s", self.queue, reason)
            self._patience.call(partial(self.consumer.reject, [delivery], reason), "cannot reject")
        else:
            self._hooks.logger.error("a message of %s is dropped: %s: %r", self.queue, reason, delivery.body)
            self._patience.call(partial(self.consumer.ack, [delivery]), "cannot acknowledge")

    def _return_unknown(self, delivery: Delivery, name: str, uuid: str, *, ignore: bool) -> None:
        """Another worker may know it: give it back, later each time."""
        if ignore:
            self._patience.call(partial(self.consumer.ack, [delivery]), "cannot acknowledge")
            return
        full = self._unknown.pop(uuid, FIRST_UNKNOWN_DELAY)
        self._unknown[uuid] = min(LONGEST_UNKNOWN_DELAY, full * UNKNOWN_DELAY_GROWTH)
        # Those that came together must not become due together: they would all come back here, in one batch.
        delay = full * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, hides nothing
        if len(self._unknown) > UNKNOWN_REMEMBERED:
            self._unknown.popitem(last=False)
        self._hooks.logger.warning(
            "the task %r (%s) is not registered here; it goes back to %s for %.2f s",
            name,
            uuid,
            self.queue,
            delay.total_seconds(),
        )
        self._patience.call(partial(self.consumer.postpone, [delivery], delay), "cannot postpone")

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
            self._lease_ends = when + self._lease.total_seconds()

    def forget(self, run: Run) -> None:
        """It is settled or handed back."""
        self.held.pop(run, None)
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
        try:
            self.consumer.nack(deliveries)
        except Exception as error:  # noqa: BLE001 - a plug-in's defect must not cut short what the caller is about
            self._hooks.report_trouble(
                error, f"{len(deliveries)} messages could not be handed back; they come back by their leases"
            )

    def _give_back_unheld(self, deliveries: Sequence[Delivery]) -> None:
        """Sorting out was cut short: what it has not settled and nobody is going to run goes back."""
        for run in list(self.held):
            if run.started == 0.0 and run.outcome is None and any(run.delivery is delivery for delivery in deliveries):
                self.forget(run)
        held = {id(delivery) for delivery in self.deliveries()}
        # What was settled already is no longer ours, and the broker leaves it alone.
        self._give_back([delivery for delivery in deliveries if id(delivery) not in held])

    def postpone_quietly(self, run: Run) -> None:
        """Give back what could not be settled, for later."""
        self.forget(run)
        try:
            self.consumer.postpone(_all_deliveries([run]), LATER)
        except Exception as error:  # noqa: BLE001 - likewise
            self._hooks.report_trouble(error, "a message could not be handed back; it comes back by its lease")

    def lost(self, deliveries: Sequence[Delivery]) -> None:
        """These are no longer ours: what has not started will not; what runs goes on, and adopts the message if it comes back."""
        gone = {id(delivery) for delivery in deliveries}
        for run in list(self.held):
            if id(run.delivery) in gone:
                self.held.pop(run, None)


def _all_deliveries(runs: Sequence[Run]) -> list[Delivery]:
    return [delivery for run in runs for delivery in (run.delivery, *(run.adopted or ()))]
