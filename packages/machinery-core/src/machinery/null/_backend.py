"""The result backend that stores nothing, and says so instead of answering wrongly or never."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from machinery.abc import Backend, BackendCapabilities, GroupMeta, StoredGroup
from machinery.errors import Closed, ResultsNotStored

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from machinery._config import Config
    from machinery.abc import Signature, TaskState

CAPABILITIES = BackendCapabilities(
    stores=False, pushes=False, lists_open_groups=False, several_processes=False, expires=False
)
HOW = 'give the server one that stores, such as result_backend="redis://localhost:6379" or "sqlite:///results.db"'


class NullBackend(Backend):
    """Takes every record and keeps none. Whatever would have to read one raises `ResultsNotStored` at once.

    Tasks, callbacks, chains and groups run as ever; a chord cannot, since nobody knows when its members are done: it is refused
    when it is sent.
    """

    def __init__(self) -> None:
        self._closed = False

    @classmethod
    def from_url(cls, url: str, config: Config) -> Any:  # noqa: ARG003 - nothing to configure
        """A backend that stores nothing."""
        return cls()

    @property
    def capabilities(self) -> BackendCapabilities:
        """Constant: none."""
        return CAPABILITIES

    def submit(self, states: Sequence[TaskState]) -> None:  # noqa: ARG002
        """Nothing is stored."""
        self._check_open()

    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        """Nothing is stored; the answer is what was given."""
        self._check_open()
        return list(states)

    def load(self, ids: Sequence[str]) -> list[TaskState | None]:  # noqa: ARG002
        """Raises `ResultsNotStored`."""
        self._refuse("the state of a task cannot be read")

    def wait(self, ids: Sequence[str], timeout: float, interval: float = 0.5) -> list[TaskState | None]:  # noqa: ARG002
        """Raises `ResultsNotStored` at once: the wait would never end."""
        self._refuse("a result cannot be waited for")

    def forget(self, ids: Sequence[str]) -> None:  # noqa: ARG002
        """There is nothing to delete."""
        self._check_open()

    def create_group(self, group: GroupMeta, callback: Signature | None = None) -> None:
        """A plain group passes. With a callback, raises `ResultsNotStored`."""
        if callback is not None:
            self._refuse(f"the chord of group {group.group_uuid} cannot know when its members are done")
        self._check_open()

    def load_group(self, group_uuid: str) -> StoredGroup:
        """Raises `ResultsNotStored`."""
        self._refuse(f"the group {group_uuid} cannot be read")

    def finish_members(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Nothing is counted: never a false "complete"."""
        self._check_open()
        return [0] * len(pairs)

    def claim_chord(self, group_uuid: str, claimant: str) -> bool:  # noqa: ARG002
        """Raises `ResultsNotStored`."""
        self._refuse(f"the chord of group {group_uuid} cannot know when its members are done")

    def open_groups(self, idle_since: datetime, limit: int) -> list[str]:  # noqa: ARG002
        """None are known."""
        self._check_open()
        return []

    def close_group(self, group_uuid: str) -> None:  # noqa: ARG002
        """There is nothing to close."""
        self._check_open()

    def close(self) -> None:
        """There is no connection."""
        self._closed = True

    def _refuse(self, what: str) -> NoReturn:
        self._check_open()
        raise ResultsNotStored(f"{what}: this server has no result backend that stores anything; {HOW}")

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("this result backend was closed")
