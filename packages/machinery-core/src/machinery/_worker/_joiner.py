"""Joins groups: counts the members that have ended, and sets off what follows the last one, or the first failure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from machinery._states import State, TaskState
from machinery._successors import after_failure, after_group, callback_of
from machinery._worker._run import Outcome, Run, may_be_second
from machinery._worker._verdicts import Verdict, Verdicts, failed
from machinery.errors import DecodeError, GroupNotFound

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from machinery._signatures import Signature
    from machinery._worker._hooks import Hooks
    from machinery._worker._patience import Patience
    from machinery.abc import Backend


@dataclass(frozen=True, slots=True)
class Conclusion:
    """A group has ended, or its chord has failed: send this, then close it."""

    group_uuid: str = ""
    """What to close; empty while members of a chord that has failed still run: to them the group must stay what it is."""
    following: tuple[Signature, ...] = ()
    """The callback, or what its failure sets off; nothing after a group without callback."""


class Joiner:
    """The joins of one worker. `join` has one caller at a time; the rest is safe from any thread."""

    def __init__(self, backend: Backend, hooks: Hooks, patience: Patience, is_fleet_mixed: Callable[[], bool]) -> None:
        self._backend = backend
        self._hooks = hooks
        self._patience = patience
        self._is_fleet_mixed = is_fleet_mixed
        self.verdicts = Verdicts(backend, patience)

    def join(self, runs: Sequence[Run], replayed: AbstractSet[Run]) -> list[tuple[Run, Conclusion]]:
        """Count members whose records are final. Returns the groups that end with them, each with the run that claimed it.

        Idempotent until the runs are acknowledged: a run that claimed a chord claims it again at its replay.
        """
        pairs = [(run.signature.group_uuid, run.signature.uuid) for run in runs]
        counts = self._patience.call(partial(self._backend.finish_members, pairs), "cannot join groups")
        groups: dict[str, list[Run]] = {}
        most: dict[str, int] = {}
        for run, count in zip(runs, counts, strict=True):
            group_uuid = run.signature.group_uuid
            groups.setdefault(group_uuid, []).append(run)
            most[group_uuid] = max(count, most.get(group_uuid, 0))
        joined: list[tuple[Run, Conclusion]] = []
        for group_uuid, members in groups.items():
            is_full = most[group_uuid] >= members[0].signature.group_task_count
            callback = callback_of(members[0].signature)
            if callback is None:
                ended = (members[0], Conclusion(group_uuid)) if is_full else None
            else:
                is_known = most[group_uuid] > 0
                ended = self._join_chord(members, callback, replayed, is_full=is_full, is_known=is_known)
            if ended is not None:
                joined.append(ended)
        return joined

    def _join_chord(
        self, members: Sequence[Run], callback: Signature, replayed: AbstractSet[Run], *, is_full: bool, is_known: bool
    ) -> tuple[Run, Conclusion] | None:
        group_uuid = members[0].signature.group_uuid
        try:
            verdict = _failed_among(members)
            if verdict is None and is_full:
                verdict = self.verdicts.look(group_uuid, likely=True)
            # No count, or none that can be trusted: Go made the group, its workers run members too, or who counted has died.
            elif verdict is None and (not is_known or self._is_fleet_mixed() or not replayed.isdisjoint(members)):
                verdict = self.verdicts.look(group_uuid, likely=False)
            if verdict is None or _is_partial(verdict, members[0].signature.group_task_count):
                return None
            for run in _claimants(members):
                if self.claim(group_uuid, run.signature.uuid):
                    return run, self.conclude(group_uuid, callback, verdict, all_ended=is_full)
        except GroupNotFound as error:
            return self._lost(members, callback, replayed, error)
        self.verdicts.forget(group_uuid)
        return None

    def claim(self, group_uuid: str, claimant: str) -> bool:
        """Whether ``claimant`` is the one to end the chord. Raises `GroupNotFound`."""
        try:
            return self._patience.call(partial(self._backend.claim_chord, group_uuid, claimant), "cannot claim a chord")
        except DecodeError as error:
            raise GroupNotFound(f"the group {group_uuid} cannot be read: {error}") from error

    def conclude(self, group_uuid: str, callback: Signature, verdict: Verdict, *, all_ended: bool) -> Conclusion:
        """The end of a chord that was claimed. Where it has failed, the callback's record says so now.

        ``all_ended``: none of its members runs any more, which goes without saying when all have succeeded.
        """
        if not verdict.failure:
            return Conclusion(group_uuid, (after_group(callback, verdict.members),))
        if not self._fail(callback, verdict.culprit).is_failure:  # it ran long ago; what is gone since is no failure
            return Conclusion(group_uuid)
        following = tuple(after_failure(callback, verdict.failure))
        return Conclusion(group_uuid if all_ended else "", following)

    def close(self, group_uuids: Iterable[str]) -> None:
        """What follows is sent: the groups have ended. An empty id is none."""
        for group_uuid in filter(None, group_uuids):
            self.verdicts.forget(group_uuid)
            self._patience.call(partial(self._backend.close_group, group_uuid), "cannot close a group")

    def _fail(self, callback: Signature, why: str) -> TaskState:
        """The callback's record, which is final now."""
        record = TaskState(callback.uuid, callback.name, State.FAILURE, None, why)
        (stored,) = self._patience.call(partial(self._backend.save, [record]), "cannot store results")
        return stored

    def _lost(
        self, members: Sequence[Run], callback: Signature, replayed: AbstractSet[Run], error: GroupNotFound
    ) -> tuple[Run, Conclusion] | None:
        """The group's metadata is gone while members still end. Without it nobody can be chosen but by the callback's record."""
        group_uuid = members[0].signature.group_uuid
        for run in members:
            why = f"its group cannot be joined, as {run.signature.uuid} found: {error}"
            stored: TaskState | None = None
            if run in replayed:  # its chord may have ended long ago, and its records too
                (stored,) = self._patience.call(partial(self._backend.load, [callback.uuid]), "cannot read records")
            # What ran here just now may be replayed only by itself: its record was stored, and the answer was lost.
            if stored is None and run.outcome is not Outcome.REPLAYED:
                stored = self._fail(callback, why)
            if stored is not None and stored.error == why:
                self._hooks.logger.error("the chord of %s has failed: %s", callback.uuid, error)
                return run, Conclusion(group_uuid, tuple(after_failure(callback, str(error))))
        return None


def _is_partial(verdict: Verdict, size: int) -> bool:
    """Whether the store knows only some of a group's members: of one that Go has made in RabbitMQ, those that have ended."""
    return not verdict.failure and len(verdict.members) < size


def _failed_among(members: Sequence[Run]) -> Verdict | None:
    for run in members:
        if run.outcome is Outcome.FAILED:
            return failed(run.signature.uuid, run.signature.name, run.error)
        if run.found is not None and run.found.is_failure:
            return failed(run.signature.uuid, run.signature.name, run.found.error)
    return None


def _claimants(members: Sequence[Run]) -> list[Run]:
    """Who may have claimed the chord before, and one besides."""
    earlier = [run for run in members if run.found is not None or may_be_second(run)]
    return earlier if len(earlier) == len(members) else [*earlier, next(run for run in members if run not in earlier)]
