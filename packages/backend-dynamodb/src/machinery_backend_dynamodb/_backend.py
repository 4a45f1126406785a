"""The result backend: records and groups as Go stores them (protocol §2, §6.3), and what Go lacks beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from machinery.abc import Backend, BackendCapabilities, Config, Section, poll, redact_url
from machinery_backend_dynamodb._client import Client
from machinery_backend_dynamodb._command import create_tables
from machinery_backend_dynamodb._driver import make_client, require_client
from machinery_backend_dynamodb._examination import examine
from machinery_backend_dynamodb._groups import LARGEST_GROUP, Groups
from machinery_backend_dynamodb._open_groups import OpenGroups
from machinery_backend_dynamodb._options import DYNAMODB_SECTION, to_options, to_service, to_timeouts
from machinery_backend_dynamodb._records import LARGEST_RECORD, Records

if TYPE_CHECKING:
    from datetime import datetime

    from machinery.abc import Finding, GroupMeta, Signature, StoredGroup, TaskState

CAPABILITIES = BackendCapabilities(pushes=False, largest_group=LARGEST_GROUP, largest_record=LARGEST_RECORD)
"""Waiting looks."""


class DynamodbBackend(Backend):
    """Results in Amazon DynamoDB, shared with Go Machinery's workers and senders."""

    section: ClassVar[Section | None] = DYNAMODB_SECTION
    commands: ClassVar[Mapping[str, Callable[[Sequence[str]], int]]] = {"create-tables": create_tables}

    def __init__(self, client: Any, config: Config | None = None, **options: Any) -> None:
        """On ``client``, a ``boto3.client("dynamodb")``, which stays the application's. Raises `ConfigError`."""
        config = config or Config()
        made = require_client(client)
        opted = to_options(config, options)
        _, read = to_timeouts(opted, config)
        address = redact_url(made.meta.endpoint_url)
        self._set_up(
            Client(lambda: made, opted, address=address, patience=read.total_seconds(), owned=False),
            config,
        )

    @classmethod
    def from_url(cls, url: str, config: Config) -> DynamodbBackend:
        """A backend on the DynamoDB that ``url`` names."""
        service = to_service(url, config)
        backend = cls.__new__(cls)
        patience = service.read_timeout.total_seconds()
        client = Client(partial(make_client, service), service.options, address=service.address, patience=patience)
        backend._set_up(client, config)  # noqa: SLF001 - it is ours
        return backend

    def _set_up(self, client: Client, config: Config) -> None:
        self._client = client
        lifetime = config.results_expire_in.total_seconds()
        self._records = Records(client, lifetime)
        self._groups = Groups(
            client,
            self._records,
            OpenGroups(client, broker=redact_url(config.broker), queue=config.default_queue),
            lifetime=config.group_expire_in.total_seconds(),
            closed_lifetime=lifetime,
        )

    @property
    def capabilities(self) -> BackendCapabilities:
        """Constant."""
        return CAPABILITIES

    # ------------------------------------------------------------------------------------------------------- records

    def submit(self, states: Sequence[TaskState]) -> None:
        """Write records: one alone by an update, more by reads of a hundred and writes of 25, several at once."""
        self._client.check_open()
        self._records.submit(states)

    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        """Write records that win: one alone by an update with a condition, more by statements, 25 in one request."""
        self._client.check_open()
        return self._records.save(states)

    def load(self, ids: Sequence[str]) -> list[TaskState | None]:
        """Read records, a hundred in one request."""
        self._client.check_open()
        return self._records.load(ids)

    def wait(self, ids: Sequence[str], timeout: float, interval: float = 0.5) -> list[TaskState | None]:
        """Read records when all are final. Looks at once, then ever less often: every look is paid for."""
        self._client.check_open()
        return poll(self.load, ids, timeout, interval)

    def forget(self, ids: Sequence[str]) -> None:
        """Delete records, 25 in one request."""
        self._client.check_open()
        self._records.forget(ids)

    # -------------------------------------------------------------------------------------------------------- groups

    def create_group(self, group: GroupMeta, callback: Signature | None = None) -> None:
        """Write a group, and let its members' records live as long as it does."""
        self._client.check_open()
        self._groups.create(group, callback)

    def load_group(self, group_uuid: str) -> StoredGroup:
        """Read a group."""
        self._client.check_open()
        return self._groups.load(group_uuid)

    def finish_members(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Note members as finished: for up to 99 of one group a read and a transaction."""
        self._client.check_open()
        return self._groups.finish(pairs)

    def claim_chord(self, group_uuid: str, claimant: str) -> bool:
        """Whether ``claimant`` sends the callback. Waits while a Go worker holds the group's ``Lock``, at most 1 s."""
        self._client.check_open()
        return self._groups.claim(group_uuid, claimant)

    def open_groups(self, idle_since: datetime, limit: int) -> list[str]:
        """Read which chords are open, of the application that has this broker and default queue."""
        self._client.check_open()
        return self._groups.idle(idle_since, limit)

    def close_group(self, group_uuid: str) -> None:
        """Let a group expire, and take it off the list."""
        self._client.check_open()
        self._groups.close(group_uuid)

    # ------------------------------------------------------------------------------------------------------- service

    def examine(self) -> list[Finding]:
        """What is dangerous about the tables."""
        self._client.check_open()
        return examine(self._client)

    def close(self) -> None:
        """Let go of every connection."""
        self._client.close()
