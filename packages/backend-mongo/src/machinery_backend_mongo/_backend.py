"""The result backend: records and groups as Go stores them (protocol §6.1), and what Go lacks beside them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pymongo

from machinery.abc import Backend, BackendCapabilities, Config, Section, poll
from machinery.errors import ConfigError
from machinery_backend_mongo._client import Client
from machinery_backend_mongo._examination import examine
from machinery_backend_mongo._groups import LARGEST_GROUP, Groups
from machinery_backend_mongo._options import MONGODB_SECTION, database_of, to_options, to_service
from machinery_backend_mongo._records import LARGEST_RECORD, Records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from machinery.abc import Finding, GroupMeta, Signature, StoredGroup, TaskState

CAPABILITIES = BackendCapabilities(pushes=False, largest_group=LARGEST_GROUP, largest_record=LARGEST_RECORD)
"""Whoever waits looks, ever less often; open groups are listed."""


class MongoBackend(Backend):
    """Results in MongoDB, shared with Go Machinery's workers and senders."""

    section: ClassVar[Section | None] = MONGODB_SECTION

    def __init__(self, client: pymongo.MongoClient[Any], config: Config | None = None, **options: Any) -> None:
        """On the application's own client, which stays the application's to close.

        Its timeouts hold unless ``answer_timeout`` is set, and its write concern holds where it has one. Raises `ConfigError` for
        options that are wrong.
        """
        if not isinstance(client, pymongo.MongoClient):
            raise ConfigError(f"MongoBackend takes a pymongo.MongoClient, not {type(client).__name__}")
        config = config or Config()
        chosen = to_options(config, options)
        address = "the application's own client"
        in_url = client.get_default_database(default="machinery").name
        is_set = "answer_timeout" in {**config.sections.get(MONGODB_SECTION.name, {}), **options}
        opened = Client(
            lambda: client,
            database_of(chosen, in_url, address),
            address=address,
            answer_timeout=chosen.answer_timeout if is_set else None,
            owned=False,
        )
        self._set_up(opened, config)

    @classmethod
    def from_url(cls, url: str, config: Config) -> MongoBackend:
        """A backend on the MongoDB that ``url`` names."""
        service = to_service(url, config)
        client = Client(
            lambda: pymongo.MongoClient(service.url, **service.settings),
            service.database,
            address=service.address,
            answer_timeout=service.answer_timeout,
        )
        backend = cls.__new__(cls)
        backend._set_up(client, config)  # noqa: SLF001 - it is ours
        return backend

    def _set_up(self, client: Client, config: Config) -> None:
        self._client = client
        lifetime = _to_milliseconds(config.results_expire_in)
        self._records = Records(client, lifetime)
        self._groups = Groups(
            client, self._records, lifetime=_to_milliseconds(config.group_expire_in), closed_lifetime=lifetime
        )

    @property
    def capabilities(self) -> BackendCapabilities:
        """Constant."""
        return CAPABILITIES

    # ------------------------------------------------------------------------------------------------------- records

    def submit(self, states: Sequence[TaskState]) -> None:
        """Write records, a thousand in one round trip."""
        self._client.check_open()
        self._records.submit(states)

    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        """Write records that win: one in one round trip, up to a thousand in two."""
        self._client.check_open()
        return self._records.save(states)

    def load(self, ids: Sequence[str]) -> list[TaskState | None]:
        """Read records, a thousand in one round trip."""
        self._client.check_open()
        return self._records.load(ids)

    def wait(self, ids: Sequence[str], timeout: float, interval: float = 0.5) -> list[TaskState | None]:
        """Look for records until all are final: after 5 ms, then ever less often, at least every ``interval`` seconds."""
        return poll(self.load, ids, timeout, interval)

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
        return self._groups.load(group_uuid)

    def finish_members(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Note members as finished: those of one group in one round trip, those of several in two.

        For each group in which a hundred have finished before, a few round trips more.
        """
        self._client.check_open()
        return self._groups.finish(pairs) if pairs else []

    def claim_chord(self, group_uuid: str, claimant: str) -> bool:
        """Whether ``claimant`` sends the callback."""
        return self._groups.claim(group_uuid, claimant)

    def open_groups(self, idle_since: datetime, limit: int) -> list[str]:
        """Chords without progress, by the server's clock."""
        self._client.check_open()
        return self._groups.open(datetime.now(UTC) - idle_since, limit)

    def close_group(self, group_uuid: str) -> None:
        """Let a group expire."""
        self._groups.close(group_uuid)

    # ------------------------------------------------------------------------------------------------------- service

    def examine(self) -> list[Finding]:
        """What is dangerous about the server's settings."""
        return examine(self._client)

    def close(self) -> None:
        """Let go of every connection."""
        self._client.close()


def _to_milliseconds(span: timedelta) -> int:
    return max(1, round(span.total_seconds() * 1000))
