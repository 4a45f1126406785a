"""How MongoDB is configured: its own URL, and the ``mongodb`` section.

The URL is MongoDB's, with all of its options (``replicaSet``, ``authSource``, ``tls``, ``w``, …); a key of the section may stand
in its query too, where it wins. Go has no settings for MongoDB but the URL, whose database it ignores (protocol §6.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from pymongo import uri_parser
from pymongo.errors import PyMongoError

from machinery.abc import Config, Section, parse_section, parse_url
from machinery.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from machinery.abc import ServiceUrl

DEFAULT_DATABASE = "machinery"
"""Go's, whatever the URL says."""
_LONGEST_NAME = 63
"""Bytes that the name of a database may have."""
_NO_NAME = re.compile(r'[/\\. "$\0]')
_OF_SRV_ALONE = frozenset({"srvservicename", "srvmaxhosts"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MongoOptions:
    """The ``mongodb`` section. Spans are seconds in files and URLs; 0 means no limit."""

    database: str = ""
    """The database; left out: the URL's, and where that names none, Go's ``machinery``."""
    ignore_url_database: bool = False
    """Use ``machinery`` whatever the URL says, as Go does; what the URL says is then only where its user is known."""
    connect_timeout: timedelta | None = None
    """How long to try to make one connection; left out: `Config.connect_timeout`."""
    answer_timeout: timedelta = timedelta(seconds=15)
    """How long one call may take in all, finding a server included: a set may need most of it to choose a new primary."""

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        if self.database:
            _check_name(self.database)


MONGODB_SECTION = Section(
    name="mongodb",
    environment={
        "MONGODB_DATABASE": "database",
        "MONGODB_IGNORE_URL_DATABASE": "ignore_url_database",
        "MONGODB_CONNECT_TIMEOUT": "connect_timeout",
        "MONGODB_ANSWER_TIMEOUT": "answer_timeout",
    },
    options=MongoOptions,
)


def to_options(config: Config, changes: Mapping[str, Any], origin: str = "") -> MongoOptions:
    """The options that the section of ``config`` and ``changes`` to it make. Raises `ConfigError`; ``origin``: of the changes."""
    section = {**config.sections.get(MONGODB_SECTION.name, {})}
    options = parse_section(MONGODB_SECTION, config, MongoOptions)
    if not changes:
        return options
    changed = Config(sections={MONGODB_SECTION.name: {**section, **changes}}, origin=origin or config.origin)
    return parse_section(MONGODB_SECTION, changed, MongoOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Which MongoDB a URL means, and how to reach it."""

    url: str = field(repr=False)
    """The URL without what is ours."""
    settings: Mapping[str, Any] = field(repr=False)
    """What the driver is told besides, where the URL does not say it."""
    database: str
    answer_timeout: timedelta | None
    """How long a call may take; ``None``: as long as the URL lets it."""
    address: str
    """The URL without secrets."""


def to_service(url: str, config: Config) -> Service:
    """The service that ``url`` and the section of ``config`` describe. Asks nobody. Raises `ConfigError`."""
    parsed = parse_url(url)
    ours, theirs = _sorted_out(url.strip())
    options = to_options(config, ours, f"the URL {parsed.redacted}" if ours else "")
    if parsed.scheme.endswith("+srv") and (len(parsed.hosts) != 1 or parsed.hosts[0][1] is not None):
        raise ConfigError(
            f"the URL {parsed.redacted} asks DNS for hosts and ports: it has to have one name, and no port"
        )
    if not parsed.hosts:
        raise ConfigError(f"the URL {parsed.redacted} names no host; it would be mongodb://localhost:27017")
    found = _parsed_by_driver(theirs, parsed)
    given = {name.lower() for name in found["options"]}
    if found["options"].get("w") == 0:
        raise ConfigError(f"the URL {parsed.redacted} says w=0, so that nobody would know what is stored; leave w out")
    settings: dict[str, Any] = {}
    limits = {"connecttimeoutms": options.connect_timeout, "serverselectiontimeoutms": options.answer_timeout}
    if options.connect_timeout is None:
        limits["connecttimeoutms"] = config.connect_timeout
    for name, limit in limits.items():
        if limit and name not in given:
            settings[name] = _to_milliseconds(limit)
    defaults = {"w": "majority", "journal": True, "appname": "machinery"}
    synonyms = {"journal": {"j"}}
    settings |= {
        name: value for name, value in defaults.items() if given.isdisjoint({name, *synonyms.get(name, set())})
    }
    return Service(
        url=theirs,
        settings=settings,
        database=database_of(options, found["database"], parsed.redacted),
        answer_timeout=None if given & {"timeoutms", "sockettimeoutms"} else options.answer_timeout or None,
        address=parsed.redacted,
    )


def database_of(options: MongoOptions, in_url: str | None, address: str) -> str:
    """The database's name: the section's, the URL's or Go's. Raises `ConfigError` for one that MongoDB would not take."""
    named = options.database or ("" if options.ignore_url_database else in_url or "") or DEFAULT_DATABASE
    try:
        _check_name(named)
    except ValueError as error:
        raise ConfigError(f"the URL {address}: {error}") from None
    return named


def _check_name(name: str) -> None:
    if _NO_NAME.search(name) or len(name.encode()) > _LONGEST_NAME:
        raise ValueError(
            f'database is {name!r}; it must have no more than {_LONGEST_NAME} bytes and none of / \\ . " $ or blanks'
        )


def _sorted_out(url: str) -> tuple[dict[str, str], str]:
    """Our parameters of the URL's query, and the URL without them, which always has the slash that older drivers ask for."""
    rest, _, query = url.partition("?")
    known = MONGODB_SECTION.known_keys()
    ours: dict[str, str] = {}
    theirs: list[str] = []
    for parameter in filter(None, query.replace(";", "&").split("&")):
        name, _, value = parameter.partition("=")
        if name in known:
            ours[name] = unquote_plus(value)
        else:
            theirs.append(parameter)
    scheme, _, place = rest.partition("://")
    rest = f"{scheme.lower()}://{place}" if "/" in place else f"{scheme.lower()}://{place}/"
    return ours, f"{rest}?{'&'.join(theirs)}" if theirs else rest


def _parsed_by_driver(url: str, parsed: ServiceUrl) -> Mapping[str, Any]:
    """What pymongo reads in the URL. One with ``+srv`` is read as if its name were a host: who is behind it is asked later."""
    scheme, _, rest = url.partition("://")
    if scheme.endswith("+srv"):
        rest, _, query = rest.partition("?")
        kept = [each for each in query.split("&") if each.partition("=")[0].lower() not in _OF_SRV_ALONE]
        url = f"mongodb://{rest}?{'&'.join(kept)}" if any(kept) else f"mongodb://{rest}"
    try:
        return uri_parser.parse_uri(url, validate=True, warn=False)
    except (PyMongoError, ValueError, TypeError, OSError) as error:  # OSError: a file for TLS that cannot be read
        text = str(error)
        for secret in (parsed.password, parsed.user):
            text = text.replace(secret, "***") if secret else text
        raise ConfigError(f"the URL {parsed.redacted} is not one that MongoDB takes: {text}") from None


def _to_milliseconds(span: timedelta) -> int:
    return max(1, round(span.total_seconds() * 1000))
