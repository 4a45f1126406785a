"""Making redis-py's clients: a single server, a master found by Sentinels, a cluster; or taking the application's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

from machinery_broker_redis._client import Client, ClusterClient

if TYPE_CHECKING:
    from machinery.errors import Unavailable
    from machinery_broker_redis._options import RedisOptions, Service

_NO_LIMIT = 2**31
"""Of connections in redis-py's pool, which takes nothing for a hundred: ours are counted elsewhere."""


def client_for(service: Service, unavailable: type[Unavailable]) -> Client:
    """A client of the service that a URL describes. Does not connect."""
    made = ClusterClient if service.is_cluster else Client
    return made(
        lambda: _to_driver(service),
        service.options,
        address=service.address,
        unavailable=unavailable,
        identity=(service.hosts, service.socket, service.database, service.options.master_name),
    )


def client_of(driver: Any, options: RedisOptions, unavailable: type[Unavailable]) -> Client:
    """A client on the application's own `redis.Redis` or `redis.RedisCluster`, which stays the application's to close."""
    made = ClusterClient if isinstance(driver, RedisCluster) else Client
    return made(
        lambda: driver,
        options,
        address=_address_of(driver),
        unavailable=unavailable,
        owned=False,
        identity=("of the application", id(driver)),
    )


def _address_of(driver: Any) -> str:
    if isinstance(driver, RedisCluster):
        return "a cluster given by the application"
    known = driver.connection_pool.connection_kwargs
    if "path" in known:
        return f"redis+socket://{known['path']}"
    if "host" in known:
        return f"redis://{known['host']}:{known.get('port', 6379)}/{known.get('db') or 0}"
    return "a server given by the application"


def _to_driver(service: Service) -> Any:
    settings = _to_settings(service)
    if service.socket:
        del settings["socket_keepalive"]
        return redis.Redis(unix_socket_path=service.socket, db=service.database, max_connections=_NO_LIMIT, **settings)
    if service.options.master_name:
        sentinel = Sentinel(service.hosts, sentinel_kwargs=_to_sentinel_settings(service, settings), **settings)
        return sentinel.master_for(service.options.master_name, db=service.database, max_connections=_NO_LIMIT)
    if service.is_cluster:
        nodes = [ClusterNode(host, port) for host, port in service.hosts]
        return RedisCluster(startup_nodes=nodes, max_connections=_NO_LIMIT, **settings)
    host, port = service.hosts[0]
    return redis.Redis(host=host, port=port, db=service.database, max_connections=_NO_LIMIT, **settings)


def _to_settings(service: Service) -> dict[str, Any]:
    options = service.options
    settings: dict[str, Any] = {
        "username": service.user or None,
        "password": service.password or ("" if service.user else None),
        "client_name": options.client_name or None,
        "socket_timeout": _to_socket_timeout(service),
        "socket_connect_timeout": service.connect_timeout.total_seconds() or None,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),  # the worker and the application know when to try again
        "protocol": 2,
    }
    if service.tls:
        settings |= {
            "ssl": True,
            "ssl_cert_reqs": "required" if options.tls_verify else "none",
            "ssl_check_hostname": options.tls_verify,
            "ssl_ca_certs": options.tls_ca_file or None,
            "ssl_certfile": options.tls_cert_file or None,
            "ssl_keyfile": options.tls_key_file or None,
        }
    return settings


def _to_socket_timeout(service: Service) -> float | None:
    """Seconds for one step of redis-py's on a socket: the shortest limit, since a password, say, is a step of connecting.

    Longer waits for answers are those of `Connections`.
    """
    limits = (service.connect_timeout, service.options.read_timeout, service.options.write_timeout)
    return min((limit.total_seconds() for limit in limits if limit), default=None)


def _to_sentinel_settings(service: Service, settings: dict[str, Any]) -> dict[str, Any]:
    """How to reach the Sentinels: as the master, but with their own password."""
    shared = {key: value for key, value in settings.items() if key.startswith(("socket", "ssl"))}
    return shared | {"retry": settings["retry"], "protocol": 2, "password": service.options.sentinel_password or None}
