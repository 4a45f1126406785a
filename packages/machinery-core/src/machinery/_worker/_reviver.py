"""Looks after chords that stopped making progress, so that none waits for ever.

No counter can be trusted alone: it knows nothing of members that Go's workers finished, it can be evicted, and who claimed a
chord for a group that needs no message to be settled may have died. The members' records are the truth, and any worker can read
them: with growing intervals, the longer nothing happens in a group.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from machinery._states import State, TaskState
from machinery._successors import after_failure
from machinery._worker._patience import GivenUp
from machinery.errors import Closed, GroupNotFound, MachineryError, PublishError, Unavailable

if TYPE_CHECKING:
    from machinery._sending import Sender
    from machinery._signatures import Signature
    from machinery._worker._hooks import Hooks
    from machinery._worker._joiner import Joiner
    from machinery._worker._verdicts import Verdict
    from machinery.abc import Backend, Lock, StoredGroup

IDLE = 2.0
"""Seconds without a finished member after which a chord is looked at; and between two looks for such chords."""
GROWTH = 2.0
LONGEST = 300.0
"""Seconds between two looks at the same chord at most."""
LISTED = 10_000
"""Chords listed at once; twice as many as there were, where that is more."""
OVERDUE = 600.0
"""Seconds after which who claimed a chord, and sent nothing, must have died; or who stored what follows, and did not send it."""
HELD = timedelta(seconds=60)
"""How long one worker may take for one chord, in which no other worker looks after it."""


MARGIN = timedelta(seconds=20)
"""How long before its end the turn is given up: longer than the calls that send take at most."""


@dataclass(slots=True)
class _Patient:
    """A chord that is looked after."""

    due: float
    pause: float = IDLE
    claimed_since: float | None = None
    """Monotonic seconds since when it is seen to be another's to end."""
    ended: int = 0
    """How many members, from the first on, are known to have ended; counted only once the chord has failed."""
    witness: str | None = None
    """The member of a chord that has failed which still ran at the last look."""
    unsent: set[str] = field(default_factory=set)
    """What we could not send, though it may be stored."""


class Reviver:
    """One thread of a worker. Ends chords on behalf of the group itself, one worker at a time by the lock."""

    def __init__(self, *, sender: Sender, backend: Backend, lock: Lock, joiner: Joiner, hooks: Hooks) -> None:
        self._sender = sender
        self._backend = backend
        self._lock = lock
        self._joiner = joiner
        self._hooks = hooks
        self._stopped = threading.Event()
        self._patients: dict[str, _Patient] = {}

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def run(self) -> None:
        """Look after chords until stopped."""
        if not self._backend.capabilities.lists_open_groups:
            return
        pause = IDLE
        while not self._stopped.wait(pause * random.uniform(0.5, 1.0)):  # noqa: S311 - workers must not all look at once
            try:
                pause = IDLE * (1 + self.look() / 1000)
            except GivenUp:
                return
            except MachineryError as error:
                self._hooks.logger.warning("cannot look after chords: %s", error)
                pause = 5 * IDLE
            except Exception:
                self._hooks.logger.exception("looking after chords failed")
                pause = 5 * IDLE

    def look(self) -> int:
        """Look after the chords that are due now. Returns how many idle ones there are."""
        idle_since = datetime.now(UTC) - timedelta(seconds=IDLE)
        # The longest idle come first: those behind them would never be seen.
        listed = self._backend.open_groups(idle_since, max(LISTED, 2 * len(self._patients)))
        now = time.monotonic()
        self._patients = {uuid: self._patients.get(uuid) or _Patient(now) for uuid in listed}
        due = [uuid for uuid, patient in self._patients.items() if patient.due <= now]
        for group_uuid in self._promising(due):
            if self._stopped.is_set():
                break
            self._look_after_safely(group_uuid)
        for group_uuid in due:
            patient = self._patients.get(group_uuid)
            if patient is not None:
                patient.due = now + patient.pause
                patient.pause = min(LONGEST, GROWTH * patient.pause)
        return len(listed)

    def _promising(self, due: Sequence[str]) -> list[str]:
        """Leave out the groups whose member that had not ended at the last look has not ended yet: one read for all of them."""
        witnesses = {
            group_uuid: witness
            for group_uuid in due
            if (witness := self._patients[group_uuid].witness or self._joiner.verdicts.witness(group_uuid))
        }
        if not witnesses:
            return list(due)
        states = self._joiner.verdicts.records(list(witnesses.values()))
        running = {
            group_uuid
            for group_uuid, state in zip(witnesses, states, strict=True)
            if state is not None and not state.is_completed
        }
        return [uuid for uuid in due if uuid not in running]

    def _look_after_safely(self, group_uuid: str) -> None:
        """One chord that cannot be looked after must not hold up the others."""
        try:
            self._look_after(group_uuid)
        except (Unavailable, Closed, GivenUp):
            raise
        except Exception:
            self._hooks.logger.exception("the chord of group %s cannot be looked after", group_uuid)

    def _look_after(self, group_uuid: str) -> None:
        try:
            verdict = self._joiner.verdicts.look(group_uuid, likely=False)
            if verdict is None:
                return
            token = self._lock.try_hold(f"chord:{group_uuid}", HELD)
            if token is None:
                return
            try:
                self._end(group_uuid, self._joiner.verdicts.group(group_uuid), verdict, token.until)
            finally:
                self._lock.release(token)
        except GroupNotFound as error:
            self._hooks.logger.warning("a chord that has not ended cannot be looked after any more: %s", error)
            self._backend.close_group(group_uuid)
            self._patients.pop(group_uuid, None)

    def _end(self, group_uuid: str, group: StoredGroup, verdict: Verdict, until: datetime) -> None:
        callback, patient = group.callback, self._patients[group_uuid]
        if callback is None:
            return
        (record,) = self._joiner.verdicts.records([callback.uuid])
        # Claimed for the group and not for a member, so that the next one who looks after it claims it again.
        if self._joiner.claim(group_uuid, group_uuid) or self._is_abandoned(patient, record):
            conclusion = self._joiner.conclude(group_uuid, callback, verdict, all_ended=False)
            if datetime.now(UTC) > until - MARGIN:  # a service was away for long: another worker may be at it
                return
            is_sent = self._send(conclusion.following, patient)
        else:
            is_sent = record is not None  # by whom it was claimed, or by the redelivery of that member's message
        if is_sent and (not verdict.failure or self._have_ended(group.meta.task_uuids, patient)):
            self._joiner.close([group_uuid])
            self._patients.pop(group_uuid)

    def _have_ended(self, members: Sequence[str], patient: _Patient) -> bool:
        """Whether the last member of a chord that has failed has ended, too: until then its group stays."""
        patient.ended = self._joiner.verdicts.first_running(members, patient.ended)
        patient.witness = members[patient.ended] if patient.ended < len(members) else None
        return patient.witness is None

    def _is_abandoned(self, patient: _Patient, record: TaskState | None) -> bool:
        """Whether the one who claimed the chord died before the callback was sent, and nobody will do it in its stead."""
        if record is not None:
            return False
        if patient.claimed_since is None:
            patient.claimed_since = time.monotonic()
        return time.monotonic() - patient.claimed_since > OVERDUE

    def _send(self, following: Sequence[Signature], patient: _Patient) -> bool:
        """Send what was not sent before. False: some of it was stored, and may be on its way or not; it is looked at again."""
        is_sure = True
        while following:
            found = self._joiner.verdicts.records([signature.uuid for signature in following])
            further: list[Signature] = []
            for signature, state in zip(following, found, strict=True):
                if state is None:
                    further += self._send_one(signature, self._sender.submit, patient)
                elif state.state is not State.PENDING:
                    continue
                elif signature.uuid in patient.unsent or _is_overdue(state):
                    # Its record stays: what it tells of may begin at this moment, and must not be taken back.
                    further += self._send_one(signature, self._sender.publish, patient)
                else:
                    is_sure = False
            following = further
        return is_sure

    def _send_one(
        self, signature: Signature, send: Callable[[Sequence[Signature]], None], patient: _Patient
    ) -> list[Signature]:
        """Send it. Returns what is to be sent because it was refused for good. Raises the `Unavailable` family."""
        self._hooks.logger.info("%s %s is sent by looking at its chord's members", signature.name, signature.uuid)
        patient.unsent.add(signature.uuid)
        try:
            send([self._sender.complete(signature)])
        except MachineryError as error:
            reasons = error.failures.values() if isinstance(error, PublishError) else (error,)
            for reason in reasons:
                if isinstance(reason, (Unavailable, Closed)):
                    raise reason from error
            text = f"could not be sent: {error}"
            self._hooks.logger.error("%s %s %s", signature.name, signature.uuid, text)  # noqa: TRY400 - the text says it
            self._backend.save([TaskState(signature.uuid, signature.name, State.FAILURE, None, text)])
            return after_failure(signature, text)
        patient.unsent.discard(signature.uuid)
        return []


def _is_overdue(state: TaskState) -> bool:
    """Whether who stored this PENDING record must have died before the message was sent."""
    return datetime.now(UTC) - state.created_at > timedelta(seconds=OVERDUE)
