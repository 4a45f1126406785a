"""How Redis is configured: the ``redis`` section under Go's names, and the URL.

Go's names, meanings and variables: protocol §9. URL forms: protocol §3.7. Any key of the section may also stand in a URL's
query (``?lease=30``), where it wins over the section.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from machinery.abc import Config, Section, ServiceUrl, parse_section, parse_url
from machinery.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379
SHORTEST_LEASE = timedelta(milliseconds=100)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions:
    """The ``redis`` section. Spans are seconds in files and URLs; 0 means no limit, as in Go."""

    delayed_tasks_key: str = "delayed_tasks"
    """Where delayed tasks wait; the same for all who share the queues, Go workers too."""
    client_name: str = ""
    """What ``CLIENT LIST`` calls our connections."""
    lease: timedelta = timedelta(seconds=10)
    """How long a worker may give no sign of life before others doubt it; they take over its tasks one to two leases later."""

    master_name: str = ""
    """The Sentinels' name of the master; the URL's addresses are then the Sentinels'."""
    sentinel_password: str = field(default="", repr=False)
    """The Sentinels' own password."""
    cluster_enabled: bool = False
    """The one address given is a cluster's. Several addresses are one anyway, but with ``master_name``."""
    cluster_mode: bool = False
    """Go v1's name for ``cluster_enabled``."""

    tls_verify: bool = True
    """Whether ``rediss://`` checks the server's certificate and name. Off is for tests only."""
    tls_ca_file: str = ""
    """Authorities to trust, in PEM; empty: the system's."""
    tls_cert_file: str = ""
    """Our certificate, in PEM, where the server asks for one."""
    tls_key_file: str = ""
    """Its key, in PEM; empty: in the certificate's file."""

    connect_timeout: timedelta | None = None
    """How long to try to connect; left out: `Config.connect_timeout`."""
    read_timeout: timedelta | None = None
    """How long to wait for an answer; left out: as long as to connect. Receiving adds the time for which it blocks."""
    write_timeout: timedelta | None = None
    """How long a write may get nowhere; left out, and at most: as long as to connect."""

    max_idle: int = 10
    """How many unused connections are kept."""
    max_active: int = 0
    """How many connections there may be at once to one server, besides one for each consumer."""
    max_idle_timeout: timedelta = timedelta(seconds=240)
    """A connection unused for longer is replaced."""
    wait: bool = True
    """With ``max_active`` in use: wait for one to come free for as long as ``read_timeout``, or fail at once."""

    normal_tasks_poll_period: int = 1000
    """Accepted for Go's sake and unused: receiving blocks in Redis."""
    delayed_tasks_poll_period: int = 500
    """Accepted for Go's sake and unused: workers wait for the next task that is due, at most half a second."""

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        if self.lease < SHORTEST_LEASE:
            raise ValueError(f"lease must be at least {SHORTEST_LEASE.total_seconds():g} seconds, not {self.lease}")
        for name in ("max_idle", "max_active", "normal_tasks_poll_period", "delayed_tasks_poll_period"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        if not self.delayed_tasks_key:
            raise ValueError("delayed_tasks_key must not be empty")


REDIS_SECTION = Section(
    name="redis",
    environment={
        "REDIS_MAX_IDLE": "max_idle",
        "REDIS_MAX_ACTIVE": "max_active",
        "REDIS_IDLE_TIMEOUT": "max_idle_timeout",
        "REDIS_WAIT": "wait",
        "REDIS_READ_TIMEOUT": "read_timeout",
        "REDIS_WRITE_TIMEOUT": "write_timeout",
        "REDIS_CONNECT_TIMEOUT": "connect_timeout",
        "REDIS_NORMAL_TASKS_POLL_PERIOD": "normal_tasks_poll_period",
        "REDIS_DELAYED_TASKS_POLL_PERIOD": "delayed_tasks_poll_period",
        "REDIS_DELAYED_TASKS_KEY": "delayed_tasks_key",
        "REDIS_CLIENT_NAME": "client_name",
        "REDIS_MASTER_NAME": "master_name",
        "REDIS_CLUSTER_ENABLED": "cluster_enabled",
        "REDIS_CLUSTER_MODE": "cluster_mode",
        "REDIS_SENTINEL_PASSWORD": "sentinel_password",
        "REDIS_LEASE": "lease",
        "REDIS_TLS_VERIFY": "tls_verify",
        "REDIS_TLS_CA_FILE": "tls_ca_file",
        "REDIS_TLS_CERT_FILE": "tls_cert_file",
        "REDIS_TLS_KEY_FILE": "tls_key_file",
    },
    options=RedisOptions,
)


def to_options(config: Config, changes: Mapping[str, Any], origin: str = "") -> RedisOptions:
    """The options that the section of ``config`` and ``changes`` to it make. Raises `ConfigError`; ``origin``: of the changes."""
    section = {**config.sections.get(REDIS_SECTION.name, {})}
    parse_section(REDIS_SECTION, config, RedisOptions)  # so that what is wrong with the section names the section
    changed = Config(sections={REDIS_SECTION.name: {**section, **changes}}, origin=origin or config.origin)
    return parse_section(REDIS_SECTION, changed, RedisOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Which Redis a URL means, and how to reach it."""

    hosts: tuple[tuple[str, int], ...] = ()
    """Host and port of the server, of a cluster's nodes, or of the Sentinels."""
    socket: str = ""
    """Path of the Unix socket, instead of hosts."""
    database: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    options: RedisOptions = field(default_factory=RedisOptions)
    connect_timeout: timedelta = timedelta(seconds=5)
    address: str = ""
    """The URL without secrets."""

    @property
    def is_cluster(self) -> bool:
        """Whether the hosts are nodes of a cluster."""
        wanted = self.options.cluster_enabled or self.options.cluster_mode or len(self.hosts) > 1
        return wanted and not self.options.master_name


def to_service(url: str, config: Config) -> Service:
    """The service that ``url`` and the section of ``config`` describe. Raises `ConfigError`."""
    parsed = parse_url(url)
    options = to_options(config, parsed.query, f"the URL {parsed.redacted}" if parsed.query else "")
    user, password = _credentials(parsed)
    on_socket = parsed.scheme == "redis+socket"
    path, database = _socket_and_database(parsed) if on_socket else ("", _database(parsed.path.strip("/"), parsed))
    port = SENTINEL_PORT if options.master_name else DEFAULT_PORT
    service = Service(
        hosts=()
        if on_socket
        else tuple((host, given or port) for host, given in parsed.hosts or (("localhost", None),)),
        socket=path,
        database=database,
        user=user,
        password=password,
        tls=parsed.scheme == "rediss",
        options=options,
        connect_timeout=config.connect_timeout if options.connect_timeout is None else options.connect_timeout,
        address=parsed.redacted,
    )
    if service.tls:
        _require_files(options)
    if service.is_cluster and database:
        raise ConfigError(f"the URL {parsed.redacted} asks for database {database}, but a cluster has only database 0")
    if on_socket and (service.is_cluster or options.master_name):
        raise ConfigError(f"the URL {parsed.redacted} is a socket, which is neither a cluster nor Sentinels")
    return service


def _require_files(options: RedisOptions) -> None:
    for name in ("tls_ca_file", "tls_cert_file", "tls_key_file"):
        path = getattr(options, name)
        if path and not Path(path).is_file():
            raise ConfigError(f"redis.{name} is {path!r}; there is no such file")


def _credentials(parsed: ServiceUrl) -> tuple[str, str]:
    """User and password. A lone user part is the password (protocol §3.7)."""
    if parsed.password is None:
        return "", parsed.user or ""
    return parsed.user or "", parsed.password


def _socket_and_database(parsed: ServiceUrl) -> tuple[str, int]:
    """``/path.sock[:/db]``."""
    if parsed.hosts or not parsed.path.strip("/"):
        raise ConfigError(
            f"the URL {parsed.redacted} names no socket; it would be redis+socket:///run/redis.sock, "
            "or redis+socket:///run/redis.sock:/1 for database 1"
        )
    path, _, database = parsed.path.partition(":/")
    return path, _database(database, parsed)


def _database(text: str, parsed: ServiceUrl) -> int:
    if text and not re.fullmatch(r"\d{1,6}", text, re.ASCII):
        raise ConfigError(
            f"the URL {parsed.redacted} has {text!r} where the database's number should stand, such as /1"
        )
    return int(text or 0)
