"""Making pymemcache's pools of connections, one for each server; or taking the application's own."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pymemcache.client.base import PooledClient

from machinery.errors import ConfigError
from machinery_backend_memcache._options import address_of
from machinery_backend_memcache._servers import Servers

if TYPE_CHECKING:
    from machinery_backend_memcache._options import Service


def servers_for(service: Service) -> Servers:
    """The servers that a URL describes. Does not connect."""
    pools = [
        PooledClient(
            server,
            connect_timeout=service.connect_timeout,
            timeout=service.answer_timeout,
            no_delay=True,
            pool_idle_timeout=service.options.idle_timeout.total_seconds(),
            socket_module=_Sockets(),
        )
        for server in service.servers
    ]
    return Servers(pools, [address_of(server) for server in service.servers], owned=True)


def servers_of(given: Any) -> Servers:
    """Those of the application's own pools, which stay the application's to close. Raises `ConfigError`."""
    pools = list(given) if isinstance(given, Sequence) else [given]
    for pool in pools:
        if not isinstance(pool, PooledClient):
            raise ConfigError(
                "Memcached is given as a pymemcache.PooledClient, or a list of them in the order that Go has, not as "
                f"{type(pool).__name__}: a plain Client cannot be shared between threads, and a HashClient places keys "
                "otherwise than Go does"
            )
        if pool.key_prefix:
            raise ConfigError("the pymemcache.PooledClient has a key_prefix, with which Go would not find the keys")
    if not pools:
        raise ConfigError("there must be at least one pymemcache.PooledClient")
    return Servers(pools, [address_of(pool.server) for pool in pools], owned=False)


class _Sockets:
    """The module `socket`, but that names are looked up as Go does: an IPv4 address first. pymemcache tries only the first."""

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)

    def getaddrinfo(self, *arguments: Any) -> list[Any]:
        return sorted(socket.getaddrinfo(*arguments), key=lambda found: found[0] != socket.AF_INET)
