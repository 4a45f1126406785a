"""Sorts out what was received: what is to run, and what is settled without running."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from machinery._headers import expiry_of
from machinery._signatures import Signature, new_task_uuid
from machinery._states import State, TaskState
from machinery._worker._growing_delays import GrowingDelays
from machinery._worker._patience import Patience
from machinery._worker._run import Run
from machinery.errors import Closed, DecodeError, MachineryError, Unavailable
from machinery.wire import decode_signature

if TYPE_CHECKING:
    from machinery._config import Config
    from machinery._registry import Registry
    from machinery._worker._fetcher import Fetcher
    from machinery._worker._hooks import Hooks
    from machinery._worker._quarantine import Quarantine
    from machinery._worker._settler import Settler
    from machinery.abc import Backend, Delivery

FIRST_UNKNOWN_DELAY = timedelta(milliseconds=50)
UNKNOWN_DELAY_GROWTH = 1.5
"""Slow: each return is a toss between the workers that know the task and those that do not, and several may be lost in a row."""
LONGEST_UNKNOWN_DELAY = timedelta(seconds=60)
TASK = "task_"
"""What the ids of tasks begin with; those of chords' callbacks do not, unless somebody made them up (protocol §8.1)."""
QUARANTINE_DELAY = timedelta(seconds=1)
"""After which a task that is to run apart is tried again, while another one does."""


class Sorter:
    """The sorting of one queue's deliveries, in its fetcher's thread. Waits for services that are away."""

    def __init__(
        self,
        origin: Fetcher,
        *,
        registry: Registry,
        backend: Backend,
        settler: Settler,
        hooks: Hooks,
        patience: Patience,
        config: Callable[[], Config],
        quarantine: Quarantine,
        max_delay: timedelta | None,
    ) -> None:
        self._origin = origin
        self._registry = registry
        self._backend = backend
        self._stores = backend.capabilities.stores
        self._settler = settler
        self._hooks = hooks
        self._patience = patience
        self._config = config
        self._quarantine = quarantine
        self._max_delay = max_delay
        self._unknown = GrowingDelays(UNKNOWN_DELAY_GROWTH, LONGEST_UNKNOWN_DELAY)

    def sort_out(self, deliveries: Sequence[Delivery], now: float) -> list[Run]:
        """The runs to start. Everything else is settled here, or handed to the settler with its outcome."""
        runs: list[Run] = []
        doubtful: list[Run] = []
        find = self._registry.find
        origin = self._origin
        hold = origin.hold
        for delivery in deliveries:
            signature = self._decoded(delivery)
            if signature is None:
                continue
            task = find(signature.name)
            if task is None or (signature.chord_callback is not None and not self._stores):
                self._cannot_run(delivery, signature, is_registered=task is not None)
                continue
            if signature.eta is not None and self._max_delay is not None and self._is_early(delivery, signature.eta):
                continue
            # What may be a chord's callback is always looked up: if who claimed the chord is held up, another sends it too.
            may_be_second = delivery.redelivered is not False or not signature.uuid.startswith(TASK)
            if not signature.uuid:
                # Nothing tells it from others like it, so nothing can be known of it, and each delivery runs. Under one record
                # for all of them the first that ended would keep the others from running.
                signature = signature.with_(uuid=new_task_uuid())
                may_be_second = False
            if may_be_second and self._is_adopted(delivery, signature.uuid):
                continue
            run = Run(delivery, origin, signature, task, now)
            hold(run)
            if may_be_second:
                doubtful.append(run)
                continue
            if signature.headers and self._is_late(run):
                continue
            runs.append(run)
        if doubtful:
            runs += self._examine(doubtful)
        return runs

    def _decoded(self, delivery: Delivery) -> Signature | None:
        """What ``delivery`` says; ``None`` when it says nothing, and is a dead letter now."""
        try:
            signature = decode_signature(delivery.body)
        except DecodeError as error:
            self._give_up_on(delivery, f"undecodable: {error}")
            return None
        if not signature.name:
            self._give_up_on(delivery, "it names no task")
            return None
        return signature

    def _is_adopted(self, delivery: Delivery, uuid: str) -> bool:
        """Leave a redelivery of what we still have to the run we have. A retry's copy has the same id and is another message."""
        ours = self._origin.held_as(uuid)
        if ours is None or ours.delivery.body != delivery.body or ours.delivery.message_id != delivery.message_id:
            return False  # somebody who sends a task again while it is acknowledged sends the same body
        ours.adopted = [*(ours.adopted or ()), delivery]
        # Settled in this very moment? Then it may not have been seen, and is looked up like any other.
        return self._origin.hold_again(ours)

    def _is_early(self, delivery: Delivery, eta: datetime) -> bool:
        """Hand back what came before its time, where the broker cannot hold it long enough (protocol §5.1)."""
        rest = eta - datetime.now(UTC)
        if rest <= timedelta(0):
            return False
        delay = rest if not self._max_delay else min(rest, self._max_delay)
        self._patience.call(partial(self._origin.consumer.postpone, [delivery], delay), "cannot postpone")
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
                keeps = run.signature.stop_task_deletion_on_error and state.is_failure
                has_crashed = state.error == _too_many(
                    state.crashes
                )  # who found that died before the message was put away
                if keeps or has_crashed:
                    run.dead = state.error
                self._settler.finished(run)
                continue
            run.crashes = self._crashes(run, state)
            # Where the service cannot tell, what has no more than a PENDING record counts as delivered for the first time.
            run.suspect = self._stores and (
                run.delivery.redelivered is True or (state is not None and state.state is not State.PENDING)
            )
            most = self._config().max_crashes
            if run.crashes > most:
                reason = _too_many(run.crashes)
                run.fail(None, reason, dead=reason)
                self._settler.finished(run)
            elif self._is_late(run):
                continue
            elif self._quarantine.admits(run, most):
                runs.append(run)
            else:
                self._origin.forget(run)
                delay = QUARANTINE_DELAY * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, hides nothing
                self._patience.call(partial(self._origin.consumer.postpone, [run.delivery], delay), "cannot postpone")
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
        if state is None:  # nothing is known of it: then its deliveries have to do
            return max(0, (run.delivery.attempt or 1) - 1)
        return state.crashes + (state.state is State.STARTED)

    def _give_up_on(self, delivery: Delivery, reason: str) -> None:
        if self._origin.keeps_dead_letters:
            self._hooks.logger.error("a message of %s goes to the dead letters: %s", self._origin.queue, reason)
            try:
                self._patience.call(partial(self._origin.consumer.reject, [delivery], reason), "cannot reject")
            except (Closed, Unavailable):
                raise
            except MachineryError as error:
                # There may be no place for dead letters, say: the others must not wait for it.
                self._hooks.report_trouble(error, f"it stays on {self._origin.queue}")
                delay = self._unknown.next(delivery.body, FIRST_UNKNOWN_DELAY)
                self._patience.call(partial(self._origin.consumer.postpone, [delivery], delay), "cannot postpone")
        else:
            self._hooks.logger.error("a message of %s is dropped: %s: %r", self._origin.queue, reason, delivery.body)
            self._patience.call(partial(self._origin.consumer.ack, [delivery]), "cannot acknowledge")

    def _cannot_run(self, delivery: Delivery, signature: Signature, *, is_registered: bool) -> None:
        if is_registered:
            why = "is a member of a chord, which needs a result backend that this worker has not (result_backend=…)"
            self._leave_to_others(delivery, signature, why)
        elif signature.ignore_when_task_not_registered:
            self._drop(delivery, signature)
        else:
            self._leave_to_others(delivery, signature, "is not registered here")

    def _drop(self, delivery: Delivery, signature: Signature) -> None:
        """Nobody is to miss it, but its group, which must not wait for it for ever."""
        if signature.group_uuid and signature.uuid:
            why = f"the task {signature.name!r} is not registered here, and was sent to be dropped then"
            record = TaskState(signature.uuid, signature.name, State.FAILURE, None, why)
            self._patience.call(partial(self._backend.save, [record]), "cannot store results")
        self._patience.call(partial(self._origin.consumer.ack, [delivery]), "cannot acknowledge")

    def _leave_to_others(self, delivery: Delivery, signature: Signature, why: str) -> None:
        """Another worker may be able to run it: give it back, later each time."""
        full = self._unknown.next(delivery.body, FIRST_UNKNOWN_DELAY)
        # Those that came together must not become due together: they would all come back here, in one batch.
        delay = full * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, hides nothing
        self._hooks.logger.warning(
            "the task %r (%s) %s; it goes back to %s for %.2f s",
            signature.name,
            signature.uuid,
            why,
            self._origin.queue,
            delay.total_seconds(),
        )
        self._patience.call(partial(self._origin.consumer.postpone, [delivery], delay), "cannot postpone")


def _too_many(crashes: int) -> str:
    """Why a task that crashed so often is not run again: in its record, and with its dead letter."""
    return f"crashed its worker {crashes} times"
