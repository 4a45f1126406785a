"""How Memcached is configured: the ``memcache`` section, and the URL.

URL forms: protocol §6.2. Go has no settings for Memcached, so the names are ours. Any key of the section may also stand in a
URL's query (``?answer_timeout=2``), where it wins over the section.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from machinery.abc import Config, Section, ServiceUrl, parse_section, parse_url
from machinery.errors import ConfigError

DEFAULT_PORT = 11211
MIB = 1024 * 1024
SMALLEST_ITEM_SIZE_MAX = 8 * 1024
"""Bytes: less leaves no room for anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemcacheOptions:
    """The ``memcache`` section. Spans are seconds in files and URLs."""

    item_size_max: int = MIB
    """Bytes: the servers' own limit on an item (``-I``), from which the largest result and group follow."""
    connect_timeout: timedelta | None = None
    """How long to try to connect; left out: `Config.connect_timeout`."""
    answer_timeout: timedelta | None = None
    """How long to wait for an answer; left out: as long as to connect."""
    idle_timeout: timedelta = timedelta(seconds=240)
    """A connection unused for longer is replaced; 0: never."""

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        if self.item_size_max < SMALLEST_ITEM_SIZE_MAX:
            raise ValueError(
                f"item_size_max is {self.item_size_max}; it is a number of bytes, at least {SMALLEST_ITEM_SIZE_MAX}"
            )
        for name in ("connect_timeout", "answer_timeout"):
            if getattr(self, name) == timedelta(0):
                raise ValueError(f"{name} is 0; it must be longer, such as 5: nothing may wait for ever")


MEMCACHE_SECTION = Section(
    name="memcache",
    environment={
        "MEMCACHE_ITEM_SIZE_MAX": "item_size_max",
        "MEMCACHE_CONNECT_TIMEOUT": "connect_timeout",
        "MEMCACHE_ANSWER_TIMEOUT": "answer_timeout",
        "MEMCACHE_IDLE_TIMEOUT": "idle_timeout",
    },
    options=MemcacheOptions,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Which Memcached servers a URL means, and how to reach them."""

    servers: tuple[tuple[str, int] | str, ...]
    """Host and port, or the path of a Unix socket, in the order that decides which server has a key."""
    options: MemcacheOptions
    connect_timeout: float
    """Seconds."""
    answer_timeout: float
    """Seconds."""


def to_service(url: str, config: Config) -> Service:
    """The service that ``url`` and the section of ``config`` describe. Raises `ConfigError`."""
    parsed = parse_url(url)
    options = parse_section(MEMCACHE_SECTION, config, MemcacheOptions, parsed)
    connect = config.connect_timeout if options.connect_timeout is None else options.connect_timeout
    answer = connect if options.answer_timeout is None else options.answer_timeout
    return Service(
        servers=_servers_in(parsed),
        options=options,
        connect_timeout=connect.total_seconds(),
        answer_timeout=answer.total_seconds(),
    )


def to_options(config: Config, changes: Mapping[str, Any]) -> MemcacheOptions:
    """The options that the section of ``config`` and ``changes`` to it make. Raises `ConfigError`."""
    section = {**config.sections.get(MEMCACHE_SECTION.name, {}), **changes}
    changed = config.with_(sections={**config.sections, MEMCACHE_SECTION.name: section})
    return parse_section(MEMCACHE_SECTION, changed, MemcacheOptions)


def address_of(server: tuple[str, int] | str) -> str:
    """What to call a server."""
    if isinstance(server, str):
        return f"memcache://{server}"
    host, port = server
    return f"memcache://[{host}]:{port}" if ":" in host else f"memcache://{host}:{port}"


def _servers_in(parsed: ServiceUrl) -> tuple[tuple[str, int] | str, ...]:
    if parsed.user is not None:
        raise ConfigError(
            f"the URL {parsed.redacted} has a user name or a password, which memcached's text protocol, Go's too, cannot give; "
            "keep strangers out by the network"
        )
    if parsed.path.strip("/"):
        if parsed.hosts:
            raise ConfigError(
                f"the URL {parsed.redacted} has a path after its servers; it is memcache://host:11211,other:11211, or "
                "memcache:///run/memcached.sock for a Unix socket"
            )
        return (parsed.path,)
    return tuple((host, port or DEFAULT_PORT) for host, port in parsed.hosts or (("localhost", None),))
