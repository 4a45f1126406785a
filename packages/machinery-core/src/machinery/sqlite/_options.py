"""What a ``sqlite:`` URL says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from machinery.errors import ConfigError

if TYPE_CHECKING:
    from machinery._config import Config

FORMS = "write sqlite:///relative/file.db or sqlite:////absolute/file.db"
SHORTEST_LEASE = 0.1
KEYS = "lease (seconds), synchronous (normal or full)"

DEFAULT_LEASE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteOptions:
    """Where the file is and how it is used. As a URL: ``sqlite:///file.db?lease=10&synchronous=normal``.

    Three slashes and a path relative to the working directory, or four and an absolute one.
    """

    path: str
    lease: timedelta = DEFAULT_LEASE
    """How long a worker may be silent before what it had received is delivered to others."""
    synchronous: Literal["normal", "full"] = "normal"
    """``normal``: nothing is lost when processes die, but a power cut or a crash of the operating system may take back the last
    commits (the file stays sound). ``full``: not even then, at the price of one disk flush for each batch sent or settled."""
    timeout: timedelta = timedelta(seconds=5)
    """How long to wait for other processes to let go of the file before it is `Unavailable`. From `Config.connect_timeout`."""

    def __post_init__(self) -> None:
        if self.lease < timedelta(seconds=SHORTEST_LEASE):
            raise ConfigError(
                f"the SQLite option lease is {self.lease.total_seconds()} s; at least {SHORTEST_LEASE} s is right"
            )
        if self.synchronous not in {"normal", "full"}:
            raise ConfigError(f"the SQLite option synchronous is {self.synchronous!r}; normal or full is right")

    @classmethod
    def from_url(cls, url: str, config: Config) -> SqliteOptions:
        """The options that ``url`` states. Raises `ConfigError` for a URL without a file, or with an option that is wrong."""
        parts = urlsplit(url)
        path = unquote(parts.path).removeprefix("/")
        if parts.netloc:
            raise ConfigError(f"{url!r} has {parts.netloc!r} where a host would stand, and a file has none; {FORMS}")
        if not path or path == ":memory:":
            raise ConfigError(f"{url!r} names no file; {FORMS}, or memory:// for queues that live in one process")
        stated = dict(parse_qsl(parts.query, keep_blank_values=True))
        lease = stated.pop("lease", None)
        synchronous = stated.pop("synchronous", "normal").lower()
        if stated:
            raise ConfigError(f"{url!r} has the unknown option {min(stated)!r}; known are {KEYS}")
        return cls(
            path=path,
            lease=DEFAULT_LEASE if lease is None else _to_span(lease, url),
            synchronous=synchronous,  # type: ignore[arg-type]  # checked on construction
            timeout=config.connect_timeout,
        )


def _to_span(text: str, url: str) -> timedelta:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ConfigError(f"{url!r}: lease is {text!r}; a number of seconds is right, such as lease=10")
    return timedelta(seconds=seconds)
