"""Ends runs: save the record, send what follows, join the group, settle the message — in this order, a batch at a time.

Each step is tried again while its service is away. A crash between two steps is healed by the redelivery: the record that was
saved says that the task has ended, and what follows is sent by ids that are the same at each replay.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from machinery._signatures import new_task_uuid
from machinery._states import State, TaskState
from machinery._successors import after_failure, after_success
from machinery._worker._outbox import Following, Outbox
from machinery._worker._patience import GivenUp, Patience
from machinery._worker._run import Outcome, Run, may_be_second
from machinery.errors import Closed, MachineryError, ResultTooLarge, Unavailable

if TYPE_CHECKING:
    from machinery._sending import Sender
    from machinery._signatures import Signature
    from machinery._worker._hooks import Hooks
    from machinery._worker._joiner import Joiner
    from machinery._worker._origin import Origin
    from machinery.abc import Backend, Delivery


class Settler:
    """Settles runs. `settle` has one caller at a time; `finished` is for any thread."""

    def __init__(self, sender: Sender, backend: Backend, hooks: Hooks, patience: Patience, joiner: Joiner) -> None:
        self._sender = sender
        self._backend = backend
        self._joiner = joiner
        self._hooks = hooks
        self._patience = patience
        self._stores = backend.capabilities.stores
        self._ended: deque[Run] = deque()
        self._wake = threading.Event()
        self._stopped = False
        self.writing = threading.Lock()
        """Held while records are written, so that a late STARTED never follows a RETRY."""
        self.taking = threading.Lock()
        """Held while runs are taken for settling, or from it: one is either settled or handed back, never both."""
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
            while batch := self._take():
                self._settle_safely(batch)
                self.settling = 0
                for fetcher in {run.fetcher for run in batch}:
                    fetcher.room.set()
            if self._stopped:
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
        except BaseException as error:  # a SystemExit of an application's handler must not end this thread either
            if len(batch) > 1:  # one of them must not hold up the others
                for run in batch:
                    self._settle_safely([run])
                return
            run = batch[0]
            self._hooks.logger.exception("task %s %s could not be settled", run.signature.name, run.signature.uuid)
            if not self._bury(run, error):
                run.fetcher.postpone_quietly(run)

    def _bury(self, run: Run, error: BaseException) -> bool:
        """To the dead letters, when a service refuses this very task for good and no other. Whether it is there now."""
        if not isinstance(error, MachineryError) or isinstance(error, (Closed, Unavailable)):
            return False
        if not run.fetcher.keeps_dead_letters:
            return False
        probe = new_task_uuid()
        try:
            self._backend.save([TaskState(probe)])
            self._backend.forget([probe])
        except Exception:  # noqa: BLE001 - then everybody is concerned, and it is tried again later
            return False
        run.dead = f"it could not be settled: {error}"
        try:
            self._settle_messages([run], [])
        except Exception:  # also a plug-in's defect: it must not end this thread
            self._hooks.logger.exception("nor could it be made a dead letter")
            return False
        return True

    # -- one batch ----------------------------------------------------------------------------------------------------------

    def settle(self, runs: Sequence[Run]) -> None:
        """End these runs. Raises `GivenUp` when told to leave while a service is away."""
        with self.taking:
            ours = [run for run in runs if not run.abandoned and not run.settled]
        returned = [run for run in ours if run.outcome is Outcome.RETURNED]
        ending = [run for run in ours if run.outcome is not Outcome.RETURNED] if returned else ours
        replayed = self._save(ending)
        following = [follower for run in ending if not run.followed for follower in _following(run)]
        if following:
            self._send(self._missing(following, replayed))
            for run in ending:
                run.followed = True
        members = {run for run in ending if self._is_member(run)}
        # Joining takes a while, and what is not acknowledged runs again when this worker dies: only members wait for it.
        self._end([run for run in ending if run not in members] if members else ending, returned)
        if members:
            joining = [run for run in ending if run in members]
            self._join(joining, replayed)
            self._end(joining, [])

    def _is_member(self, run: Run) -> bool:
        return bool(run.signature.group_uuid) and self._stores and run.outcome is not Outcome.RETRIED

    def _end(self, ending: Sequence[Run], returned: Sequence[Run]) -> None:
        self._settle_messages(ending, returned)
        for run in ending:
            run.settled = True
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
            if not now.was_final:
                continue
            replayed.add(run)  # even if it says the same: another copy of the message has ended, and sent what follows
            if now.state is not mine.state or (now.results != mine.results and now.is_success):
                run.replay(now)
        return replayed

    def _write(self, runs: Sequence[Run], records: list[TaskState]) -> list[TaskState]:
        try:
            return self._patience.call(partial(self._backend.save, records), "cannot store results")
        except ResultTooLarge as error:
            # The others are stored. These fail, with the reason as their result, and go to the dead letters.
            refused = set(error.ids)
            for position, run in enumerate(runs):
                if records[position].task_uuid in refused:
                    run.fail(error, f"the result is too large to store: {error}", dead="result too large to store")
                    records[position] = _record(run)
            return self._patience.call(partial(self._backend.save, records), "cannot store results")

    def _join(self, members: Sequence[Run], replayed: set[Run]) -> None:
        """Count members of groups, and send what the end of a group sets off."""
        members = [run for run in members if not run.joined]
        if not members:
            return
        joined = self._joiner.join(members, replayed)
        following = [Following(run, each) for run, conclusion in joined for each in conclusion.following]
        if following:
            # A dead member that was requeued may join once more, and what a chord's end set off has been sent then.
            self._send(self._missing(following, set(members)))
        for run in members:
            run.joined = True
        self._joiner.close([conclusion.group_uuid for _, conclusion in joined])

    def _missing(self, following: list[Following], replayed: set[Run]) -> list[Following]:
        """What is to be sent: of runs that somebody else may have ended too, only what is absent or still PENDING."""
        doubtful = [
            follower
            for follower in following
            if not follower.is_retry and (follower.run in replayed or may_be_second(follower.run))
        ]
        if doubtful and self._stores:
            ids = [follower.signature.uuid for follower in doubtful]
            found = self._patience.call(partial(self._backend.load, ids), "cannot read records")
            sent: set[Following] = set()
            for follower, state in zip(doubtful, found, strict=True):
                follower.is_stored = state is not None
                if state is not None and (state.state is not State.PENDING or _is_left_to_another(follower.run)):
                    sent.add(follower)
            following = [follower for follower in following if follower not in sent]
            # Two copies of a message may end in one batch.
            once = {follower.signature.uuid: follower for follower in reversed(following) if not follower.is_retry}
            following = [each for each in following if each.is_retry or once[each.signature.uuid] is each]
        for follower in following:
            follower.run.sending = True
        return following

    def _send(self, following: list[Following]) -> None:
        """Send all. What the service refuses for good has failed, and sets off what its failure is to set off."""
        while following:
            for follower in following:
                origin = follower.run.fetcher
                # A retry stays on the queue it came from, whatever its body says (protocol §1.5).
                queue = follower.run.delivery.queue if follower.is_retry else origin.default_queue
                follower.signature = self._sender.complete(follower.signature, queue)
            retries = [follower for follower in following if follower.is_retry]
            stored = [follower for follower in following if follower.is_stored and not follower.is_retry]
            successors = [follower for follower in following if not follower.is_stored and not follower.is_retry]
            refused: list[tuple[Following, Exception]] = []
            if retries:
                refused += self._publish(retries, self._sender.publish)
                for follower in retries:
                    follower.run.followed = True
            if stored:
                refused += self._publish(stored, self._sender.publish)
            if successors:
                refused += self._publish(successors, self._sender.submit)
            following = [further for follower, error in refused for further in self._refuse(follower, error)]

    def _publish(
        self, following: Sequence[Following], send: Callable[[Sequence[Signature]], None]
    ) -> list[tuple[Following, Exception]]:
        """Send all, again those that were refused for now. Returns those that were refused for good, with the reason."""
        outbox = Outbox(following, send, self._backend)
        try:
            self._patience.call(outbox.attempt, "cannot send what follows")
        except Closed:
            raise
        except MachineryError as error:
            if len(outbox.waiting) == 1:
                return [*outbox.refused, (outbox.waiting[0], error)]
            for follower in outbox.waiting:  # one of them must not be the end of the others
                outbox.refused += self._publish([follower], send)
        return outbox.refused

    def _refuse(self, follower: Following, error: Exception) -> list[Following]:
        """Its record says that it has failed, and the message that set it off is kept as a dead letter."""
        run, signature = follower.run, follower.signature
        reason = f"{signature.name} {signature.uuid} could not be sent {'again' if follower.is_retry else 'after it'}: {error}"
        text = f"could not be sent: {error}"
        self._hooks.logger.error("%s %s: %s", run.signature.name, run.signature.uuid, reason)
        record = TaskState(signature.uuid, signature.name, State.FAILURE, None, text)
        self._patience.call(partial(self._backend.save, [record]), "cannot store results")
        if follower.is_retry:
            run.fail(run.exception, text)
        run.dead = reason
        return [Following(run, each) for each in after_failure(signature, text)]

    def _settle_messages(self, ending: Sequence[Run], returned: Sequence[Run]) -> None:
        done: dict[Origin, list[Delivery]] = defaultdict(list)
        dead: list[Run] = []
        for run in ending:
            if run.dead:
                dead.append(run)
            else:
                done[run.fetcher].append(run.delivery)
        for origin, deliveries in done.items():
            self._acknowledge(origin, deliveries)
        buried = {run for run in dead if self._reject(run, [run.delivery])}
        for run in ending:
            run.fetcher.forget(run)
        # Only now nothing more is adopted: a delivery that came while the service was away is not forgotten.
        for run in ending:
            if run.adopted:
                if run.dead and run not in buried:
                    self._reject(run, run.adopted)
                else:
                    self._acknowledge(run.fetcher, run.adopted)
        if returned:
            _give_back(returned)

    def _acknowledge(self, origin: Origin, deliveries: Sequence[Delivery]) -> None:
        lost = self._patience.call(partial(origin.consumer.ack, deliveries), "cannot acknowledge")
        if lost:
            self._hooks.logger.info("%d deliveries were no longer ours when they were acknowledged", len(lost))

    def _reject(self, run: Run, deliveries: Sequence[Delivery]) -> bool:
        """To the dead letters. Whether there is one now: not when every delivery was no longer ours."""
        origin = run.fetcher
        if not origin.keeps_dead_letters:
            self._acknowledge(origin, deliveries)
            return True
        lost = self._patience.call(partial(origin.consumer.reject, deliveries, run.dead), "cannot reject")
        return len(lost) < len(deliveries)


def _is_left_to_another(run: Run) -> bool:
    """Whether what is PENDING after ``run``, which had ended before, was stored by another copy of its message.

    That copy is not acknowledged before all is sent. What this very message may have stored, and not sent, is ours.
    """
    return not run.sending and not may_be_second(run)


def _give_back(returned: Sequence[Run]) -> None:
    for run in returned:
        if run.later:
            run.fetcher.postpone_quietly(run)
    for origin in {run.fetcher for run in returned}:
        origin.hand_back([run for run in returned if run.fetcher is origin and not run.later])


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
