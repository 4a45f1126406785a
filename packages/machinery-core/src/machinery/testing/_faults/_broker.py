"""A broker whose calls go wrong as planned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from machinery.abc import Broker
from machinery.errors import BrokerUnavailable, Unsupported
from machinery.testing._faults._backend import FaultyBackend
from machinery.testing._faults._consumer import FaultyConsumer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from machinery._config import Config
    from machinery.abc import Backend, BrokerCapabilities, DeadLetter, Finding, Message, SubmitAndPublish, TaskState
    from machinery.testing._faults._plan import FaultPlan

T = TypeVar("T")


class FaultyBroker(Broker):
    """Passes every call on to ``inner``, unless ``plan`` says otherwise. Its consumers follow the same plan.

    Where ``inner`` stores and publishes in one round trip with a backend that is wrapped too, that is the call
    ``submit_and_publish``.
    """

    def __init__(self, inner: Broker, plan: FaultPlan) -> None:
        self.inner = inner
        self._plan = plan

    @classmethod
    def from_url(cls, url: str, config: Config) -> Any:  # noqa: ARG003
        """Raises `Unsupported`: a wrapper has no URL."""
        raise Unsupported("FaultyBroker is made around another broker: FaultyBroker(inner, plan)")

    @property
    def capabilities(self) -> BrokerCapabilities:
        """Those of the broker inside."""
        return self.inner.capabilities

    def has_delays(self, queue: str) -> bool:
        """As the broker inside says."""
        return self.inner.has_delays(queue)

    def publish(self, messages: Sequence[Message]) -> None:
        """May fail as planned."""
        self._call("publish", lambda: self.inner.publish(messages))

    def consumer(self, queue: str, name: str) -> FaultyConsumer:
        """A consumer that follows the same plan."""
        return FaultyConsumer(self.inner.consumer(queue, name), self._plan)

    def combined_with(self, backend: Backend) -> SubmitAndPublish | None:
        """What the broker inside offers for the backend inside, subject to the plan."""
        combined = self.inner.combined_with(backend.inner if isinstance(backend, FaultyBackend) else backend)
        if combined is None:
            return None

        def submit_and_publish(states: Sequence[TaskState], messages: Sequence[Message]) -> None:
            self._call("submit_and_publish", lambda: combined(states, messages))

        return submit_and_publish

    def pending(self, queue: str, limit: int) -> list[Message]:
        """May fail as planned."""
        return self._call("pending", lambda: self.inner.pending(queue, limit))

    def delayed(self, limit: int) -> list[Message]:
        """May fail as planned."""
        return self._call("delayed", lambda: self.inner.delayed(limit))

    def purge(self, queue: str) -> int:
        """May fail as planned."""
        return self._call("purge", lambda: self.inner.purge(queue))

    def dead(self, queue: str, limit: int) -> list[DeadLetter]:
        """May fail as planned."""
        return self._call("dead", lambda: self.inner.dead(queue, limit))

    def requeue_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:
        """May fail as planned."""
        return self._call("requeue_dead", lambda: self.inner.requeue_dead(queue, ids))

    def purge_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:
        """May fail as planned."""
        return self._call("purge_dead", lambda: self.inner.purge_dead(queue, ids))

    def examine(self) -> list[Finding]:
        """May fail as planned."""
        return self._call("examine", self.inner.examine)

    def close(self) -> None:
        """Never fails."""
        self.inner.close()

    def _call(self, method: str, function: Callable[[], T]) -> T:
        return self._plan.call(method, BrokerUnavailable, function)
