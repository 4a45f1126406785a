"""How DynamoDB is configured: the ``dynamodb`` section under Go's names, and the URL.

Go's names and variables: protocol §9. Any key of the section may also stand in a URL's query (``?read_timeout=3``), where it wins
over the section. Credentials stand in neither: boto3 finds them where AWS's own tools look.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from machinery.abc import Config, Section, ServiceUrl, parse_section, parse_url, redact_url
from machinery.errors import ConfigError
from machinery_backend_dynamodb._driver import configured_region

if TYPE_CHECKING:
    from collections.abc import Mapping

_TABLE_NAME = re.compile(r"[a-zA-Z0-9_.-]{3,255}")
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_HOST_OF_REGION = re.compile(rf"dynamodb\.({_REGION.pattern})\.amazonaws\.com(?:\.cn)?")
_ENDPOINT = re.compile(r"https?://[^/?#@\s]+/?")
_FORMS = "dynamodb://eu-west-1, dynamodb://localhost:8000 or https://dynamodb.eu-west-1.amazonaws.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamodbOptions:
    """The ``dynamodb`` section. Spans are seconds in files and URLs."""

    task_states_table: str = "task_states"
    """The table of the tasks' records; the same for all who share them, Go programs too."""
    group_metas_table: str = "group_metas"
    """The table of the groups; likewise."""
    region: str = ""
    """AWS's region, such as ``eu-west-1``; empty: the URL's, else ``AWS_REGION``, else what boto3 is configured with."""
    endpoint_url: str = ""
    """Where to reach DynamoDB instead of AWS's own address of the region: DynamoDB Local, a VPC endpoint."""
    connect_timeout: timedelta | None = None
    """How long to try to connect; left out: `Config.connect_timeout`."""
    read_timeout: timedelta | None = None
    """How long to wait for an answer, and to go on asking a DynamoDB that is throttled; left out: as long as to connect."""
    max_connections: int = 10
    """How many requests of batches are under way at once; a single record is asked for at once, by the thread that wants it."""

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        for name in ("task_states_table", "group_metas_table"):
            if not _TABLE_NAME.fullmatch(getattr(self, name)):
                raise ValueError(
                    f"{name} must be 3 to 255 letters, digits, '_', '-' or '.', not {getattr(self, name)!r}"
                )
        if self.task_states_table == self.group_metas_table:
            raise ValueError(
                f"task_states_table and group_metas_table must differ; both are {self.task_states_table!r}"
            )
        if self.region and not _NAME.fullmatch(self.region):
            raise ValueError(f"region must be a region's name, such as eu-west-1, not {self.region!r}")
        if self.endpoint_url and not _ENDPOINT.fullmatch(self.endpoint_url):
            raise ValueError(
                f"endpoint_url must be http://host:port or https://host:port, not {redact_url(self.endpoint_url)!r}"
            )
        for name in ("connect_timeout", "read_timeout"):
            span = getattr(self, name)
            if span is not None and span <= timedelta(0):
                raise ValueError(f"{name} must be longer than 0 seconds")
        if self.max_connections < 1:
            raise ValueError("max_connections must be at least 1")


DYNAMODB_SECTION = Section(
    name="dynamodb",
    environment={
        "TASK_STATES_TABLE": "task_states_table",
        "GROUP_METAS_TABLE": "group_metas_table",
        "DYNAMODB_REGION": "region",
        "DYNAMODB_ENDPOINT_URL": "endpoint_url",
        "DYNAMODB_CONNECT_TIMEOUT": "connect_timeout",
        "DYNAMODB_READ_TIMEOUT": "read_timeout",
        "DYNAMODB_MAX_CONNECTIONS": "max_connections",
    },
    options=DynamodbOptions,
)


def to_options(config: Config, changes: Mapping[str, Any], origin: str = "") -> DynamodbOptions:
    """The options that the section of ``config`` and ``changes`` to it make. Raises `ConfigError`; ``origin``: of the changes."""
    section = {**config.sections.get(DYNAMODB_SECTION.name, {})}
    parse_section(DYNAMODB_SECTION, config, DynamodbOptions)  # so that what is wrong with the section names the section
    changed = Config(sections={DYNAMODB_SECTION.name: {**section, **changes}}, origin=origin or config.origin)
    return parse_section(DYNAMODB_SECTION, changed, DynamodbOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Which DynamoDB a URL means, and how to reach it."""

    options: DynamodbOptions = field(default_factory=DynamodbOptions)
    """With the region and the endpoint that hold in the end; an empty endpoint: AWS's own of the region, or boto3's setting."""
    connect_timeout: timedelta = timedelta(seconds=5)
    read_timeout: timedelta = timedelta(seconds=5)

    @property
    def address(self) -> str:
        """Where it is, for logs and errors."""
        return self.options.endpoint_url or self.options.region


def to_service(url: str, config: Config) -> Service:
    """The service that ``url`` and the section of ``config`` describe. Raises `ConfigError`."""
    parsed = parse_url(url)
    options = to_options(config, parsed.query, f"the URL {parsed.redacted}" if parsed.query else "")
    region, endpoint = _place(parsed)
    region = region or options.region or os.environ.get("AWS_REGION", "") or configured_region()
    try:
        options = replace(options, region=region, endpoint_url=(endpoint or options.endpoint_url).rstrip("/"))
    except ValueError as error:
        raise ConfigError(f"the URL {parsed.redacted}: section dynamodb: {error}") from None
    if not options.region:
        raise ConfigError(
            f"the URL {parsed.redacted} names no region; write it there ({_FORMS.partition(',')[0]}), or set dynamodb.region "
            "(DYNAMODB_REGION), AWS_REGION or AWS_DEFAULT_REGION. DynamoDB Local takes any"
        )
    connect, read = to_timeouts(options, config)
    return Service(options=options, connect_timeout=connect, read_timeout=read)


def to_timeouts(options: DynamodbOptions, config: Config) -> tuple[timedelta, timedelta]:
    """How long to try to connect, and to wait for an answer."""
    connect = config.connect_timeout if options.connect_timeout is None else options.connect_timeout
    return connect, connect if options.read_timeout is None else options.read_timeout


def _place(parsed: ServiceUrl) -> tuple[str, str]:
    """The region and the endpoint that a URL says; empty: it does not."""
    if parsed.user is not None:
        raise ConfigError(
            f"the URL {parsed.redacted} has a user name, and AWS's credentials are no part of it; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or any other place that boto3 looks in"
        )
    if parsed.path.strip("/") or len(parsed.hosts) > 1:
        raise ConfigError(f"the URL {parsed.redacted} is none of DynamoDB's; it would be {_FORMS}")
    if not parsed.hosts:
        return "", ""
    ((host, port),) = parsed.hosts
    if parsed.scheme in {"http", "https"}:
        if (found := _HOST_OF_REGION.fullmatch(host.lower())) and port is None:
            return found[1], ""
        within = next(filter(_REGION.fullmatch, host.lower().split(".")[1:]), "")
        return within, f"{parsed.scheme}://{_authority(host, port)}"
    if port is not None:
        return "", f"http://{_authority(host, port)}"
    if _REGION.fullmatch(host.lower()):
        return host.lower(), ""
    raise ConfigError(
        f"the URL {parsed.redacted} names neither a region nor a host with its port; it would be {_FORMS}"
    )


def _authority(host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"
