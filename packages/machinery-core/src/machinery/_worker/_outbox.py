"""What the ends of runs set off, on its way: sent until each piece is accepted, or refused for good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from machinery._states import State
from machinery.errors import PublishError, Unavailable

if TYPE_CHECKING:
    from machinery._signatures import Signature
    from machinery._worker._run import Run
    from machinery.abc import Backend


@dataclass(slots=True, eq=False)
class Following:
    """One signature to send because a run ended."""

    run: Run
    signature: Signature
    is_retry: bool = False
    is_stored: bool = False
    """Its PENDING record is there already. It stays: the task may begin at this moment, and must not be taken back."""


class Outbox:
    """One batch. `attempt` is called again while it raises the `Unavailable` family."""

    def __init__(
        self, following: Sequence[Following], send: Callable[[Sequence[Signature]], None], backend: Backend
    ) -> None:
        self.waiting = list(following)
        """Neither accepted nor refused for good."""
        self.refused: list[tuple[Following, Exception]] = []
        """Refused for good, with the reason."""
        self._send = send
        self._backend = backend
        self._is_unsure = False

    def attempt(self) -> None:
        """Send what is waiting. Raises `MachineryError`; what was neither accepted nor refused for good is still waiting."""
        if self._is_unsure:
            # The attempt that failed may have been carried out: what has begun since must not begin again.
            self.waiting = unsent(self.waiting, self._backend)
        self._is_unsure = True
        if not self.waiting:
            return
        try:
            self._send([follower.signature for follower in self.waiting])
        except PublishError as error:
            if not error.failures:
                raise
            self._note(error)

    def _note(self, error: PublishError) -> None:
        """Keep what was refused for now. Raises its reason."""
        failures = [(self.waiting[position], reason) for position, reason in error.failures.items()]
        self.refused += [failure for failure in failures if not isinstance(failure[1], Unavailable)]
        self.waiting = [follower for follower, reason in failures if isinstance(reason, Unavailable)]
        for _, reason in failures:
            if isinstance(reason, Unavailable):
                raise reason from error


_HAS_NOT_BEGUN = (State.PENDING, State.RECEIVED)
"""RECEIVED too: who has it may have it from a service that went down before it kept it, and drops it unstarted then."""


def unsent(following: list[Following], backend: Backend) -> list[Following]:
    """Of these, what is absent or has not begun, and every retry: its record is that of the run before it."""
    if not backend.capabilities.stores:
        return following
    found = backend.load([follower.signature.uuid for follower in following])
    return [
        follower
        for follower, state in zip(following, found, strict=True)
        if follower.is_retry or state is None or state.state in _HAS_NOT_BEGUN
    ]
