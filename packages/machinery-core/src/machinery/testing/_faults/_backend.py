"""A result backend whose calls go wrong as planned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from machinery.abc import Backend
from machinery.errors import BackendUnavailable, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from machinery._config import Config
    from machinery.abc import BackendCapabilities, Finding, GroupMeta, Signature, StoredGroup, TaskState
    from machinery.testing._faults._plan import FaultPlan

T = TypeVar("T")


class FaultyBackend(Backend):
    """Passes every call on to ``inner``, unless ``plan`` says otherwise."""

    def __init__(self, inner: Backend, plan: FaultPlan) -> None:
        self.inner = inner
        self._plan = plan

    @classmethod
    def from_url(cls, url: str, config: Config) -> Any:  # noqa: ARG003
        """Raises `Unsupported`: a wrapper has no URL."""
        raise Unsupported("FaultyBackend is made around another backend: FaultyBackend(inner, plan)")

    @property
    def capabilities(self) -> BackendCapabilities:
        """Those of the backend inside."""
        return self.inner.capabilities

    def submit(self, states: Sequence[TaskState]) -> None:
        """May fail as planned."""
        self._call("submit", lambda: self.inner.submit(states))

    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        """May fail as planned."""
        return self._call("save", lambda: self.inner.save(states))

    def load(self, ids: Sequence[str]) -> list[TaskState | None]:
        """May fail as planned."""
        return self._call("load", lambda: self.inner.load(ids))

    def wait(self, ids: Sequence[str], timeout: float, interval: float = 0.5) -> list[TaskState | None]:
        """May fail as planned."""
        return self._call("wait", lambda: self.inner.wait(ids, timeout, interval))

    def forget(self, ids: Sequence[str]) -> None:
        """May fail as planned."""
        self._call("forget", lambda: self.inner.forget(ids))

    def create_group(self, group: GroupMeta, callback: Signature | None = None) -> None:
        """May fail as planned."""
        self._call("create_group", lambda: self.inner.create_group(group, callback))

    def load_group(self, group_uuid: str) -> StoredGroup:
        """May fail as planned."""
        return self._call("load_group", lambda: self.inner.load_group(group_uuid))

    def finish_members(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """May fail as planned."""
        return self._call("finish_members", lambda: self.inner.finish_members(pairs))

    def claim_chord(self, group_uuid: str, claimant: str) -> bool:
        """May fail as planned."""
        return self._call("claim_chord", lambda: self.inner.claim_chord(group_uuid, claimant))

    def open_groups(self, idle_since: datetime, limit: int) -> list[str]:
        """May fail as planned."""
        return self._call("open_groups", lambda: self.inner.open_groups(idle_since, limit))

    def close_group(self, group_uuid: str) -> None:
        """May fail as planned."""
        self._call("close_group", lambda: self.inner.close_group(group_uuid))

    def examine(self) -> list[Finding]:
        """May fail as planned."""
        return self._call("examine", self.inner.examine)

    def close(self) -> None:
        """Never fails."""
        self.inner.close()

    def _call(self, method: str, function: Callable[[], T]) -> T:
        return self._plan.call(method, BackendUnavailable, function)
