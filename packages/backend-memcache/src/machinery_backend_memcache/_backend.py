"""The result backend: records and groups as Go stores them (protocol §6.2), and what Go lacks beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from machinery.abc import Backend, BackendCapabilities, Config, Section, poll, redact_url
from machinery_backend_memcache._driver import servers_for, servers_of
from machinery_backend_memcache._examination import examine
from machinery_backend_memcache._groups import Groups, lifetime_kept
from machinery_backend_memcache._keys import open_groups_key
from machinery_backend_memcache._open_groups import OpenGroups
from machinery_backend_memcache._options import MEMCACHE_SECTION, to_options, to_service
from machinery_backend_memcache._records import OVERHEAD, Records

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pymemcache.client.base import PooledClient

    from machinery.abc import Finding, GroupMeta, Signature, StoredGroup, TaskState
    from machinery_backend_memcache._options import MemcacheOptions
    from machinery_backend_memcache._servers import Servers


class MemcacheBackend(Backend):
    """Results in Memcached, shared with Go Machinery's workers and senders.

    Memcached is a cache: it forgets everything when it restarts, and the longest unused when it is full. Tasks run all the same.
    """

    section: ClassVar[Section | None] = MEMCACHE_SECTION

    def __init__(
        self, clients: PooledClient | Sequence[PooledClient], config: Config | None = None, **options: Any
    ) -> None:
        """On the application's own `pymemcache.PooledClient`, or several in the order that Go has; they are not closed here.

        Their timeouts hold: a client without any may wait for ever. Raises `ConfigError` for options that are wrong.
        """
        config = config or Config()
        chosen = to_options(config, options)
        self._set_up(servers_of(clients), chosen, config)

    @classmethod
    def from_url(cls, url: str, config: Config) -> MemcacheBackend:
        """A backend on the servers that ``url`` names."""
        service = to_service(url, config)
        backend = cls.__new__(cls)
        backend._set_up(servers_for(service), service.options, config)  # noqa: SLF001 - it is ours
        return backend

    def _set_up(self, servers: Servers, options: MemcacheOptions, config: Config) -> None:
        self._servers = servers
        self._options = options
        record_lifetime, group_lifetime = (
            config.results_expire_in.total_seconds(),
            config.group_expire_in.total_seconds(),
        )
        largest = options.item_size_max - OVERHEAD
        self._records = Records(
            servers, lifetime=record_lifetime, kept_lifetime=lifetime_kept(group_lifetime), largest=largest
        )
        open_groups = OpenGroups(servers, open_groups_key(redact_url(config.broker), config.default_queue))
        self._groups = Groups(
            servers, self._records, open_groups, lifetime=group_lifetime, closed_lifetime=record_lifetime
        )
        self._capabilities = BackendCapabilities(
            pushes=False, largest_group=self._groups.largest, largest_record=largest
        )

    @property
    def capabilities(self) -> BackendCapabilities:
        """Nothing is pushed; sizes follow from ``item_size_max``. Constant."""
        return self._capabilities

    # -- records ------------------------------------------------------------------------------------------------------------

    def submit(self, states: Sequence[TaskState]) -> None:
        """Write records, all in one round trip to each server."""
        self._servers.check_open()
        self._records.submit(states)

    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        """Write records that win: one round trip to each server to read, one to write."""
        self._servers.check_open()
        return self._records.save(states)

    def load(self, ids: Sequence[str]) -> list[TaskState | None]:
        """Read records, all in one round trip to each server."""
        self._servers.check_open()
        return self._records.load(ids)

    def wait(self, ids: Sequence[str], timeout: float, interval: float = 0.5) -> list[TaskState | None]:
        """Read records until all are final. Memcached tells nobody: looks ever less often, every ``interval`` seconds at last."""
        return poll(self.load, ids, timeout, interval)

    def forget(self, ids: Sequence[str]) -> None:
        """Delete records."""
        self._servers.check_open()
        self._records.forget(ids)

    # -- groups -------------------------------------------------------------------------------------------------------------

    def create_group(self, group: GroupMeta, callback: Signature | None = None) -> None:
        """Write a group."""
        self._servers.check_open()
        self._groups.create(group, callback)

    def load_group(self, group_uuid: str) -> StoredGroup:
        """Read a group."""
        self._servers.check_open()
        return self._groups.load(group_uuid)

    def finish_members(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Note members as finished, in one round trip to each server. 0 also where the count was thrown out."""
        self._servers.check_open()
        return self._groups.finish(pairs)

    def claim_chord(self, group_uuid: str, claimant: str) -> bool:
        """Whether ``claimant`` sends the callback. Waits while a Go worker has the group locked, at most 2 s."""
        self._servers.check_open()
        return self._groups.claim(group_uuid, claimant)

    def open_groups(self, idle_since: datetime, limit: int) -> list[str]:
        """Chords without progress, of the list that we keep of them: Memcached cannot list what it holds."""
        self._servers.check_open()
        return self._groups.idle(idle_since, limit)

    def close_group(self, group_uuid: str) -> None:
        """Let a group expire."""
        self._servers.check_open()
        self._groups.close(group_uuid)

    # -- service ------------------------------------------------------------------------------------------------------------

    def examine(self) -> list[Finding]:
        """What is dangerous about the servers' settings."""
        return examine(self._servers, self._options.item_size_max)

    def close(self) -> None:
        """Let go of every connection."""
        self._servers.close()
