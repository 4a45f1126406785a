"""Looks after chords that stopped making progress, so that none waits for ever.

No counter can be trusted alone: it knows nothing of members that Go's workers finished, it can be evicted, and who claimed a
chord for a group that needs no message to be settled may have died. The members' records are the truth, and any worker can read
them: with growing intervals, the longer nothing happens in a group.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from machinery._states import State, TaskState
from machinery._successors import after_failure
from machinery._worker._patience import GivenUp
from machinery.errors import GroupNotFound, MachineryError, PublishError, Unavailable

if TYPE_CHECKING:
    from machinery._sending import Sender
    from machinery._signatures import Signature
    from machinery._worker._hooks import Hooks
    from machinery._worker._joiner import Conclusion, Joiner
    from machinery._worker._verdicts import Verdict
    from machinery.abc import Backend, Lock, StoredGroup

IDLE = 2.0
"""Seconds without a finished member after which a chord is looked at; and between two looks for such chords."""
GROWTH = 2.0
LONGEST = 300.0
"""Seconds between two looks at the same chord at most."""
LISTED = 10_000
"""Chords listed at once."""
OVERDUE = 600.0
"""Seconds after which a chord that was claimed, and whose callback has no record, was claimed by somebody who then died."""
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
        listed = self._backend.open_groups(idle_since, LISTED)
        now = time.monotonic()
        self._patients = {uuid: self._patients.get(uuid) or _Patient(now) for uuid in listed}
        due = [uuid for uuid, patient in self._patients.items() if patient.due <= now]
        for group_uuid in self._promising(due):
            if self._stopped.is_set():
                break
            self._look_after(group_uuid)
        for group_uuid in due:
            patient = self._patients.get(group_uuid)
            if patient is not None:
                patient.due = now + patient.pause
                patient.pause = min(LONGEST, GROWTH * patient.pause)
        return len(listed)

    def _promising(self, due: Sequence[str]) -> list[str]:
        """Leave out the groups whose member that had not ended at the last look has not ended yet: one read for all of them."""
        witnesses = {uuid: witness for uuid in due if (witness := self._joiner.verdicts.witness(uuid))}
        states = self._backend.load(list(witnesses.values()))
        running = {
            group_uuid
            for group_uuid, state in zip(witnesses, states, strict=True)
            if state is not None and not state.is_completed
        }
        return [uuid for uuid in due if uuid not in running]

    def _look_after(self, group_uuid: str) -> None:
        try:
            verdict = self._joiner.verdicts.look(group_uuid, likely=False)
            if verdict is None:
                return
            token = self._lock.try_acquire(f"machinery:chord:{group_uuid}", datetime.now(UTC) + HELD)
            if token is None:
                return
            try:
                self._end(group_uuid, self._joiner.verdicts.group(group_uuid), verdict, token.until)
            finally:
                self._lock.release(token)
        except GroupNotFound:
            self._backend.close_group(group_uuid)
            self._patients.pop(group_uuid, None)

    def _end(self, group_uuid: str, group: StoredGroup, verdict: Verdict, until: datetime) -> None:
        callback = group.callback
        if callback is None:
            return
        (record,) = self._backend.load([callback.uuid])
        # Claimed for the group and not for a member, so that the next one who looks after it claims it again.
        if not self._joiner.claim(group_uuid, group_uuid) and not self._is_abandoned(group_uuid, record):
            if record is not None:  # who claimed it has sent it
                self._joiner.close([group_uuid])
            return
        conclusion = self._joiner.conclude(group_uuid, callback, verdict)
        if datetime.now(UTC) > until - MARGIN:  # a service was away for long: another worker may be at it
            return
        self._hooks.logger.info("the chord of group %s is ended by looking at its members", group_uuid)
        self._send(conclusion)
        self._joiner.close([group_uuid])
        self._patients.pop(group_uuid, None)

    def _is_abandoned(self, group_uuid: str, record: TaskState | None) -> bool:
        """Whether the one who claimed the chord died before the callback was sent, and nobody will do it in its stead."""
        patient = self._patients.get(group_uuid)
        if record is not None or patient is None:
            return False
        if patient.claimed_since is None:
            patient.claimed_since = time.monotonic()
        return time.monotonic() - patient.claimed_since > OVERDUE

    def _send(self, conclusion: Conclusion) -> None:
        """Send what was not sent before. What the service refuses for good has failed, and sets off what that sets off."""
        following = list(conclusion.following)
        while following:
            found = self._backend.load([signature.uuid for signature in following])
            following = [
                self._sender.complete(signature)
                for signature, state in zip(following, found, strict=True)
                if state is None or state.state is State.PENDING
            ]
            if following:
                following = self._refused(following)

    def _refused(self, following: Sequence[Signature]) -> list[Signature]:
        """Send these. Returns what is to be sent because some were refused for good."""
        further: list[Signature] = []
        for signature in following:
            try:
                self._sender.submit([signature])
            except MachineryError as error:
                reasons = error.failures.values() if isinstance(error, PublishError) else ()
                if isinstance(error, Unavailable) or any(isinstance(reason, Unavailable) for reason in reasons):
                    raise
                text = f"could not be sent: {error}"
                self._hooks.logger.error("%s %s %s", signature.name, signature.uuid, text)  # noqa: TRY400 - the text says it
                record = TaskState(signature.uuid, signature.name, State.FAILURE, None, text)
                self._backend.save([record])
                further += after_failure(signature, text)
        return further
