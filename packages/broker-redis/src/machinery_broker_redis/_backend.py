"""The result backend: records and groups as Go stores them (protocol §2, §3.5), and what Go lacks beside them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from machinery.abc import Backend, BackendCapabilities, Config, Section
from machinery.errors import BackendUnavailable
from machinery_broker_redis._driver import client_for, client_of
from machinery_broker_redis._examination import examine
from machinery_broker_redis._groups import Groups
from machinery_broker_redis._options import REDIS_SECTION, to_options, to_service
from machinery_broker_redis._records import LARGEST_RECORD, Records
from machinery_broker_redis._waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from machinery.abc import Finding, GroupMeta, Signature, StoredGroup, TaskState
    from machinery_broker_redis._client import Client

CAPABILITIES = BackendCapabilities(largest_record=LARGEST_RECORD)
"""Pushes results, lists open groups; groups of any size."""


class RedisBackend(Backend):
    """Results in Redis, shared with Go Machinery's workers and senders. Made like `RedisBroker`."""

    section: ClassVar[Section | None] = REDIS_SECTION

    def __init__(self, client: Any, config: Config | None = None, **options: Any) -> None:
        """Raises `ConfigError` for options that are wrong."""
        config = config or Config()
        self._set_up(client_of(client, to_options(config, options), BackendUnavailable), config)

    @classmethod
    def from_url(cls, url: str, config: Config) -> RedisBackend:
        """A backend on the Redis that ``url`` names."""
        backend = cls.__new__(cls)
        backend._set_up(client_for(to_service(url, config), BackendUnavailable), config)  # noqa: SLF001 - it is ours
        return backend

    def _set_up(self, client: Client, config: Config) -> None:
        self._client = client
        self.record_lifetime = _to_milliseconds(config.results_expire_in)
        """Milliseconds that a record lives after its last write."""
        self._records = Records(client, self.record_lifetime)
        self._groups = Groups(
            client,
            self._records,
            lifetime=_to_milliseconds(config.group_expire_in),
            closed_lifetime=self.record_lifetime,
        )
        self._waiting = Waiting(client, self._records)

    def is_on(self, client: Client) -> bool:
        """Whether ``client`` is of the same database."""
        return self._client.identity == client.identity

    @property
    def capabilities(self) -> BackendCapabilities:
        """Constant."""
        return CAPABILITIES

    # ------------------------------------------------------------------------------------------------------- records

    def submit(self, states: Sequence[TaskState]) -> None:
        """Write records, all in one round trip."""
        self._client.check_open()
        self._records.submit(states)

    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        """Write records that win, all in one round trip, and wake who waits for them."""
        self._client.check_open()
        return self._records.save(states)

    def load(self, ids: Sequence[str]) -> list[TaskState | None]:
        """Read records, all in one round trip."""
        self._client.check_open()
        return self._records.load(ids)

    def wait(self, ids: Sequence[str], timeout: float, interval: float = 0.5) -> list[TaskState | None]:
        """Read records when all are final. Looks for those that Go writes after 0.05 s, then ever less often."""
        self._client.check_open()
        return self._waiting.wait(ids, timeout, interval)

    def forget(self, ids: Sequence[str]) -> None:
        """Delete records."""
        self._client.check_open()
        self._records.forget(ids)

    # -------------------------------------------------------------------------------------------------------- groups

    def create_group(self, group: GroupMeta, callback: Signature | None = None) -> None:
        """Write a group."""
        self._client.check_open()
        self._groups.create(group, callback)

    def load_group(self, group_uuid: str) -> StoredGroup:
        """Read a group."""
        self._client.check_open()
        return self._groups.load(group_uuid)

    def finish_members(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Note members as finished, all in one round trip."""
        self._client.check_open()
        return self._groups.finish(pairs) if pairs else []

    def claim_chord(self, group_uuid: str, claimant: str) -> bool:
        """Whether ``claimant`` sends the callback. Waits while a Go worker holds its mutex, at most 10 s."""
        self._client.check_open()
        return self._groups.claim(group_uuid, claimant)

    def open_groups(self, idle_since: datetime, limit: int) -> list[str]:
        """Groups without progress, by the server's clock."""
        self._client.check_open()
        return self._groups.open(datetime.now(UTC) - idle_since, limit)

    def close_group(self, group_uuid: str) -> None:
        """Let a group expire."""
        self._client.check_open()
        self._groups.close(group_uuid)

    # ------------------------------------------------------------------------------------------------------- service

    def examine(self) -> list[Finding]:
        """What is dangerous about the server's settings."""
        return examine(self._client)

    def close(self) -> None:
        """Let go of every connection."""
        self._waiting.close()
        self._client.close()


def _to_milliseconds(span: timedelta) -> int:
    return max(1, round(span.total_seconds() * 1000))
