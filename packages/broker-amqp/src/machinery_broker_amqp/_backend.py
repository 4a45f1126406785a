"""The result backend: Go's queues of states (protocol §4.6), read without being used up, and what Go lacks beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from machinery.abc import Backend, BackendCapabilities, Config, Section
from machinery.errors import BackendUnavailable
from machinery_broker_amqp._groups import Groups
from machinery_broker_amqp._link import Link
from machinery_broker_amqp._options import AMQP_SECTION, service_of, to_service
from machinery_broker_amqp._publishing import LARGEST_MESSAGE, to_milliseconds
from machinery_broker_amqp._records import Records
from machinery_broker_amqp._waiting import Waiting
from machinery_broker_amqp._workbench import Workshop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime, timedelta
    from typing import Any, TypeVar

    import pika

    from machinery.abc import GroupMeta, Signature, StoredGroup, TaskState
    from machinery_broker_amqp._options import Service
    from machinery_broker_amqp._session import Session

    T = TypeVar("T")

CAPABILITIES = BackendCapabilities(largest_record=LARGEST_MESSAGE)
"""Pushes results, lists open groups; groups of any size."""
_LONGEST_LIFE = 2**32 - 1
"""Milliseconds that RabbitMQ can keep anything: 49.7 days."""
_FOR_EACH = 0.1
"""Seconds that one record of a batch may take on a busy node."""


class AmqpBackend(Backend):
    """Results in RabbitMQ, shared with Go Machinery's workers and senders. Made like `AmqpBroker`.

    A queue for each task: not the backend to choose for many tasks, in Go or here. All is lost when the node restarts.
    """

    section: ClassVar[Section | None] = AMQP_SECTION

    def __init__(
        self,
        parameters: pika.ConnectionParameters | tuple[pika.ConnectionParameters, ...],
        config: Config | None = None,
        **options: Any,
    ) -> None:
        """Raises `ConfigError` for options that are wrong."""
        config = config or Config()
        self._set_up(service_of(parameters, config, options), config)

    @classmethod
    def from_url(cls, url: str, config: Config) -> AmqpBackend:
        """A backend on the RabbitMQ that ``url`` names."""
        backend = cls.__new__(cls)
        backend._set_up(to_service(url, config), config)  # noqa: SLF001 - it is ours
        return backend

    def _set_up(self, service: Service, config: Config) -> None:
        self._link = Link(service, "backend", BackendUnavailable)
        workshop = Workshop()
        self._records = Records(workshop, _to_life(config.results_expire_in))
        self._groups = Groups(workshop, self._records, _to_life(config.group_expire_in), service.options.exchange)
        self._waiting = Waiting(self._load)

    @property
    def capabilities(self) -> BackendCapabilities:
        """Constant."""
        return CAPABILITIES

    # -- records ------------------------------------------------------------------------------------------------------------

    def submit(self, states: Sequence[TaskState]) -> None:
        """Write records, each into its own queue."""
        self._call(lambda session: self._records.submit(session, states), len(states))

    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        """Write records that win, and tell who waits for them."""
        return self._call(lambda session: self._records.save(session, states), len(states))

    def load(self, ids: Sequence[str]) -> list[TaskState | None]:
        """Read records, which stay."""
        return self._call(lambda session: self._load(session, ids), len(ids))

    async def _load(self, session: Session, ids: Sequence[str]) -> list[TaskState | None]:
        found = await self._records.load(session, ids)
        missing = [uuid for uuid, state in zip(ids, found, strict=True) if state is None]
        kept = await self._groups.kept(session, missing) if missing else {}
        return [state or kept.get(uuid) for uuid, state in zip(ids, found, strict=True)]

    def wait(self, ids: Sequence[str], timeout: float, interval: float = 0.5) -> list[TaskState | None]:
        """Told by whoever saves; a look every ``interval`` seconds besides finds what Go has written."""
        return self._call(lambda session: self._waiting.wait(session, ids, timeout, interval), len(ids), longer=timeout)

    def forget(self, ids: Sequence[str]) -> None:
        """Delete the records' queues."""
        self._call(lambda session: self._records.forget(session, ids), len(ids))

    # -- groups -------------------------------------------------------------------------------------------------------------

    def create_group(self, group: GroupMeta, callback: Signature | None = None) -> None:
        """Keep a group."""
        self._call(lambda session: self._groups.create(session, group, callback), len(group.task_uuids))

    def load_group(self, group_uuid: str) -> StoredGroup:
        """The group; of one that Go has made, the members that have ended, in the order in which they did."""
        return self._call(lambda session: self._groups.load(session, group_uuid))

    def finish_members(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Note finished members, for Go's workers too."""
        return self._call(lambda session: self._groups.finish(session, pairs), len(pairs))

    def claim_chord(self, group_uuid: str, claimant: str) -> bool:
        """True to the first who asks, and to that one each time."""
        return self._call(lambda session: self._groups.claim(session, group_uuid, claimant))

    def open_groups(self, idle_since: datetime, limit: int) -> list[str]:
        """Chords in which nothing has happened since then. Looks at each."""
        return self._call(lambda session: self._groups.idle(session, idle_since, limit), 1000)

    def close_group(self, group_uuid: str) -> None:
        """The group has ended."""
        self._call(lambda session: self._groups.close(session, group_uuid), 1000)

    def close(self) -> None:
        """Let go of the connection."""
        self._link.close()

    def _call(self, work: Callable[[Session], Awaitable[T]], count: int = 1, longer: float = 0.0) -> T:
        self._link.check_open()
        return self._link.call(work, timeout=self._link.service.answer_timeout + count * _FOR_EACH + longer)


def _to_life(span: timedelta) -> int:
    return min(_LONGEST_LIFE, max(1, to_milliseconds(span)))
