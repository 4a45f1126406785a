"""Ends runs: save the record, send what follows, settle the message — in this order, a batch at a time.

Each step is tried again while its service is away. A crash between two steps is healed by the redelivery: the record that was
saved says that the task has ended, and what follows is sent by ids that are the same at each replay.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from machinery._states import State, TaskState
from machinery._successors import after_failure, after_success
from machinery._worker._patience import GivenUp, Patience
from machinery._worker._run import Outcome, Run
from machinery.errors import MachineryError, PublishError, ResultTooLarge, Unavailable

if TYPE_CHECKING:
    from machinery._sending import Sender
    from machinery._signatures import Signature
    from machinery._worker._origin import Origin
    from machinery._worker._hooks import Hooks
    from machinery.abc import Backend, Delivery


@dataclass(slots=True, eq=False)
class Following:
    """One signature to send because a run ended."""

    run: Run
    signature: Signature
    is_retry: bool = False


class Settler:
    """Settles runs. `settle` has one caller at a time; `finished` is for any thread."""

    def __init__(self, sender: Sender, backend: Backend, hooks: Hooks, patience: Patience) -> None:
        self._sender = sender
        self._backend = backend
        self._hooks = hooks
        self._patience = patience
        self._stores = backend.capabilities.stores
        self._ended: deque[Run] = deque()
        self._wake = threading.Event()
        self._stopped = False
        self.writing = threading.Lock()
        """Held while records are written, so that a late STARTED never follows a RETRY."""
        self.settling = 0
        """How many runs are being settled at this moment."""

    # -- the thread ---------------------------------------------------------------------------------------------------------

    def finished(self, run: Run) -> None:
        """``run`` has its outcome."""
        self._ended.append(run)
        if not self._wake.is_set():
            self._wake.set()

    @property
    def backlog(self) -> int:
        """How many runs have ended and are not settled."""
        return len(self._ended) + self.settling

    def stop(self) -> None:
        """End the thread once all that has ended is settled."""
        self._stopped = True
        self._wake.set()

    def run(self) -> None:
        """Settle what ends, all of it at once, until stopped."""
        while True:
            self._wake.wait()
            self._wake.clear()
            batch = self._take()
            if batch:
                self._settle_safely(batch)
                self.settling = 0
                for fetcher in {run.fetcher for run in batch}:
                    fetcher.room.set()
            elif self._stopped:
                return

    def _take(self) -> list[Run]:
        ended = self._ended
        batch: list[Run] = []
        while ended:
            batch.append(ended.popleft())
            self.settling = len(batch)
        return batch

    def _settle_safely(self, batch: list[Run]) -> None:
        try:
            self.settle(batch)
        except GivenUp:
            self._hooks.logger.warning("left %d ended tasks unsettled; they will be delivered again", len(batch))
        except Exception:
            if len(batch) > 1:  # one of them must not hold up the others
                for run in batch:
                    self._settle_safely([run])
                return
            run = batch[0]
            self._hooks.logger.exception("task %s %s could not be settled", run.signature.name, run.signature.uuid)
            run.fetcher.postpone_quietly(run)

    # -- one batch ----------------------------------------------------------------------------------------------------------

    def settle(self, runs: Sequence[Run]) -> None:
        """End these runs. Raises `GivenUp` when told to leave while a service is away."""
        ours = [run for run in runs if not run.abandoned]
        returned = [run for run in ours if run.outcome is Outcome.RETURNED]
        ending = [run for run in ours if run.outcome is not Outcome.RETURNED] if returned else ours
        replayed = self._save(ending)
        following = [follower for run in ending for follower in _following(run)]
        if following:
            self._send(self._missing(following, replayed) if replayed else following)
        self._settle_messages(ending, returned)
        for run in ending:
            if run.outcome is Outcome.FAILED:
                self._hooks.report_failure(run)
            if run.outcome is not Outcome.REPLAYED:
                self._hooks.report_end(run)

    def _save(self, runs: Sequence[Run]) -> set[Run]:
        """Write the records. Returns the runs that had ended before: by the record found, or written by somebody meanwhile."""
        replayed = {run for run in runs if run.outcome is Outcome.REPLAYED}
        writing = [run for run in runs if run.outcome is not Outcome.REPLAYED] if replayed else list(runs)
        if not writing:
            return replayed
        records = [_record(run) for run in writing]
        with self.writing:
            stored = self._write(writing, records)
        for run, mine, now in zip(writing, records, stored, strict=True):
            if now.state is not mine.state or (now.results != mine.results and now.is_success):
                run.replay(now)
                replayed.add(run)
        return replayed

    def _write(self, runs: Sequence[Run], records: list[TaskState]) -> list[TaskState]:
        try:
            return self._patience.call(lambda: self._backend.save(records), "cannot store results")
        except ResultTooLarge as error:
            # The others are stored. These fail, with the reason as their result, and go to the dead letters.
            refused = set(error.ids)
            for position, run in enumerate(runs):
                if records[position].task_uuid in refused:
                    run.fail(error, f"the result is too large to store: {error}", dead="result too large to store")
                    records[position] = _record(run)
            return self._patience.call(lambda: self._backend.save(records), "cannot store results")

    def _missing(self, following: list[Following], replayed: set[Run]) -> list[Following]:
        """Of what replayed runs set off, only that which is absent or still PENDING; of the others, all."""
        doubtful = [follower for follower in following if follower.run in replayed]
        if not doubtful or not self._stores:
            return following
        ids = [follower.signature.uuid for follower in doubtful]
        found = self._patience.call(lambda: self._backend.load(ids), "cannot read records")
        sent = {
            follower
            for follower, state in zip(doubtful, found, strict=True)
            if state is not None and state.state is not State.PENDING
        }
        return [follower for follower in following if follower not in sent]

    def _send(self, following: Sequence[Following]) -> None:
        complete = self._sender.complete
        for follower in following:
            follower.signature = complete(follower.signature, follower.run.fetcher.default_queue)
        retries = [follower for follower in following if follower.is_retry]
        successors = [follower for follower in following if not follower.is_retry]
        if retries:
            self._publish(retries, self._sender.publish)
        if successors:
            self._publish(successors, self._sender.submit)

    def _publish(self, following: list[Following], send: Callable[[Sequence[Signature]], None]) -> None:
        """Send all; again those that were refused for now; what is refused for good becomes a dead letter's reason."""
        while following:
            waiting = list(following)
            try:
                self._patience.call(lambda: send([follower.signature for follower in waiting]), "cannot send what follows")
            except PublishError as error:
                following = [waiting[position] for position, why in error.failures.items() if isinstance(why, Unavailable)]
                if not error.failures:
                    self._refuse(waiting, error)
                    return
                refused = [waiting[position] for position, why in error.failures.items() if not isinstance(why, Unavailable)]
                self._refuse(refused, error)
                if following:
                    time.sleep(0.05)
                continue
            except MachineryError as error:
                self._refuse(waiting, error)
            return

    def _refuse(self, refused: Sequence[Following], error: MachineryError) -> None:
        """The service will never take these: their records say so, and the parent's message is kept as a dead letter."""
        for follower in refused:
            signature = follower.signature
            follower.run.dead = f"{signature.name} {signature.uuid} could not be sent after it: {error}"
            self._hooks.logger.error("%s %s: %s", follower.run.signature.name, follower.run.signature.uuid, follower.run.dead)
            record = TaskState(signature.uuid, signature.name, State.FAILURE, None, f"could not be sent: {error}")
            self._patience.call(lambda record=record: self._backend.save([record]), "cannot store results")  # type: ignore[misc]

    def _settle_messages(self, ending: Sequence[Run], returned: Sequence[Run]) -> None:
        by_fetcher: dict[Origin, list[Delivery]] = defaultdict(list)
        for run in ending:
            if run.dead:
                self._reject(run)
            else:
                by_fetcher[run.fetcher].append(run.delivery)
            if run.adopted:
                for fetcher, delivery in run.adopted:
                    by_fetcher[fetcher].append(delivery)
        for fetcher, deliveries in by_fetcher.items():
            lost = self._patience.call(lambda f=fetcher, d=deliveries: f.consumer.ack(d), "cannot acknowledge")  # type: ignore[misc]
            if lost:
                self._hooks.logger.info("%d deliveries were no longer ours when they were acknowledged", len(lost))
        for run in ending:
            run.fetcher.forget(run)
        for run in returned:
            run.fetcher.hand_back([run])

    def _reject(self, run: Run) -> None:
        if run.fetcher.keeps_dead_letters:
            reject = run.fetcher.consumer.reject
            self._patience.call(lambda: reject([run.delivery], run.dead), "cannot reject")
        else:
            self._patience.call(lambda: run.fetcher.consumer.ack([run.delivery]), "cannot acknowledge")


def _record(run: Run) -> TaskState:
    """What is to be stored of a run that has ended."""
    signature = run.signature
    if run.outcome is Outcome.SUCCEEDED:
        return TaskState(signature.uuid, signature.name, State.SUCCESS, run.results, crashes=run.crashes)
    if run.outcome is Outcome.RETRIED:
        return TaskState(signature.uuid, signature.name, State.RETRY)
    return TaskState(signature.uuid, signature.name, State.FAILURE, None, run.error, crashes=run.crashes)


def _following(run: Run) -> list[Following]:
    """What the end of ``run`` sets off, by what is stored."""
    signature = run.signature
    if run.outcome is Outcome.RETRIED:
        assert run.again is not None  # noqa: S101 - set with the outcome
        return [Following(run, run.again, is_retry=True)]
    if run.outcome is Outcome.SUCCEEDED:
        return [Following(run, each) for each in after_success(signature, run.results)] if signature.on_success else []
    if run.outcome is Outcome.FAILED:
        return [Following(run, each) for each in after_failure(signature, run.error)] if signature.on_error else []
    found = run.found
    assert found is not None  # noqa: S101 - set with the outcome
    if found.is_success:
        return [Following(run, each) for each in after_success(signature, found.results or ())]
    return [Following(run, each) for each in after_failure(signature, found.error)]
